"""The SQLite file below the cache of replies: opened, checked, locked, and replaced where it is damaged.

What was written is there after a kill of the process at any moment. A damaged file is moved aside, since losing replies costs money once more,
but no result.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TypeVar

from harness.errors import StoreError
from harness.files.atomic import can_write, disk_error
from harness.files.sqlite import (
    SqliteKind,
    connect,
    connect_for_reading,
    explained,
    is_damage,
    set_journal,
    stamp,
    temporary,
    transaction,
    version_of,
)

SCHEMA_VERSION = 2
"""1 knew no requests that are open in a batch; such a file gets the table when it is opened."""

CACHE = SqliteKind(
    application_id=0x48524E52,  # "HRNR"
    version=SCHEMA_VERSION,
    name="cache of replies",
    version_name="cache version",
    elsewhere="name another cache folder in HARNESS_CACHE",
    kept="what {path} held is kept",
    repair="move it away, or name another cache folder in HARNESS_CACHE",
)

_TABLES = {
    "replies": """
        CREATE TABLE IF NOT EXISTS replies (
            key BLOB PRIMARY KEY, created TEXT NOT NULL, provider TEXT NOT NULL, model TEXT NOT NULL, rubric TEXT NOT NULL, answered_by TEXT NOT NULL,
            text TEXT NOT NULL, finish TEXT NOT NULL, input INTEGER NOT NULL, cached_input INTEGER NOT NULL, output INTEGER NOT NULL
        )""",
    "handed_in": "CREATE TABLE IF NOT EXISTS handed_in (key BLOB PRIMARY KEY, batch TEXT NOT NULL, created TEXT NOT NULL) WITHOUT ROWID",
}
_WAIT = 60.0

logger = logging.getLogger(__name__)
T = TypeVar("T")


def _can_be_written(path: Path) -> bool:
    """Whether the file can be changed, or made: also its log and its lock lie in the folder."""
    if path.exists():
        return can_write(path) and can_write(path.parent)
    return can_write(next(folder for folder in path.absolute().parents if folder.exists()))


class CacheFile:
    """The file. Safe to use from several threads and processes. Where it can't be written to, it serves what it holds.

    Args:
        path: the file, made when absent. None: a temporary file of this object alone, gone when it is closed.

    Raises:
        harness.errors.StoreError: another program's file, one of a newer harness, or a disk that refuses. A damaged file is moved aside with a
            warning instead.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._mutex = threading.RLock()  # of writers
        self._reader = threading.Lock()  # threads that read at once through one connection would share the state that the first one saw
        self._opened = 0
        self.read_only = path is not None and not _can_be_written(path)
        self._reading: sqlite3.Connection
        self._writing: sqlite3.Connection
        self._open()

    def rows(self, sql: str, *values: object) -> list[Any]:
        """Return what a query finds."""

        def read() -> list[Any]:
            with self._reader:
                return self._reading.execute(sql, values).fetchall()

        return self._guarded("read the cache of replies", read)

    def write(self, doing: str, work: Callable[[sqlite3.Connection], T]) -> T:
        """Return all that ``work`` does, or nothing of it. ``doing`` says for people what it is."""
        self.check_writable(doing)

        def write() -> T:
            with self._mutex, transaction(self._writing):
                return work(self._writing)

        return self._guarded(doing, write)

    def check_writable(self, doing: str) -> None:
        """Raise StoreError where nothing can be stored."""
        if self.read_only:
            message = f"cannot {doing}: {self.path} cannot be written to; {CACHE.kept.format(path=self.path)}"
            raise StoreError(message, given=self.path, hint=f"make it writable, or {CACHE.elsewhere}")

    def shrink(self) -> None:
        """Give the room of what was deleted back to the disk, unless another process is at work: then it is used again by what that writes."""
        with self._mutex, contextlib.suppress(sqlite3.OperationalError):
            self._writing.execute("VACUUM")
            self._writing.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def lock(self, purpose: str = "") -> contextlib.AbstractContextManager[Any]:
        """Return a lock among all processes that use the file; one a purpose."""
        if self.path is None or self.read_only:
            return contextlib.nullcontext()
        from filelock import FileLock

        return FileLock(self.path.with_name(f".{self.path.name}{f'.{purpose}' if purpose else ''}.lock"))

    @property
    def size(self) -> int:
        """Return bytes, with the log."""
        if self.path is None:
            return 0
        files = [self.path.with_name(self.path.name + end) for end in ("", "-wal")]
        return sum(file.stat().st_size for file in files if file.exists())

    def close(self) -> None:
        """Close the file. Idempotent."""
        for connection in {id(c): c for c in (self._reading, self._writing)}.values():
            with contextlib.suppress(sqlite3.Error):
                connection.close()

    # ---------------------------------------------------------------------------------------------------------------------- opening

    def _open(self) -> None:
        if self.path is None:
            self._reading = self._writing = temporary()
            for table in _TABLES.values():
                self._writing.execute(table)
            return
        if self.read_only:
            self._open_for_reading(self.path)
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise disk_error(error, f"make the cache folder {self.path.parent}") from error
        with self.lock():  # two processes that make the file at once would find it locked
            try:
                self._connect()
            except sqlite3.Error as error:
                if not is_damage(error):
                    raise explained(error, "open the cache of replies", self.path, CACHE) from error
                self._move_aside(error)

    def _open_for_reading(self, path: Path) -> None:
        """What the file holds, from the file or from a copy; nothing where there is no file."""
        try:
            connection = connect_for_reading(path, timeout=_WAIT) if path.is_file() else temporary()
            version = version_of(connection, path, CACHE, _TABLES)
            if version != SCHEMA_VERSION:  # an older one lacks tables
                copy = temporary()
                connection.backup(copy)
                connection.close()
                connection = copy
                for table in _TABLES.values():
                    connection.execute(table)
        except sqlite3.Error as error:
            raise explained(error, "open the cache of replies", path, CACHE) from error
        except OSError as error:
            raise disk_error(error, f"open the cache of replies {path}") from error
        self._reading = self._writing = connection

    def _connect(self) -> None:
        """Two connections, so that reading never waits for a writer."""
        assert self.path is not None
        opened = [connect(self.path, timeout=_WAIT) for _ in range(2)]
        try:
            self._prepare(opened[0])
        except BaseException:
            for connection in opened:
                connection.close()
            raise
        self._writing, self._reading = opened
        self._opened += 1

    def _prepare(self, connection: sqlite3.Connection) -> None:
        """Refuse what is not ours, make what is not there."""
        assert self.path is not None
        version = version_of(connection, self.path, CACHE, _TABLES)
        set_journal(connection, self.path)
        if version is None or version < SCHEMA_VERSION:
            with transaction(connection):
                for table in _TABLES.values():
                    connection.execute(table)
                stamp(connection, CACHE)
        for name in _TABLES:
            connection.execute(f"SELECT count(*) FROM (SELECT 1 FROM {name} LIMIT 1)").fetchone()

    # ----------------------------------------------------------------------------------------------------------------------- damage

    def _guarded(self, doing: str, work: Callable[[], T]) -> T:
        """Return ``work``, once more on a new file where this one turns out damaged; other errors of SQLite as StoreErrors."""
        opened = self._opened
        try:
            return work()
        except sqlite3.ProgrammingError:
            raise  # misuse by us, a closed cache
        except sqlite3.Error as error:
            if not is_damage(error) or self.path is None or self.read_only:
                raise explained(error, doing, self.path, CACHE) from error
            self._mend(error, opened)
            return work()

    def _mend(self, error: sqlite3.Error, opened: int) -> None:
        """After a sign of damage: begin anew, unless another thread or process has done so already."""
        with self._mutex, self.lock():
            if self._opened != opened:
                return
            self.close()
            try:
                self._connect()
                if self._writing.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok":
                    return
                self.close()
            except sqlite3.Error as again:
                if not is_damage(again):
                    raise explained(again, "open the cache of replies", self.path, CACHE) from again
            self._move_aside(error)

    def _move_aside(self, error: sqlite3.Error) -> None:
        """Put the damaged file and its log under another name, and begin anew. Runs under the file's lock."""
        assert self.path is not None
        stamp = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S%f")
        aside = f"{self.path.name}.damaged-{stamp}"
        try:
            for end in ("", "-wal", "-shm"):
                with contextlib.suppress(FileNotFoundError):
                    self.path.with_name(self.path.name + end).rename(self.path.with_name(aside + end))
        except OSError as refused:
            raise disk_error(refused, f"move the damaged cache of replies {self.path} aside") from refused
        logger.warning("the cache of replies %s is damaged (%s); it was moved to %s, and a new one begun", self.path, error, aside)
        try:
            self._connect()
        except sqlite3.Error as last:
            raise explained(last, "open the cache of replies", self.path, CACHE) from last
