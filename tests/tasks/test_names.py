"""Names and paths of a task file: none leaves the folder of a run, none stops the program with a foreign error."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest

from harness.errors import HarnessError, TaskError
from harness.files import hashing
from harness.tasks.find import hub_file, load_task

TASK = 'schema = 2\nversion = 1\nsummary = "s"\nname = {name}\n[model]\nname = "m"\n{more}'


def write(folder: Path, name: str = '"t"', more: str = "") -> Path:
    (folder / "task.toml").write_text(TASK.format(name=name, more=more), encoding="utf-8")
    return folder


@pytest.mark.parametrize("name", ['"../../x"', '"/etc/x"', '"a/b"', '"a\\\\b"', '".."', '""', '"a\\u0000"', '"con"', f'"{"x" * 300}"', '"a\\nb"'])
@pytest.mark.parametrize("place", ["task", "dictionary", "train"])
def test_names_that_become_paths_are_refused(tmp_path: Path, name: str, place: str) -> None:
    more = {"dictionary": f'[[dictionaries]]\nname = {name}\nsource = "s"\nlayer = 1\n', "train": f"[[train]]\nname = {name}\nlayer = 1\n"}
    with pytest.raises(TaskError) as caught:
        load_task(write(tmp_path, name if place == "task" else '"t"', more.get(place, "")))
    assert "name" in caught.value.message
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("path", ["../other/c.jsonl", "~/c.jsonl", "/data/c.jsonl", "hub:owner/name/c.json", "hf:/folder"])
def test_files_that_a_task_refers_to_may_lie_anywhere(tmp_path: Path, path: str) -> None:
    assert load_task(write(tmp_path, more=f'[corpus]\nsource = "{path}"\n')).file.corpus.source == path


@pytest.mark.parametrize("path", ["", " ", "a\\u0000", "x" * 300, "a\\nb"])
def test_texts_that_are_no_path_are_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(TaskError):
        load_task(write(tmp_path, more=f'[corpus]\nsource = "{path}"\n'))


@pytest.mark.parametrize("value", ["1979-05-27", "nan", "inf", "[" * 150 + "]" * 150])
def test_options_are_what_json_can_hold(tmp_path: Path, value: str) -> None:
    with pytest.raises(TaskError):
        load_task(write(tmp_path, more=f"[labelers.calibf1]\npi0 = {value}\n"))


TABLES = {
    "corpus": '[corpus]\nsource = "{}"\n',
    "concepts": '[concepts]\nmode = "fixed"\nfile = "{}"\n',
    "instructions": '[instructions]\nsource = "{}"\n',
}


@pytest.mark.parametrize("table", TABLES)
def test_what_is_no_file_is_never_waited_for(tmp_path: Path, table: str, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    (tmp_path / "loop").symlink_to("loop")
    for source in ("pipe", "/dev/zero"):
        assert load_task(write(tmp_path, more=TABLES[table].format(source))).digest(), "reading the file says what is wrong with it"
    with contextlib.suppress(TaskError):  # some versions of Python follow such a link, and find nothing
        load_task(write(tmp_path, more=TABLES[table].format("loop"))).digest()
    monkeypatch.setattr(hashing, "MOST_FILES", 0)  # a folder that was named by mistake may be a whole disk
    task = load_task(write(tmp_path, more=TABLES[table].format("folder")))
    if table != "corpus":
        assert task.digest(), "a folder in the place of a file is refused where it is read, and not digested"
        return
    with pytest.raises(HarnessError) as caught:
        task.digest()
    assert caught.value.given
    assert caught.value.hint


@pytest.mark.parametrize("source", ["hub:", "hub:x", "hub:a/b", "hub:a/b/../c", "hub:a/b//c"])
def test_a_source_on_the_hub_names_a_file(source: str) -> None:
    from harness.errors import DataError

    with pytest.raises(DataError) as caught:
        hub_file(source)
    assert caught.value.given == source
