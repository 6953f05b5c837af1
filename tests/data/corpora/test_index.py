"""The index on disk: made once, made again when it must be, whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.data import open_corpus
from harness.data.corpora.jsonl import JsonLinesReader
from harness.data.corpora.stackexchange import StackExchangeReader
from harness.errors import DataError, StoreError

ROWS = 3000


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("HARNESS_CACHE", str(folder))
    return folder


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "c.jsonl"
    found.write_text("".join(json.dumps({"id": i, "text": f"text {i}", "labels": [f"l{i % 7}"]}) + "\n" for i in range(ROWS)))
    return found


def nothing_is_read(self: Any) -> Iterator[Any]:
    raise AssertionError("the documents were read")


def test_the_second_time_no_document_is_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = open_corpus(path, text_field="text")
    wanted = (len(first), first.digest, first.n_skipped, first.labels.names, first.labels.support.tolist())
    monkeypatch.setattr(JsonLinesReader, "records", nothing_is_read)
    monkeypatch.setattr(JsonLinesReader, "check", nothing_is_read)
    second = open_corpus(path, text_field="text")
    assert (len(second), second.digest, second.n_skipped, second.labels.names, second.labels.support.tolist()) == wanted
    assert second[1234].text == "text 1234"
    assert isinstance(second._index.arrays["starts"].base, np.memmap)


def test_a_dump_opens_with_its_comments_without_reading_them_again(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = shared_data / "stackexchange" / "beer"
    document = open_corpus(folder)[500]
    monkeypatch.setattr(StackExchangeReader, "records", nothing_is_read)
    monkeypatch.setattr("harness.data.corpora.comments.rows", nothing_is_read)
    assert open_corpus(folder)[500] == document
    assert open_corpus(folder / "Posts.xml")[500] == document, "the same dump by another name"
    assert open_corpus(Path(os.path.relpath(folder)))[500] == document


@pytest.mark.parametrize("change", ["longer", "same size", "replaced", "touched"])
def test_a_changed_file_is_indexed_again(path: Path, change: str) -> None:
    before = open_corpus(path)
    assert len(before) == ROWS
    data = path.read_bytes()
    if change == "longer":
        path.write_bytes(data + b'{"id": "new", "text": "new", "labels": []}\n')
    elif change == "same size":
        path.write_bytes(data.replace(b"text 1500", b"TEXT 1500"))
        os.utime(path, ns=(0, 0))
    elif change == "replaced":
        other = path.with_name("other")
        other.write_bytes(data.replace(b'"l3"', b'"k3"'))
        os.replace(other, path)
    else:
        os.utime(path, ns=(0, 0))
    with pytest.raises(DataError) as error:
        before[0]
    assert (error.value.given, bool(error.value.hint)) == (path, True)
    after = open_corpus(path)
    assert list(after) == after[:]
    assert len(after) == ROWS + (change == "longer")
    assert ("k3" in after.labels.names) == (change == "replaced")
    assert (after.digest == before.digest) == (change == "touched")


def test_changed_comments_are_indexed_again(tmp_path: Path, shared_data: Path) -> None:
    folder = tmp_path / "coffee"
    shutil.copytree(shared_data / "stackexchange" / "coffee", folder, copy_function=shutil.copyfile)
    assert open_corpus(folder).n_skipped == 0
    comments = folder / "Comments.xml"
    comments.write_bytes(comments.read_bytes().replace(b"<row ", b"<raw ", 3))
    changed = open_corpus(folder)
    assert (len(changed), changed.n_skipped, changed.skipped_by_reason) == (225, 3, {"no <row>": 3})
    assert list(changed) == changed[:]
    comments.unlink()
    assert open_corpus(folder)[:] == open_corpus(folder, comments=False)[:]


def test_any_damage_to_the_index_is_noticed(path: Path, cache: Path) -> None:
    wanted = open_corpus(path).digest
    (folder,) = [item for item in (cache / "corpora").iterdir() if item.is_dir()]
    files = sorted(file.name for file in folder.iterdir())
    assert {"index.json", "starts.int64", "columns.int32"} <= set(files)
    for name in files:
        for damage in ("flip", "cut", "gone"):
            file = folder / name
            data = file.read_bytes()
            if damage == "flip":
                file.write_bytes(data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :])
            elif damage == "cut":
                file.write_bytes(data[: len(data) // 2])
            else:
                file.unlink()
            corpus = open_corpus(path)
            assert (corpus.digest, corpus[2999].id, len(corpus.labels.of("l0"))) == (wanted, "2999", 429), (name, damage)
            assert file.read_bytes() == data, "made again"


def test_an_index_of_another_version_is_made_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(open_corpus(path)) == ROWS
    monkeypatch.setattr("harness.data.corpora.index.FORMAT", 10**6)
    done: list[tuple[int, int]] = []
    assert len(open_corpus(path, progress=lambda *step: done.append(step))) == ROWS
    assert done[-1] == (path.stat().st_size, path.stat().st_size)
    assert done == sorted(done)
    assert len(done) > 2


def test_each_way_of_reading_has_its_own_index(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_text('text,labels,body\na,"x|y",other\n')
    first, second, third = open_corpus(path), open_corpus(path, label_separator="|"), open_corpus(path, text_field="body")
    assert [c.labels.names for c in (first, second, third)] == [("x|y",), ("x", "y"), ("x|y",)]
    assert (first[0].text, third[0].text) == ("a", "other")
    assert open_corpus(path).labels.names == ("x|y",)


def test_a_cache_that_cannot_be_written_to_is_one_line(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "file" / "below"))
    corpus = open_corpus(path)
    assert [document.id for document in corpus.head(3)] == ["0", "1", "2"], "iterating needs no cache"
    with pytest.raises(StoreError) as caught:
        len(corpus)
    assert isinstance(caught.value.__cause__, (FileExistsError, NotADirectoryError))
    for part in ("c.jsonl", str(tmp_path / "file" / "below"), "HARNESS_CACHE"):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_changes_while_it_is_indexed_is_an_error(path: Path, cache: Path) -> None:
    def meddle(done: int, total: int) -> None:
        with path.open("ab") as file:
            file.write(b"\n")

    with pytest.raises(DataError) as error:
        len(open_corpus(path, progress=meddle))
    assert (error.value.given, bool(error.value.hint)) == (str(path), True)
    assert [item.name for item in (cache / "corpora").iterdir() if item.is_dir()] == []
    assert len(open_corpus(path)) == ROWS


PROGRAM = """
import sys, time
from harness.data import open_corpus

def report(done, total):
    if {slow}:
        print(done, flush=True)
        time.sleep(60)

corpus = open_corpus(sys.argv[1], progress=report)
print(len(corpus), corpus.digest, corpus[-1].id)
"""


def test_killed_in_the_middle_and_opened_again(path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    victim = subprocess.Popen([sys.executable, "-c", PROGRAM.format(slow=True), str(path)], stdout=subprocess.PIPE)
    assert victim.stdout is not None
    assert 0 < int(victim.stdout.readline()) < path.stat().st_size, "in the middle"
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    left = [item for item in (cache / "corpora").iterdir() if item.is_dir()]
    assert len(left) == 1, "what it had written"
    again = open_corpus(path)
    digest, documents = again.digest, again[:]
    assert [item for item in (cache / "corpora").iterdir() if item.is_dir()] != left
    assert len([item for item in (cache / "corpora").iterdir() if item.is_dir()]) == 1, "nothing is left of it"
    monkeypatch.setenv("HARNESS_CACHE", str(cache / "fresh"))
    undisturbed = open_corpus(path)
    assert (undisturbed.digest, undisturbed[:]) == (digest, documents)
    assert documents == list(again)


def test_two_processes_at_once(path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM.format(slow=False), str(path)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    answers = {process.communicate()[0] for process in running}
    assert [process.returncode for process in running] == [0, 0, 0]
    assert answers == {f"{ROWS} {open_corpus(path).digest} {ROWS - 1}\n"}
