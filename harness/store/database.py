"""The SQLite file of a run: opened, checked, written in transactions, and its errors told in one line.

Each transaction is safe against a kill of the process at any moment. While a run is written the file keeps a write-ahead log, so other
processes can read it meanwhile; closing folds the log back, so a closed run is a single file. A power cut can cost the last seconds, never
the file. On network file systems, where SQLite's log must not be used, a rollback journal takes its place.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from harness.errors import StoreError
from harness.files.atomic import disk_error, on_network

SCHEMA_VERSION = 1
APPLICATION_ID = 0x48524E53  # "HRNS" in the file's header: tells a run store from any other SQLite file

_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE texts (id INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, text TEXT NOT NULL);
CREATE TABLE concept_values (digest TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE concepts (position INTEGER PRIMARY KEY, digest TEXT NOT NULL REFERENCES concept_values (digest));
CREATE TABLE instructions (position INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, value TEXT NOT NULL);
CREATE TABLE labelers (key TEXT PRIMARY KEY, answers_digest TEXT NOT NULL, finished TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE answers (
    labeler_key TEXT NOT NULL REFERENCES labelers (key), position INTEGER NOT NULL, kind TEXT NOT NULL, labeling_id TEXT,
    concept_digest TEXT NOT NULL REFERENCES concept_values (digest), value TEXT NOT NULL, PRIMARY KEY (labeler_key, position)
) WITHOUT ROWID;
CREATE TABLE methods (position INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, value TEXT NOT NULL);
CREATE TABLE trials (position INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, method_id TEXT NOT NULL, value TEXT NOT NULL);
CREATE TABLE generations (trial_id TEXT PRIMARY KEY REFERENCES trials (id), created TEXT NOT NULL, value TEXT NOT NULL);
CREATE TABLE judges (position INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, value TEXT NOT NULL);
CREATE TABLE ratings (
    judge_key TEXT NOT NULL REFERENCES judges (key), trial_id TEXT NOT NULL REFERENCES generations (trial_id), status TEXT NOT NULL,
    created TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (judge_key, trial_id)
) WITHOUT ROWID;
CREATE TABLE notes (id INTEGER PRIMARY KEY, created TEXT NOT NULL, kind TEXT NOT NULL, value TEXT NOT NULL);
"""

_DEFECTS = (sqlite3.ProgrammingError, sqlite3.InterfaceError, sqlite3.IntegrityError, sqlite3.NotSupportedError)


class Database:
    """One connection to a run's file. Safe to use from several threads.

    Args:
        path: the file; made with its tables if ``write`` and absent (or left empty by a process that was killed while making it).
        write: open for writing. The caller must hold the run's lock.

    Raises:
        StoreError: no such file, another program's file, a damaged one, one of a newer harness, or a disk that refuses.
    """

    def __init__(self, path: Path, *, write: bool) -> None:
        self.path = path
        self._write = write
        self._mutex = threading.RLock()
        self._in_transaction = False
        if not write and not path.is_file():
            raise StoreError(f"there is no run at {path.parent} (no {path.name} in it); `harness runs` lists the runs")
        self._connection = self._connect("rwc" if write else "ro")
        try:
            with self._explained("open"):
                self._check()
                if write:
                    self._configure()
        except BaseException:
            self._connection.close()
            raise

    # ------------------------------------------------------------------------------------------------------------------- opening

    def _connect(self, mode: str, immutable: bool = False) -> sqlite3.Connection:
        uri = f"file:{quote(str(self.path.absolute()))}?mode={mode}{'&immutable=1' if immutable else ''}"
        with self._explained("open"):
            return sqlite3.connect(uri, uri=True, isolation_level=None, timeout=20, check_same_thread=False)

    def _check(self) -> None:
        """Refuse what is no run store of ours; leave an empty file to :meth:`_configure`."""
        try:
            application = self._pragma("application_id")
        except sqlite3.OperationalError:
            if self._write or self._log_in_use():
                raise
            # A log needs a shared-memory file beside it, which a read-only folder cannot have. Without a log the file can be read as it is.
            self._connection.close()
            self._connection = self._connect("ro", immutable=True)
            application = self._pragma("application_id")
        if application == 0 and not self._connection.execute("SELECT 1 FROM sqlite_master").fetchone():
            if not self._write:
                raise StoreError(f"{self.path} is empty: the run was stopped before it began; start it again, or delete its folder")
            return
        if application != APPLICATION_ID:
            raise StoreError(f"{self.path} belongs to another program, not to harness; it was left as it is: choose another folder (--out)")
        version = self._pragma("user_version")
        if version > SCHEMA_VERSION:
            raise StoreError(
                f"{self.path} was written by a newer harness (store version {version}, this one knows up to {SCHEMA_VERSION}); "
                "it was left as it is: upgrade harness to use it"
            )
        if self._write:
            problem = self._connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            if problem != "ok":
                raise sqlite3.DatabaseError(f"malformed: {' '.join(str(problem).split())}")

    def _configure(self) -> None:
        if on_network(self.path):
            self._connection.execute("PRAGMA journal_mode=DELETE")
            self._connection.execute("PRAGMA synchronous=FULL")
        else:
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=NORMAL")
        self._connection.execute("PRAGMA foreign_keys=ON")
        if self._pragma("application_id") == 0:
            statements = [line for line in _SCHEMA.split(";") if line.strip()]
            with self.transaction("make the tables"):
                for statement in statements:
                    self._connection.execute(statement)
                self._connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
                self._connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")

    def _pragma(self, name: str) -> Any:
        return self._connection.execute(f"PRAGMA {name}").fetchone()[0]

    def _log_in_use(self) -> bool:
        log = self.path.with_name(self.path.name + "-wal")
        return log.exists() and log.stat().st_size > 0

    # --------------------------------------------------------------------------------------------------------- reading and writing

    @contextlib.contextmanager
    def transaction(self, doing: str) -> Iterator[None]:
        """All that is executed within is stored together when it ends, or (an exception, a kill) not at all. Transactions nest as one."""
        with self._mutex, self._explained(doing):
            if self._in_transaction:
                yield
                return
            try:
                if self._connection.in_transaction:  # Ctrl-C hit between a BEGIN and its bookkeeping
                    self._connection.execute("ROLLBACK")
                self._connection.execute("BEGIN IMMEDIATE")
                self._in_transaction = True
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
                raise
            finally:
                self._in_transaction = False

    def execute(self, sql: str, values: Sequence[Any] = ()) -> None:
        """One statement within a transaction."""
        self._connection.execute(sql, values)

    def execute_many(self, sql: str, rows: Iterator[Sequence[Any]] | Sequence[Sequence[Any]]) -> None:
        """One statement for each row, within a transaction."""
        self._connection.executemany(sql, rows)

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        with self._mutex, self._explained("read"):
            return self._connection.execute(sql, values).fetchall()

    def value(self, sql: str, values: Sequence[Any] = ()) -> Any:
        """The first column of the first row, or None without a row."""
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
    def _explained(self, doing: str) -> Iterator[None]:
        """Errors of SQLite as StoreErrors; misuse of SQLite by us stays what it is."""
        try:
            yield
        except _DEFECTS:
            raise
        except sqlite3.Error as error:
            raise self._store_error(error, doing) from error
        except UnicodeEncodeError as error:
            half = error.object[error.start]
            raise StoreError(f"cannot {doing} in {self.path}: a text holds {half!r}, half of a character; clean the text") from error

    def _store_error(self, error: sqlite3.Error, doing: str) -> StoreError:
        message = str(error)
        kept = f"everything stored before is safe in {self.path}"
        if "full" in message:
            return StoreError(f"cannot {doing}: the disk is full; {kept}; free some space, then run the same command again to go on")
        if "readonly" in message:
            return StoreError(f"cannot {doing}: {self.path} is read-only; {kept}; make it writable or choose another folder (--out)")
        if "locked" in message or "busy" in message:
            return StoreError(f"cannot {doing}: another program keeps {self.path} locked; {kept}; close that program, then run this again")
        if "unable to open" in message:
            return StoreError(f"cannot {doing} {self.path}: it cannot be opened; check that folder and file can be read and written")
        if "not a database" in message:
            return StoreError(f"{self.path} is no run store ({message}); it was left as it is: choose another folder (--out)")
        if "malformed" in message:
            return StoreError(
                f"{self.path} is damaged ({message}); it was left as it is, and other runs are not affected: put a copy back, "
                f"or save what can be read with `sqlite3 {self.path.name} .recover`, or delete the folder to start again"
            )
        return StoreError(f"cannot {doing} in {self.path}: {message}; {kept}; check the disk, then run the same command again")


def make_folder(folder: Path) -> None:
    """Make a run's folder. Raises StoreError if the disk refuses."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise disk_error(error, f"make the run's folder {folder}") from error
