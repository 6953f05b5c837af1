"""The run store and files that are not its own, damaged, newer, or in use."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.runs import manifest
from helpers.stores import add_generations, add_trials

from harness.errors import StoreError
from harness.files.atomic import on_network
from harness.store import RunStore, list_runs
from harness.types import Generation, Trial

MANIFEST = manifest()


@pytest.fixture
def run(tmp_path: Path) -> Iterator[RunStore]:
    with RunStore.create_or_open(tmp_path / "run", MANIFEST) as store:
        yield store


def test_a_second_writer_in_the_same_process_is_refused(run: RunStore) -> None:
    with pytest.raises(StoreError) as error:
        RunStore.create_or_open(run.folder, MANIFEST)
    assert error.value.given == run.folder
    assert f"(process {os.getpid()} on " in error.value.message
    assert error.value.hint
    run.note("still", "writable")


def test_a_newer_schema_is_left_alone(tmp_path: Path) -> None:
    RunStore.create_or_open(tmp_path / "run", MANIFEST).close()
    with sqlite3.connect(tmp_path / "run" / "run.sqlite") as connection:
        connection.execute("PRAGMA user_version=99")
    for open_ in (lambda: RunStore.create_or_open(tmp_path / "run", MANIFEST), lambda: RunStore.open(tmp_path / "run", read_only=True)):
        with pytest.raises(StoreError) as error:
            open_()
        assert (error.value.given, error.value.allowed) == (99, "up to 3")
        assert "upgrade harness" in error.value.hint


def test_another_programs_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "run.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    before = path.read_bytes()
    with pytest.raises(StoreError) as error:
        RunStore.create_or_open(tmp_path, MANIFEST)
    assert error.value.given == path
    assert "another program" in error.value.message
    assert "--out" in error.value.hint
    assert path.read_bytes() == before


def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "run.sqlite"
    path.write_text("notes of mine\n" * 100)
    with pytest.raises(StoreError) as error:
        RunStore.create_or_open(tmp_path, MANIFEST)
    assert error.value.given == path
    assert "run store" in error.value.message
    assert "--out" in error.value.hint
    assert path.read_text() == "notes of mine\n" * 100


def test_an_empty_file_of_a_process_killed_at_once_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "run.sqlite").touch()
    with pytest.raises(StoreError) as error:
        RunStore.open(tmp_path, read_only=True)
    assert error.value.given == tmp_path / "run.sqlite"
    assert error.value.hint
    with RunStore.create_or_open(tmp_path, MANIFEST) as store:
        assert store.manifest == MANIFEST


@pytest.mark.parametrize("damage", ["overwritten", "truncated"])
def test_a_damaged_file_is_reported_with_what_can_be_done(tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "run"
    with RunStore.create_or_open(folder, MANIFEST) as store:
        trials = [Trial("m", f"l{number}", "c", 0.5, f"i{number}", 0) for number in range(400)]
        add_trials(store, trials)
        add_generations(store, [Generation(trial.id, "the prompt", "a text", 2, "eos") for trial in trials])
    path = folder / "run.sqlite"
    content = bytearray(path.read_bytes())
    if damage == "truncated":
        content = content[: len(content) // 2]
    else:
        content[4096 : len(content) // 2] = b"\x5a" * (len(content) // 2 - 4096)
    path.write_bytes(content)
    with pytest.raises(StoreError) as caught:
        RunStore.create_or_open(folder, MANIFEST)
    assert caught.value.given == path
    assert "damaged" in caught.value.message
    assert ".recover" in caught.value.hint
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == bytes(content)
    assert [summary.id for summary in list_runs(tmp_path)] == ["run"]  # reported, or readable in part


def test_opening_what_does_not_exist_names_the_way_on(tmp_path: Path) -> None:
    with pytest.raises(StoreError) as error:
        RunStore.open(tmp_path / "nothing")
    assert error.value.given == tmp_path / "nothing"
    assert "harness runs" in error.value.hint
    assert not (tmp_path / "nothing").exists()


def test_a_file_in_the_way_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "run").touch()
    with pytest.raises(StoreError) as error:
        RunStore.create_or_open(tmp_path / "run", MANIFEST)
    assert error.value.given == errno.EEXIST
    assert str(tmp_path / "run") in error.value.message
    assert error.value.hint


@pytest.mark.parametrize(
    ("path", "expected"), [("/data/runs/a", True), ("/data", True), ("/database/x", False), ("/home/me/space here/x", True)]
)
def test_network_file_systems_are_distinguished_from_local_ones(tmp_path: Path, path: str, expected: bool) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text("/dev/sda / ext4 rw 0 0\nserver:/x /data nfs4 rw 0 0\ns:/y /home/me/space\\040here lustre rw 0 0\n")
    assert on_network(Path(path), mounts) is expected
    assert not on_network(Path(path), tmp_path / "absent")
