"""What is deleted is a run's own folder in runs/, and nothing else."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from helpers.steered import steered_run

from harness.errors import StoreError
from harness.store import RunStore, list_runs
from harness.store.delete import check_deletable, delete_run, entry_digests


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    steered_run(tmp_path / "runs" / "one", lambda *_: (1, 1, 1), n_concepts=1)
    return tmp_path / "runs"


def test_a_run_is_deleted_whole(runs: Path) -> None:
    (runs / "one" / "entry.json").write_text("{}")
    (runs / "one" / "entry-other-judge.json").write_text("{}")
    (runs / ".deleted-one").mkdir()  # of a deletion that was killed
    doomed = check_deletable(runs / "one", runs)
    assert doomed.size == sum(path.stat().st_size for path in (runs / "one").iterdir())
    assert doomed.summary.trials == 12
    delete_run(doomed)
    assert list(runs.iterdir()) == []


def test_a_damaged_run_may_be_deleted(runs: Path) -> None:
    for content in (b"", b"\0" * 5000, (runs / "one" / "run.sqlite").read_bytes()[:3000]):
        (runs / "broken").mkdir()
        (runs / "broken" / "run.sqlite").write_bytes(content)
        doomed = check_deletable(runs / "broken", runs)
        assert doomed.summary.problem
        delete_run(doomed)
    assert [path.name for path in runs.iterdir()] == ["one"]


def test_nothing_else_is(runs: Path, tmp_path: Path) -> None:
    steered_run(tmp_path / "elsewhere" / "run", lambda *_: (1, 1, 1), n_concepts=1)
    (runs / "link").symlink_to(tmp_path / "elsewhere" / "run", target_is_directory=True)
    (runs / "empty").mkdir()
    steered_run(runs / "notes", lambda *_: (1, 1, 1), n_concepts=1)
    (runs / "notes" / "notes.txt").write_text("mine")
    steered_run(runs / "nested", lambda *_: (1, 1, 1), n_concepts=1)
    (runs / "nested" / "folder").mkdir()
    (runs / "foreign").mkdir()
    with sqlite3.connect(runs / "foreign" / "run.sqlite") as connection:
        connection.execute("CREATE TABLE mine (x)")
    connection.close()
    refused = ["link", "empty", "notes", "nested", "foreign", "one/..", ".", "..", "../elsewhere/run", "nothing"]
    before = sorted(str(path) for path in tmp_path.rglob("*"))
    for name in refused:
        with pytest.raises(StoreError) as error:
            check_deletable(runs / name, runs)
        assert error.value.allowed, name
    assert sorted(str(path) for path in tmp_path.rglob("*")) == before


def test_a_run_that_is_being_written_is_refused_before_and_at_the_last_moment(runs: Path) -> None:
    doomed = check_deletable(runs / "one", runs)
    with RunStore.open(runs / "one"):
        for attempt in (lambda: check_deletable(runs / "one", runs), lambda: delete_run(doomed)):
            with pytest.raises(StoreError) as error:
                attempt()
            assert "being written" in error.value.message
    assert (runs / "one" / "run.sqlite").is_file()


def test_an_entry_is_a_runs_own_unless_another_run_stands_behind_it(runs: Path) -> None:
    doomed = [check_deletable(runs / "one", runs)]
    assert entry_digests(doomed, list_runs(runs)) == {doomed[0].summary.digest}
    steered_run(runs / "one.1", lambda *_: (1, 1, 1), n_concepts=1)
    assert entry_digests(doomed, list_runs(runs)) == set()
