"""``harness plugins new``: what it writes is installed, found, tested and run here, so templates and contracts stay in step."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomli
from packaging.utils import canonicalize_name, is_normalized_name

from harness.errors import OptionError, UnknownNameError
from harness.plugin.host import PluginHost
from harness.plugin.new import check_name, kind_called, module_of, package_files, suggested, write_file, write_package
from harness.plugin.registry import KINDS, Kind
from harness.testing import check_plugin, toy_task

NAMES = {kind: f"my-own-{kind}" for kind in KINDS}


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package of each kind."""
    folder = tmp_path_factory.mktemp("packages")
    for kind, name in NAMES.items():
        write_package(kind, name, folder / name)
    return folder


@pytest.fixture(scope="module")
def site(packages: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like site-packages, into which pip has installed them."""
    target = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target", str(target)]
    answer = subprocess.run([*command, *(str(packages / name) for name in NAMES.values())], capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    return target


def test_the_packages_are_what_they_should_be(packages: Path) -> None:
    for kind, name in NAMES.items():
        folder, module = packages / name, module_of(name)
        assert {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file() and "build" not in path.parts} >= {
            f"{module}.py", "pyproject.toml", "README.md", "tests/test_contract.py", ".gitignore",
        }  # fmt: skip
        project = tomli.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        assert (project["name"], project["entry-points"]["harness"]) == (name, {name: module})
        assert "license" not in project  # it is the author's to choose
        for path in folder.rglob("*.*"):
            if path.suffix in (".py", ".toml", ".md"):
                text = path.read_text(encoding="utf-8")
                assert "{{" not in text, path
                compile(text, str(path), "exec") if path.suffix == ".py" else None
        assert kind in (folder / "README.md").read_text(encoding="utf-8")


def test_they_are_installed_shown_and_run(harness: Callable[..., Any], site: Path, tmp_path: Path) -> None:
    listed = {row["name"]: row for row in harness("plugins", "--json", sites=(site,)).json["plugins"]}
    for kind, name in NAMES.items():
        assert (listed[name]["kind"], listed[name]["distribution"], listed[name]["version"]) == (kind, name, "0.1.0")
        assert listed[name]["options"]
        assert all(option["description"] for option in listed[name]["options"])
        assert harness("plugins", "show", name, sites=(site,)).code == 0
    asked = [word for kind, name in NAMES.items() for word in (f"--{kind}", name)]
    there = ("--task", toy_task(tmp_path / "toy"), "--out", tmp_path, "--steerer", "sae-clamp", "--strengths", "sae-clamp=0.5")
    entry = harness("eval", *asked, *there, "--limit", "2", "--json", sites=(site,)).json
    assert {row["kind"] for row in entry["rows"]} == {"steering", "detection", "dictionary"}
    assert dict.fromkeys(NAMES.values(), "0.1.0").items() <= entry["plugins"].items()
    assert entry["judge"]["name"] == NAMES["judge"]
    assert all(row["metrics"][row["primary"]]["value"] is not None for row in entry["rows"] if row["role"] == "method")


@pytest.mark.parametrize("kind", KINDS)
def test_their_own_tests_pass(
    kind: Kind, packages: Path, site: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each test is called with one folder, so that the toy task is made once."""
    monkeypatch.syspath_prepend(str(site))
    path = packages / NAMES[kind] / "tests" / "test_contract.py"
    spec = importlib.util.spec_from_file_location(f"test_contract_of_{kind}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    toy = tmp_path_factory.getbasetemp() / "toy-of-packages"
    module.test_it_keeps_its_contract(toy)
    (mark,) = module.test_it_keeps_it_with_other_options.pytestmark
    for options in mark.args[1]:
        assert options != type(options)()
        module.test_it_keeps_it_with_other_options(toy, options)


def test_the_linter_has_nothing_to_say(packages: Path) -> None:
    for name in NAMES.values():
        linted = subprocess.run([sys.executable, "-m", "ruff", "check", "--no-cache", "."], cwd=packages / name, capture_output=True, text=True)
        if "No module named ruff" in linted.stderr:
            pytest.skip("ruff is not installed here")
        assert linted.returncode == 0, linted.stdout


@pytest.mark.parametrize("kind", KINDS)
def test_a_single_file_is_a_plugin(kind: Any, tmp_path: Path) -> None:
    path = write_file(kind, "my-method", tmp_path / "my_method.py")
    (found,) = check_plugin(path)
    assert (found.kind, found.name) == (kind, "my-method")
    with pytest.raises(OptionError) as error:
        write_file(kind, "my-method", path)
    assert error.value.given == path


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("My Method", "my-method"), ("MyMethod", "my-method"), ("my_method!", "my-method"), ("2fast", "my-2fast"), ("-x", "x"), ("x-", "x"),
        ("a--b", "a-b"), ("", ""), ("ä", ""), ("a/b", "a-b"), ("a:b", "a-b"), ("../x", "x"),
    ],
)  # fmt: skip
def test_a_name_that_cannot_be_is_refused_with_the_nearest_that_can(name: str, near: str) -> None:
    host = PluginHost()
    with pytest.raises(OptionError) as error:
        check_name(name, host)
    assert error.value.given == name
    assert suggested(name) == near
    assert near in error.value.hint
    if near:
        check_name(near, host)


@pytest.mark.parametrize("name", ["sae-clamp", "calibf1", "numpy", "json", "class", "harness", "tests", "match", "harness-plugins", "sae-harness"])
def test_a_name_that_is_taken_is_refused(name: str) -> None:
    host = PluginHost.load()
    with pytest.raises(OptionError) as error:
        check_name(name, host)
    assert error.value.given == name
    assert error.value.hint


@pytest.mark.parametrize("name", ["x", "my-method", "my_method", "my.method", "m3-2", "spine"])
def test_names_that_can_be_are_those_of_distributions_and_modules(name: str) -> None:
    check_name(name, PluginHost.load())
    assert module_of(name).isidentifier()
    assert is_normalized_name(canonicalize_name(name))
    files = package_files("steerer", name)
    compile(files[f"{module_of(name)}.py"], "plugin", "exec")
    project = tomli.loads(files["pyproject.toml"])["project"]
    assert (project["name"], project["entry-points"]["harness"][name]) == (name, module_of(name))


def test_a_kind_that_does_not_exist_is_told_the_nearest() -> None:
    with pytest.raises(UnknownNameError) as error:
        kind_called("stearer")
    assert error.value.near == "steerer"


def test_the_command_writes_and_refuses(harness: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = harness("plugins", "new", "steerer", "my-method", "--json").json
    assert (tmp_path / "my-method" / "my_method.py").is_file()
    assert any("pip install -e ./my-method" in line for line in made["next"])
    assert "not empty" in harness("plugins", "new", "steerer", "my-method").error
    (tmp_path / "a-file").write_text("x")
    assert "is a file" in harness("plugins", "new", "judge", "my-judge", "--out", tmp_path / "a-file").error
    single = harness("plugins", "new", "steerer", "my-method", "--file").out
    assert "--plugin ./my_method.py" in single
    assert "is there already" in harness("plugins", "new", "steerer", "my-method", "--file").error
    assert "steerer" in harness("plugins", "new", "stearer", "x").error
    assert [path.name for path in tmp_path.iterdir() if path.name not in ("my-method", "a-file", "my_method.py")] == []
