"""The SQLite file of a run: opened, checked, brought up to date, written in transactions, and its errors in one line each.

While a run is written others can read it; closing folds the write-ahead log back, so a closed run is a single file.

A file of an older harness is brought up to date when it is opened for writing, in one transaction: a kill leaves it as it was. Opened for
reading, it stays as it is: a copy is brought up to date, in memory or (a large one) in a temporary file. That works in a folder that cannot be
written, and while an older harness writes the run; the copy shows the run as it was when it was opened.

A file is checked when it is opened: its structure, and its digests (:mod:`harness.store.digests`). What is damaged is refused before a value is used.
A reader checks a file that has not changed since once per process (:mod:`harness.store.sound`).
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from harness.errors import StoreError
from harness.files.atomic import disk_error
from harness.files.sqlite import DEFECTS, connect, connect_for_reading, explained, set_journal, stamp, temporary, transaction, version_of
from harness.store import digests
from harness.store.migrations import SAME_TABLES_SINCE, migrate
from harness.store.schema import RUN_STORE, SCHEMA, SCHEMA_VERSION, statements
from harness.store.sound import is_sound, note_sound, state_of


class Database:
    """One connection to a run's file. Safe to use from several threads.

    Args:
        path: the file; made with its tables if ``write`` and absent (or left empty by a process that was killed while making it).
        write: open for writing. The caller must hold the run's lock.
        check: look for damage before anything is read, which takes as long as reading all. Without it only a summary may be made of the file.

    Attributes:
        known_sound: this process has looked through the file as it is now, and found nothing wrong.
        digested: the file came with digests; one of an older harness has none, so a changed value in it cannot be noticed.

    Raises:
        StoreError: no such file, another program's file, a damaged one, one of a newer harness, or a disk that refuses.
    """

    digested = True

    def __init__(self, path: Path, *, write: bool, check: bool = True) -> None:
        self.path = path
        self._write = write
        self._before = state_of(path)
        self.known_sound = not write and is_sound(path)
        self._checks = write or (check and not self.known_sound)
        self._mutex = threading.RLock()
        self._in_transaction = False
        if not write and not path.is_file():
            message = f"there is no run at {path.parent} (no {path.name} in it)"
            raise StoreError(message, given=path.parent, hint="`harness runs` lists the runs")
        with self._explained("open the run", opening=True):
            self._connection = connect(path, "rwc") if write else connect_for_reading(path)
        try:
            with self._explained("open the run", opening=True):
                version = self._check()
                if write:
                    self._prepare(version)
                elif version is not None and version < SAME_TABLES_SINCE:
                    self._copy(version)
        except BaseException:
            self._connection.close()
            raise

    # ------------------------------------------------------------------------------------------------------------------- opening

    def _check(self) -> int | None:
        """Return the file's version (None: an empty file, to be filled). Refuses what is not ours, or damaged."""
        version = version_of(self._connection, self.path, RUN_STORE)
        if version is None and not self._write:
            message = f"{self.path} is empty: the run was stopped before it began"
            raise StoreError(message, given=self.path, hint="start it again, or delete its folder")
        if version is not None and self._checks:
            self._refuse_damage(version)
        self.digested = version is None or version == SCHEMA_VERSION
        if self.digested and self._checks:
            self.note_sound()
        return version

    def note_sound(self) -> None:
        """Note that the file was looked through, and nothing is wrong with it."""
        note_sound(self.path, self._before)

    def _refuse_damage(self, version: int) -> None:
        """Raise for a file that is not as it was written, as far as can be told."""
        problem = self._connection.execute("PRAGMA integrity_check(1)").fetchone()[0]  # indexes, too: a broken one hides rows
        if problem != "ok":
            raise sqlite3.DatabaseError(f"malformed: {problem}")
        if version == SCHEMA_VERSION and (groups := digests.damaged(self._connection)):
            shown = ", ".join(groups[:5]) + (f" and {len(groups) - 5} more" if len(groups) > 5 else "")
            message = f"{self.path} is damaged, or another program has changed it: its digests do not fit its {shown}; it was left as it is"
            raise StoreError(message, given=tuple(groups), hint=RUN_STORE.repair)

    def _prepare(self, version: int | None) -> None:
        """Make the tables, or bring them up to date: all of it or nothing."""
        set_journal(self._connection, self.path)
        self._connection.execute("PRAGMA foreign_keys=ON")
        if version is None:
            with self.transaction("make the tables"):
                for statement in statements(SCHEMA):
                    self._connection.execute(statement)
                digests.write_all(self._connection)
                stamp(self._connection, RUN_STORE)
        elif version < SCHEMA_VERSION:
            with self.transaction("bring the run's file up to date"):
                migrate(self._connection, self.path, version, SCHEMA_VERSION)
            with contextlib.suppress(sqlite3.Error):  # gives the room of the old tables back; without room for a copy the file stays as large
                self._connection.execute("VACUUM")
        digests.keep_current(self._connection)

    def _copy(self, version: int) -> None:
        """Read from a copy that is up to date; the file stays as it is."""
        copy = temporary()
        try:
            self._connection.backup(copy)  # a state of one moment, whoever writes meanwhile
            with transaction(copy):
                migrate(copy, self.path, version, SCHEMA_VERSION, digested=False)  # nobody compares the copy with anything
            copy.execute("PRAGMA query_only=ON")
        except BaseException:
            copy.close()
            raise
        self._connection.close()
        self._connection = copy

    # --------------------------------------------------------------------------------------------------------- reading and writing

    @contextlib.contextmanager
    def transaction(self, doing: str) -> Iterator[None]:
        """All that is executed within is stored together when it ends, or (an exception, a kill) not at all. Transactions nest as one."""
        with self._mutex, self._explained(doing):
            if self._in_transaction:
                yield
                return
            with transaction(self._connection):
                self._in_transaction = True
                try:
                    yield
                finally:
                    self._in_transaction = False

    def execute(self, sql: str, values: Sequence[Any] = ()) -> None:
        """Execute one statement within a transaction."""
        self._connection.execute(sql, values)

    def execute_many(self, sql: str, rows: Iterator[Sequence[Any]] | Sequence[Sequence[Any]]) -> None:
        """Execute one statement for each row, within a transaction."""
        self._connection.executemany(sql, rows)

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Return all rows of a query."""
        with self._mutex, self._explained("read"):
            return self._connection.execute(sql, values).fetchall()

    def value(self, sql: str, values: Sequence[Any] = ()) -> Any:
        """Return the first column of the first row, or None without a row."""
        with self._mutex, self._explained("read"):
            row = self._connection.execute(sql, values).fetchone()
            return row[0] if row else None

    def close(self) -> None:
        """Fold the log back into the file and close. Idempotent."""
        with self._mutex:
            if self._write:
                # A reader of that moment, or a full disk, keeps the log beside the file; nothing is lost by that.
                with contextlib.suppress(sqlite3.Error):
                    self._connection.execute("PRAGMA busy_timeout=200")
                    self._connection.execute("PRAGMA journal_mode=DELETE")
            self._connection.close()

    # -------------------------------------------------------------------------------------------------------------------- errors

    @contextlib.contextmanager
    def _explained(self, doing: str, *, opening: bool = False) -> Iterator[None]:
        """Raises errors of SQLite as StoreErrors; misuse of SQLite by us stays what it is, but while a file is opened it is the file's fault."""
        try:
            yield
        except DEFECTS as error:
            if not opening:
                raise
            raise explained(sqlite3.DatabaseError(f"malformed: {error}"), doing, self.path, RUN_STORE) from error
        except (UnicodeDecodeError, OverflowError, MemoryError) as error:  # a text, a number, a length that nobody wrote
            raise explained(sqlite3.DatabaseError(f"malformed: {error or type(error).__name__}"), doing, self.path, RUN_STORE) from error
        except sqlite3.Error as error:
            raise explained(error, doing, self.path, RUN_STORE) from error
        except UnicodeEncodeError as error:
            half = error.object[error.start]
            message = f"cannot {doing} in {self.path}: a text holds {half!r}, half of a character"
            raise StoreError(message, given=half, hint="clean the text") from error


def make_folder(folder: Path) -> None:
    """Make a run's folder. Raises StoreError if the disk refuses."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise disk_error(error, f"make the run's folder {folder}") from error
