"""Plugins in a single file: what is found in it, how it is known, and how it is said where it breaks."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.errors import PluginError
from harness.plugin.files import PluginFileError
from harness.plugin.host import PluginHost
from harness.plugin.registry import NameTaken

METHOD = """from __future__ import annotations

import harness
from harness.contracts import SteererTraits
from harness.interventions import Intervention
from harness.options import Options


class MyOptions(Options):
    size: float = 1.0
    \"\"\"How large it is.\"\"\"


class MyMethod:
    traits = SteererTraits(unit="residual-norm", grid=(0.1, 0.2), neutral=0.0)

    def __init__(self, options: MyOptions) -> None:
        self.options = options

    def prepare(self, bench, labelings):
        pass

    def intervene(self, labeling, strength):
        return Intervention()


@harness.hookimpl
def harness_register_steerers(registry):
    registry.add("my-method", MyMethod, options=MyOptions, summary="does nothing")
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "my_method.py"
    path.write_text(METHOD, encoding="utf-8")
    return path


def loaded(*paths: Path | str) -> Any:
    return PluginHost.load(paths).get("steerer", "my-method")


def test_a_file_is_a_plugin_known_by_its_content(file: Path) -> None:
    found = loaded(file)
    sha = hashlib.sha256(file.read_bytes()).hexdigest()
    assert (found.distribution, found.version, found.code, found.source) == ("my_method.py", f"sha256:{sha}", sha[:16], str(file))
    assert found.create({"size": "3"}).options.size == 3
    assert found.options.model_fields["size"].description == "How large it is."
    assert not (file.parent / "__pycache__").exists()


def test_an_edited_file_is_another_plugin_in_the_same_process(file: Path) -> None:
    before = loaded(file)
    file.write_text(METHOD.replace("How large", "How big").replace("size: float = 1.0", "size: float = 2.0"), encoding="utf-8")
    after = loaded(file)
    assert before.code != after.code
    assert (before.create().options.size, after.create().options.size) == (1.0, 2.0)
    assert after.options.model_fields["size"].description == "How big it is."


def test_the_place_of_a_file_is_no_part_of_what_it_is(file: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    moved = tmp_path / "elsewhere" / file.name
    moved.write_bytes(file.read_bytes())
    assert (loaded(file).code, loaded(file).version) == (loaded(moved).code, loaded(moved).version)


def test_one_file_by_two_paths_is_read_once(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(file.parent)
    (file.parent / "link.py").symlink_to(file)
    host = PluginHost.load([file, "my_method.py", "./my_method.py", "link.py"])
    assert [one.path for one in host.files] == [file]


def test_a_class_of_a_library_that_the_file_registers_counts_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library, file = tmp_path / "site" / "some_library_of_methods.py", tmp_path / "mine.py"
    library.parent.mkdir()
    library.write_text(METHOD.partition("@harness")[0], encoding="utf-8")
    hook = METHOD[METHOD.index("@harness") :]
    file.write_text(f"import harness\nfrom some_library_of_methods import MyMethod, MyOptions\n\n\n{hook}", encoding="utf-8")
    monkeypatch.syspath_prepend(str(library.parent))
    found = loaded(file)
    assert len(found.code) == 16
    assert found.code != hashlib.sha256(file.read_bytes()).hexdigest()[:16]


@pytest.mark.parametrize(
    ("source", "line", "named"),
    [
        ("x = 1\ndef f(:\n", 2, "invalid syntax"),
        ("x = 1\n\nimport no_such_library_xyz\n", 3, "no_such_library_xyz"),
        ("def f():\n    return 1 / 0\n\n\nf()\n", 2, "ZeroDivisionError"),
        ("raise SystemExit(3)\n", 1, "SystemExit"),
        ("x = 1\ny = 2\n", 2, "no hook"),
        (METHOD.replace("@harness.hookimpl\n", ""), METHOD[: METHOD.index("@harness")].count("\n") + 1, "not marked"),
        (METHOD.replace("steerers(registry", "steerer(registry"), METHOD[: METHOD.index("@harness")].count("\n") + 1, "harness_register_steerers"),
        (METHOD.replace("steerers(registry", "steerers(reg"), METHOD[: METHOD.index("@harness")].count("\n") + 1, "reg"),
        (METHOD.replace('"my-method"', '"My Method"'), METHOD.count("\n"), "My Method"),
        ("def f():\n    import beside\n", 2, "beside"),
        ("import folder_beside.part\n", 1, "folder_beside"),
        ("from . import beside\n", 1, "relative"),
        ("x = '\0'\n", None, "null bytes"),
    ],
    ids=["syntax", "import", "error", "exit", "no hook", "no mark", "misspelt", "argument", "name", "neighbour", "folder", "relative", "NUL"],
)
def test_what_is_wrong_is_said_with_file_and_line(tmp_path: Path, source: str, line: int | None, named: str) -> None:
    (tmp_path / "beside.py").write_text("x = 1\n")
    (tmp_path / "folder_beside").mkdir()
    path = tmp_path / "mine.py"
    path.write_text(source, encoding="utf-8")
    before = set(sys.modules)
    with pytest.raises(PluginFileError) as error:
        PluginHost.load([path])
    assert (error.value.path, error.value.line) == (path, line)
    assert named in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    if "no_such_library" in source:
        assert not [name for name in set(sys.modules) - before if name.startswith("plugin_file_")]


def test_a_neighbour_on_pythons_path_is_refused_and_an_installed_library_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "a_neighbour.py").write_text("x = 1\n")
    (tmp_path / "numpy").mkdir()
    path = tmp_path / "mine.py"
    path.write_text(METHOD.replace("import harness\n", "import harness\nimport numpy\n", 1), encoding="utf-8")
    assert loaded(path).name == "my-method"
    path.write_text(f"import a_neighbour\n{METHOD}", encoding="utf-8")
    with pytest.raises(PluginFileError) as error:
        loaded(path)
    assert error.value.line == 1


def test_a_class_without_its_hook_is_told_how_it_is_registered(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(METHOD.partition("@harness")[0], encoding="utf-8")
    with pytest.raises(PluginFileError) as error:
        loaded(path)
    assert "MyMethod" in error.value.hint
    assert "harness_register_steerers" in error.value.hint


def test_two_plugins_of_one_name_are_an_error(file: Path) -> None:
    other = file.with_name("other.py")
    other.write_bytes(file.read_bytes())
    with pytest.raises(PluginFileError) as error:
        PluginHost.load([other, file])
    assert isinstance(error.value.__cause__, NameTaken)
    assert error.value.given == "my-method"
    taken = file.with_name("taken.py")
    taken.write_text(METHOD.replace('"my-method"', '"sae-clamp"'), encoding="utf-8")
    with pytest.raises(PluginFileError) as error:
        PluginHost.load([taken])
    assert error.value.given == "sae-clamp"


def test_what_is_no_python_file_is_refused(file: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    os.mkfifo(tmp_path / "pipe.py")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / file.name).write_bytes(file.read_bytes())
    for paths in (["absent.py"], ["notes.txt"], ["pipe.py"], ["folder"], ["folder/my_method.py", "my_method.py"]):
        with pytest.raises(PluginError) as error:
            PluginHost.load([tmp_path / path for path in paths])
        assert error.value.given == (tmp_path / paths[-1])
        assert error.value.hint
