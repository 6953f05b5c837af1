"""What the run store and the cache of replies share: how files are recognised, transactions, errors in one line."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import StoreError
from harness.files.sqlite import (
    SqliteKind,
    connect,
    explained,
    is_damage,
    log_in_use,
    set_journal,
    stamp,
    temporary,
    transaction,
    version_of,
)

KIND = SqliteKind(0x54455354, 3, "test file", "test version", "choose another", "what {path} holds is kept", "put a copy back")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A stamped file with a table."""
    path = tmp_path / "a folder?" / "file#1.sqlite"
    path.parent.mkdir()
    connection = connect(path)
    with transaction(connection):
        connection.execute("CREATE TABLE t (x)")
        stamp(connection, KIND)
    connection.close()
    return path


def test_a_file_is_recognised_by_its_header(path: Path, tmp_path: Path) -> None:
    assert version_of(connect(path, "ro"), path, KIND) == 3
    assert version_of(connect(path, "ro"), path, replace(KIND, version=5)) == 3
    with pytest.raises(StoreError) as newer:
        version_of(connect(path, "ro"), path, replace(KIND, version=2))
    assert (newer.value.given, newer.value.allowed) == (3, "up to 2")
    assert "test version 3" in str(newer.value)
    assert KIND.elsewhere in newer.value.hint
    with pytest.raises(StoreError) as foreign:
        version_of(connect(path, "ro"), path, replace(KIND, application_id=1))
    assert (foreign.value.given, foreign.value.hint) == (path, KIND.elsewhere)
    new = connect(tmp_path / "new")
    assert version_of(new, tmp_path / "new", KIND) is None
    new.execute("CREATE TABLE mine (x)")
    assert version_of(new, tmp_path / "new", KIND, ("mine", "other")) is None
    with pytest.raises(StoreError) as error:
        version_of(new, tmp_path / "new", KIND)
    assert (error.value.given, error.value.hint) == (tmp_path / "new", KIND.elsewhere)


def test_a_transaction_is_stored_together_or_not_at_all(path: Path) -> None:
    connection = connect(path)

    def stopped() -> None:
        with transaction(connection):
            connection.execute("INSERT INTO t VALUES (1)")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    connection.execute("BEGIN")  # as Ctrl-C may leave it
    connection.execute("INSERT INTO t VALUES (2)")
    with transaction(connection):
        connection.execute("INSERT INTO t VALUES (3)")
    assert connection.execute("SELECT x FROM t").fetchall() == [(3,)]
    assert not connection.in_transaction


def test_a_log_is_kept_while_a_local_file_is_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = connect(path)
    set_journal(connection, path)
    with transaction(connection):
        connection.execute("INSERT INTO t VALUES (1)")
    assert log_in_use(path)
    reader = connect(path, "ro")
    assert reader.execute("SELECT x FROM t").fetchall() == [(1,)]
    reader.close()
    monkeypatch.setattr("harness.files.sqlite.on_network", lambda path: True)
    set_journal(connection, path)
    connection.close()
    assert not log_in_use(path)


def test_a_temporary_database_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    connection = temporary()
    connection.execute("CREATE TABLE t AS SELECT randomblob(5000000) AS x")
    assert connection.execute("SELECT length(x) FROM t").fetchone() == (5_000_000,)
    connection.close()
    assert list(tmp_path.iterdir()) == []


def error_of(path: Path, sql: str, mode: str = "rw", timeout: float = 0.0) -> sqlite3.Error:
    """What SQLite says to a statement."""
    with pytest.raises(sqlite3.Error) as caught:
        connect(path, mode, timeout=timeout).execute(sql).fetchall()
    return caught.value


def test_errors_of_sqlite_are_one_line_that_names_the_way_on(path: Path, tmp_path: Path) -> None:
    full = connect(path)
    full.execute("PRAGMA max_page_count=2")
    with pytest.raises(sqlite3.Error) as caught:
        full.execute("INSERT INTO t VALUES (randomblob(20000))")
    full.close()
    holder = connect(path)
    holder.execute("BEGIN EXCLUSIVE")
    locked = error_of(path, "SELECT * FROM t")
    holder.execute("ROLLBACK")
    text = tmp_path / "text"
    text.write_text("no database, and long enough to be looked at\n" * 50)
    torn = tmp_path / "torn"
    torn.write_bytes(path.read_bytes()[:4096] + b"\x5a" * 4096)
    kept = f"what {path} holds is kept"
    cases = [  # an error of SQLite, what the line must name of the trouble, and what its hint must name
        (caught.value, ("full", kept), "space"),
        (error_of(path, "INSERT INTO t VALUES (1)", "ro"), ("read-only", str(path), kept), KIND.elsewhere),
        (locked, ("locked", str(path), kept), "program"),
        (error_of(tmp_path / "nowhere" / "file", "SELECT 1"), ("opened", str(path)), KIND.elsewhere),
        (error_of(text, "SELECT * FROM t"), (KIND.name, str(path)), KIND.elsewhere),
        (error_of(torn, "SELECT * FROM t"), ("damaged", str(path)), KIND.repair),
        (error_of(path, "SELECT * FROM absent"), ("damaged", "absent"), KIND.repair),
    ]
    for error, names, way_on in cases:
        failure = explained(error, "do it", path, KIND)
        assert isinstance(failure, StoreError)
        assert failure.given == path
        assert way_on in failure.hint
        assert [name for name in names if name not in failure.message] == []
        assert "\n" not in str(failure)
    assert [is_damage(error) for error, _, _ in cases] == [False, False, False, False, True, True, False]
