"""A run's file as the pages read it: opened for a moment at a time, read-only, so that nobody who writes the run ever waits for a page.

While a write-ahead log is kept, readers and the writer do not wait for each other. No connection outlives the answer that it was opened for, so
that a run that ends can fold its log back, and the run's lock is never taken.
"""

from __future__ import annotations

import contextlib
import os
import platform
import threading
from collections.abc import Iterator
from pathlib import Path

from harness.errors import StoreError
from harness.files.atomic import on_network
from harness.files.json_text import parse_json
from harness.store.database import Database
from harness.store.folder import DATABASE, UNREADABLE
from harness.store.schema import RUN_STORE
from harness.types import digest

Marks = dict[str, tuple[int, str]]
"""The number of rows and the digest of each group of records (:mod:`harness.store.digests`), by its name."""


class RunFile:
    """A run's folder and the file in it.

    A file that cannot be read where it lies (of the first store version; with a log, in a folder in which nothing can be made) is read from a
    copy, which is kept until the file changes.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / DATABASE
        self._lock = threading.RLock()
        self._copy: tuple[tuple[tuple[int, ...], ...], Database] | None = None

    @contextlib.contextmanager
    def open(self) -> Iterator[Database]:
        """Yield the file, open to be read. Raises StoreError where it cannot be read."""
        with self._lock:
            kept = self._current_copy()
            if kept is not None:
                yield kept
                return
        before = self.state()
        database = Database(self.path, write=False, check=False)
        if database.rows("PRAGMA database_list")[0][2]:
            try:
                yield database
            finally:
                database.close()
            return
        with self._lock:
            self._copy = before, database
            yield database

    def _current_copy(self) -> Database | None:
        if self._copy is not None and self._copy[0] != self.state():
            self._copy[1].close()
            self._copy = None
        return None if self._copy is None else self._copy[1]

    def close(self) -> None:
        """Let go of a copy. Idempotent."""
        with self._lock:
            if self._copy is not None:
                self._copy[1].close()
            self._copy = None

    def state(self) -> tuple[tuple[int, ...], ...]:
        """Return what changes when file or log change: identity, size and time of both."""
        found: list[tuple[int, ...]] = []
        for path in (self.path, self.path.with_name(f"{DATABASE}-wal")):
            try:
                stat = path.stat()
            except OSError:
                found.append(())
                continue
            found.append((stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns))
        return tuple(found)


@contextlib.contextmanager
def understood(path: Path) -> Iterator[None]:
    """Raises whatever rows that no harness wrote bring about as one StoreError that names the file."""
    try:
        yield
    except UNREADABLE as error:
        message = f"{path} cannot be understood: {' '.join(str(error).split())[:300] or type(error).__name__}"
        raise StoreError(message, given=path, hint=RUN_STORE.repair) from error


def marks(database: Database) -> Marks:
    """Return the digests in the file; empty for a file of an older harness, which has none."""
    if not database.digested:
        return {}
    return {str(name): (int(rows), str(value)) for name, rows, value in database.rows("SELECT name, rows, value FROM digests")}


def identity_of(database: Database) -> str:
    """Return a digest of which run a file holds: its manifest's identity, and when it was begun."""
    sql = "SELECT (SELECT json_extract(value, '$.identity') FROM meta WHERE key = 'manifest'), (SELECT value FROM meta WHERE key = 'started')"
    return digest([str(part) for part in database.rows(sql)[0]])


def status_of(database: Database) -> str:
    """Return ``finished``, ``running`` or ``interrupted`` without touching the run's lock.

    A run counts as running while the process that opened it last lives on this machine, and has its log open where the file keeps one. Of a
    process elsewhere nothing is known, and a run that it has not finished counts as running, too.
    """
    found = dict(database.rows("SELECT key, value FROM meta WHERE key IN ('finished', 'holder')"))
    if "finished" in found:
        return "finished"
    try:
        holder = parse_json(found["holder"])
        here, process = holder["host"] == platform.node(), int(holder["pid"])
    except UNREADABLE:
        return "interrupted"
    open_there = database.path.with_name(f"{DATABASE}-wal").exists() or on_network(database.path)
    return "running" if not here or (_lives(process) and open_there) else "interrupted"


def _lives(process: int) -> bool:
    """Return whether a process of this machine exists."""
    if os.name == "nt" or process <= 0:  # there signal 0 is Ctrl-C
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
