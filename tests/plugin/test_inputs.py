"""Files behind options: what counts is their content, wherever they lie and whatever they are called."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import Field

from harness.errors import DataError
from harness.options import Options, as_json, input_field, transport_field
from harness.plugin.inputs import CONTENT, contents, path_contents, replaced


class Reads(Options):
    one: Path | None = None
    """A path."""
    several: list[Path] = Field(default_factory=list)
    """Paths."""
    named: dict[str, Path] = Field(default_factory=dict)
    """Paths by name."""
    origin: str = input_field("bulk", words=("bulk", "api"))
    """A word, or a path."""
    cache: Path | None = transport_field(None)
    """A path that changes no result."""
    plain: str = ""
    """No path."""


def test_paths_are_replaced_by_their_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, a, b = tmp_path / "folder", tmp_path / "a.csv", tmp_path / "b.csv"
    folder.mkdir()
    for path in (folder / "x", a, b):
        path.write_text("1")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bulk").write_text("a file that is called so")

    def found() -> dict[str, object]:
        return contents(Reads, as_json(Reads(one=folder, several=[a, tmp_path / "absent"], named={"n": b}, cache=a, plain=str(a))))

    before = found()
    assert set(before) == {"one", "several", "named"}
    assert str(before["one"]).startswith(CONTENT)
    assert before["several"] == [before["named"]["n"], str(tmp_path / "absent")]  # type: ignore[index]  # the same content
    assert contents(Reads, as_json(Reads(origin="./bulk"))).keys() == {"origin"}
    for path in (folder / "x", a, b):
        path.write_text("2")
    assert all(value != before[name] for name, value in found().items())


def test_a_copy_has_the_content_of_its_original(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = tmp_path / "there"
    there.mkdir()
    (tmp_path / "labels.jsonl").write_text("{}")
    for name in ("copy.jsonl", "copy.csv"):
        (there / name).write_text("{}")
    monkeypatch.chdir(tmp_path)
    paths = (tmp_path / "labels.jsonl", Path("labels.jsonl"), Path("there/../labels.jsonl"), there / "copy.jsonl", there / "copy.csv")
    found = [contents(Reads, as_json(Reads(one=path)))["one"] for path in paths]
    assert len(set(found[:4])) == 1
    assert found[4] != found[0]  # read as another format


def test_keys_have_the_content_of_paths(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    paths = path_contents(Reads, as_json(Reads(one=tmp_path / "a")))
    key = {"kind": "mine", "from": [str(tmp_path / "a")], "other": "a"}
    assert replaced(key, paths) == {"kind": "mine", "from": list(paths.values()), "other": "a"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    (tmp_path / "a").chmod(0)
    with pytest.raises(DataError) as caught:
        contents(Reads, as_json(Reads(one=tmp_path / "a")))
    assert caught.value.given == tmp_path / "a"
