"""docs/write-a-plugin.md, gone through from the top as a reader would, on the contract kit's task: its commands, and its changes of the file."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from test_docs import FENCE, ROOT, pip_install, written_task

from harness.store import list_runs

PAGE = ROOT / "docs" / "write-a-plugin.md"
METHOD = "my_method.py"


class Reader:
    """Does what the page says, in a folder of its own."""

    def __init__(self, harness: Callable[..., Any], folder: Path) -> None:
        self.harness, self.folder, self.sites = harness, folder, tuple[Path, ...]()
        self.done: list[str] = []
        self.toy = written_task(folder / "toy")
        with (self.toy / "task.toml").open("a", encoding="utf-8") as file:
            file.writelines(f'\n[[controls]]\nsteerer = "{name}"\n' for name in ("diff-mean", "prompt", "none"))

    def follow(self) -> None:
        """Go through the page's blocks."""
        for language, body in FENCE.findall(PAGE.read_text(encoding="utf-8")):
            if language == "bash":
                for line in body.splitlines():
                    self.run(shlex.split(line))
            else:
                self.edit(body)

    def run(self, words: list[str]) -> None:
        """Run one command line."""
        self.done.append(" ".join(words))
        if words[0] == "harness":
            self.call(words[1:])
        elif words[0] == "cp":
            shutil.copy(*words[1:])
        elif words[:5] == ["python", "-m", "pip", "install", "-e"]:
            self.sites = (pip_install(Path(words[5]).resolve(), self.folder / "site"),)
        elif words[:3] == ["python", "-m", "pytest"]:
            target = Path(words[3])
            run_tests(target if target.is_file() else target / "tests" / "test_contract.py", self.folder / "toy-of-tests", self.sites)
        else:
            raise AssertionError(f"the page has a command that this test does not know: {words}")

    def call(self, words: list[str]) -> None:
        """Run one command of harness, with the small task and its judge in the place of the demo's."""
        if words[:2] == ["models", "fetch"] or "gpt-4o" in words:
            return  # they need a network
        stand_ins = {"cooking": "music", "RUN": self.newest() if "RUN" in words else "", "path/to/clone/leaderboard": str(self.folder / "board")}
        words = [stand_ins.get(word, word) for word in words]
        if words[0] in ("eval", "steer"):
            words += ["--task", str(self.toy)]
        found = self.harness(*words, sites=self.sites)
        if words[:2] == ["leaderboard", "add"]:  # three concepts are too few for a board
            assert "concepts" in found.out + found.error
            return
        assert found.code == 0, f"{words}\n{found.out}\n{found.err}"
        assert found.out.strip()

    def newest(self) -> str:
        runs = list_runs(Path("runs"))
        return max(runs, key=lambda run: run.folder.stat().st_mtime).id

    def edit(self, body: str) -> None:
        """Put a block of Python where its first line says."""
        where, _, rest = body.partition("\n")
        self.done.append(where)
        if ": in " in where:
            path = Path(METHOD)
            name = where.rpartition(" ")[2]
            path.write_text(replaced(path.read_text(encoding="utf-8"), name, rest), encoding="utf-8")
        elif "test_contract.py" in where:
            path = Path(where.removeprefix("# ").partition(":")[0])
            source = path.read_text(encoding="utf-8")
            assert source.count('@pytest.mark.parametrize("options"') == 1
            path.write_text(re.sub(r'@pytest\.mark\.parametrize\("options".*\n', rest, source), encoding="utf-8")
        else:
            Path(where.removeprefix("# ")).write_text(body, encoding="utf-8")


def replaced(source: str, owner: str, body: str) -> str:
    """A module's source with a method of a class, or all fields of a class of options, replaced by ``body``."""
    lines = source.splitlines(keepends=True)
    (found,) = [node for node in ast.parse(source).body if isinstance(node, ast.ClassDef) and node.name == owner]
    made = ast.parse(f"class X:\n{body}").body[0]
    assert isinstance(made, ast.ClassDef)
    if isinstance(made.body[0], ast.FunctionDef):
        (old,) = [node for node in found.body if isinstance(node, ast.FunctionDef) and node.name == made.body[0].name]
        start, end = old.lineno - 1, old.end_lineno
    else:
        start, end = found.body[1].lineno - 1, found.end_lineno
    text = "".join([*lines[:start], body, *lines[end:]])
    needs_import = "Field(" in text and "import Field" not in text
    return text.replace("from harness import", "from pydantic import Field\nfrom harness import", 1) if needs_import else text


def run_tests(path: Path, toy: Path, sites: tuple[Path, ...]) -> None:
    """Call the tests of a file, each with one folder, so that the toy task is made once."""
    with pytest.MonkeyPatch.context() as patch:
        for site in sites:
            patch.syspath_prepend(str(site))
        spec = importlib.util.spec_from_file_location(f"of_the_reader_{path.stem}", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        tests = [value for name, value in vars(module).items() if name.startswith("test_")]
        assert tests
        for test in tests:
            for options in [mark.args[1] for mark in getattr(test, "pytestmark", ())] or [[None]]:
                for value in options:
                    test(toy, *([] if value is None else [value]))


@pytest.fixture(scope="module")
def reader(harness: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    folder = tmp_path_factory.mktemp("reader")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        found = Reader(harness, folder)
        found.follow()
        yield found


def test_every_step_of_the_page_works(reader: Reader) -> None:
    commands = ("plugins new", "steer ", "eval ", "leaderboard add", "pip install -e", "python -m pytest")
    for word in (*commands, "in MyMethodSteerer", "in MyMethodOptions"):
        assert any(word in step for step in reader.done), word


def test_the_readers_method_is_in_an_entry_with_its_option(reader: Reader) -> None:
    entries = [json.loads(path.read_text(encoding="utf-8")) for path in (reader.folder / "leaderboard" / "entries").glob("*.json")]
    packaged = [entry for entry in entries if entry["plugins"].get("my-method") == "0.1.0"]
    assert len(packaged) == 1
    rows = {row["subject"]["steerer"]: row for row in packaged[0]["rows"]}
    assert rows["my-method"]["subject"]["steerer_options"]["given"] == {"axes": 4}
    assert {"sae-clamp", "diff-mean", "prompt"} <= set(rows)
    assert any(METHOD in entry["plugins"] for entry in entries)
