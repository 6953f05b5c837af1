"""Replies that were paid for, kept in one SQLite file by what was asked: several processes may read and write it at once.

The key of an entry is :meth:`harness.llm.values.ChatRequest.key`, so a changed rubric, model or parameter never meets an old reply. The file
keeps a write-ahead log: what was put is there after a kill of the process at any moment. A damaged file is moved aside, since losing replies
costs money once more, but no result.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from harness.disk import disk_error, on_network
from harness.errors import StoreError
from harness.llm.values import ChatReply, Usage

FILE_NAME = "replies.sqlite"
"""The cache's file in the cache folder."""

SCHEMA_VERSION = 1
APPLICATION_ID = 0x48524E52  # "HRNR" in the file's header: tells the cache from any other SQLite file

_TABLE = """
CREATE TABLE IF NOT EXISTS replies (
    key BLOB PRIMARY KEY, created TEXT NOT NULL, provider TEXT NOT NULL, model TEXT NOT NULL, rubric TEXT NOT NULL, answered_by TEXT NOT NULL,
    text TEXT NOT NULL, finish TEXT NOT NULL, input INTEGER NOT NULL, cached_input INTEGER NOT NULL, output INTEGER NOT NULL
)"""
_PUT = "INSERT OR IGNORE INTO replies VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_GET = "SELECT text, input, cached_input, output, answered_by, finish FROM replies WHERE key = ?"
_DAMAGED = ("not a database", "malformed", "disk image")
_WAIT = 60.0

logger = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True)
class Entry:
    """A reply to be kept: its key, what came, and what was asked for (``provider``, ``model`` and ``rubric`` are for statistics and pruning)."""

    key: str
    reply: ChatReply
    provider: str = ""
    model: str = ""
    rubric: str = ""


@dataclass(frozen=True)
class ModelStats:
    """The entries of one (provider, model); dates as ISO 8601, UTC."""

    provider: str
    model: str
    entries: int
    usage: Usage
    first: str
    last: str


@dataclass(frozen=True)
class CacheStats:
    """What is in the cache. ``size`` is the file's, in bytes, its log included."""

    path: str
    entries: int
    size: int
    models: tuple[ModelStats, ...]


class ReplyCache:
    """The cache of replies. Safe to use from several threads and processes.

    Args:
        path: the file, made when absent; usually :data:`FILE_NAME` in the cache folder. None keeps the replies in a temporary file of this
            object alone, gone when it is closed.

    Raises:
        StoreError: another program's file, one of a newer harness, or a disk that refuses. A damaged file is moved aside with a warning instead.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._mutex = threading.RLock()  # of writers
        self._reader = threading.Lock()  # threads that read at once through one connection would share the state that the first one saw
        self._opened = 0
        self._reading: sqlite3.Connection
        self._writing: sqlite3.Connection
        self._open()

    # ------------------------------------------------------------------------------------------------------------------------- use

    def get(self, key: str) -> ChatReply | None:
        """The reply kept under ``key`` (64 hex digits), marked ``from_cache``; None where there is none. ``usage`` is what it cost at its time."""
        rows = self._rows(_GET, bytes.fromhex(key))
        if not rows:
            return None
        text, tokens_in, cached, tokens_out, model, finish = rows[0]
        return ChatReply(text, Usage(tokens_in, cached, tokens_out), model, finish, from_cache=True)

    def __contains__(self, key: str) -> bool:
        return bool(self._rows("SELECT 1 FROM replies WHERE key = ?", bytes.fromhex(key)))

    def __len__(self) -> int:
        return int(self._rows("SELECT count(*) FROM replies")[0][0])

    def put(self, key: str, reply: ChatReply, *, provider: str = "", model: str = "", rubric: str = "") -> None:
        """Keep a reply. A key that is there already keeps its first reply."""
        self.put_many([Entry(key, reply, provider, model, rubric)])

    def put_many(self, entries: Iterable[Entry]) -> None:
        """Keep several replies, all or none of them."""
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        rows = [
            (
                bytes.fromhex(e.key),
                now,
                e.provider,
                e.model or e.reply.model,
                e.rubric,
                e.reply.model,
                e.reply.text,
                e.reply.finish,
                *_tokens(e),
            )
            for e in entries
        ]

        def write() -> None:
            with self._mutex, _transaction(self._writing):
                self._writing.executemany(_PUT, rows)

        self._guarded("store replies in the cache", write)

    def close(self) -> None:
        """Close the file. Idempotent."""
        for connection in {id(c): c for c in (self._reading, self._writing)}.values():
            with contextlib.suppress(sqlite3.Error):
                connection.close()

    def __enter__(self) -> ReplyCache:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ------------------------------------------------------------------------------------------------------------------ maintenance

    def stats(self) -> CacheStats:
        """Entries, bytes, and the entries of each model, the most frequent first."""
        sql = (
            "SELECT provider, model, count(*), sum(input), sum(cached_input), sum(output), min(created), max(created) FROM replies "
            "GROUP BY provider, model ORDER BY count(*) DESC, provider, model"
        )
        models = tuple(ModelStats(p, m, n, Usage(i, c, o), first, last) for p, m, n, i, c, o, first, last in self._rows(sql))
        return CacheStats(str(self.path or "temporary"), sum(model.entries for model in models), self._size(), models)

    def prune(self, *, days: float | None = None, model: str | None = None) -> int:
        """Delete entries, and give their room back to the disk; the number that went. Both conditions must hold where both are given.

        Args:
            days: only entries older than this.
            model: only entries of this model, as it was asked for or as the server named it.

        Raises:
            StoreError: without any condition: to delete everything, delete the file.
        """
        if days is None and model is None:
            raise StoreError(f"nothing to prune by: give days, a model or both; to delete every reply, delete {self.path}")
        conditions, values = [], list[str]()
        if days is not None:
            conditions.append("created < ?")
            values.append((datetime.now(timezone.utc) - timedelta(days=days)).isoformat(timespec="seconds"))
        if model is not None:
            conditions.append("(model = ? OR answered_by = ?)")
            values += [model, model]

        def delete() -> int:
            with self._mutex, _transaction(self._writing):
                n = self._writing.execute(f"DELETE FROM replies WHERE {' AND '.join(conditions)}", values).rowcount
            if n:
                with contextlib.suppress(sqlite3.OperationalError):  # another process is at work: the room is used again by what it writes
                    self._writing.execute("VACUUM")
                    self._writing.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            return n

        return self._guarded("prune the cache of replies", delete)

    def export(self) -> Iterator[str]:
        """Every entry as a line of JSON (without the line break), oldest first: key, created, provider, model, rubric, answered_by, text, finish,

        input, cached_input, output.
        """
        names = ("key", "created", "provider", "model", "rubric", "answered_by", "text", "finish", "input", "cached_input", "output")
        sql, last = f"SELECT rowid, {', '.join(names)} FROM replies WHERE rowid > ? ORDER BY rowid LIMIT 1000", -1
        while rows := self._rows(sql, last):  # a query held open would keep the log from being folded back
            for _, key, *rest in rows:
                yield json.dumps(dict(zip(names, (key.hex(), *rest), strict=True)), ensure_ascii=False)
            last = rows[-1][0]

    # ---------------------------------------------------------------------------------------------------------------------- the file

    def _open(self) -> None:
        if self.path is None:
            self._reading = self._writing = sqlite3.connect("", isolation_level=None, check_same_thread=False)
            self._writing.execute(_TABLE)
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise disk_error(error, f"make the cache folder {self.path.parent}") from error
        with self._file_lock():  # two processes that make the file at once would find it locked
            try:
                self._connect()
            except sqlite3.Error as error:
                if not _is_damage(error):
                    raise self._explained(error, "open the cache of replies") from error
                self._move_aside(error)

    def _connect(self) -> None:
        """Two connections, so that reading never waits for a writer."""
        assert self.path is not None
        uri = f"file:{quote(str(self.path.absolute()))}"
        opened = [sqlite3.connect(uri, uri=True, isolation_level=None, timeout=_WAIT, check_same_thread=False) for _ in range(2)]
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
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        foreign = application not in (0, APPLICATION_ID)
        if foreign or (application == 0 and connection.execute("SELECT 1 FROM sqlite_master WHERE name <> 'replies'").fetchone()):
            raise StoreError(f"{self.path} belongs to another program, not to harness; it was left as it is: move it away")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > SCHEMA_VERSION:
            raise StoreError(
                f"{self.path} was written by a newer harness (cache version {version}, this one knows up to {SCHEMA_VERSION}); upgrade harness, "
                "or name another cache folder in HARNESS_CACHE"
            )
        network = self.path is not None and on_network(self.path)  # a write-ahead log needs memory that processes share: one machine
        connection.execute(f"PRAGMA journal_mode={'DELETE' if network else 'WAL'}")
        connection.execute(f"PRAGMA synchronous={'FULL' if network else 'NORMAL'}")
        if application == 0:
            with _transaction(connection):
                connection.execute(_TABLE)
                connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        connection.execute("SELECT count(*) FROM (SELECT 1 FROM replies LIMIT 1)").fetchone()

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
            raise self._explained(last, "open the cache of replies") from last

    def _mend(self, error: sqlite3.Error, opened: int) -> None:
        """After a sign of damage: begin anew, unless another thread or process has done so already."""
        with self._mutex, self._file_lock():
            if self._opened != opened:
                return
            self.close()
            try:
                self._connect()
                if self._writing.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok":
                    return
                self.close()
            except sqlite3.Error as again:
                if not _is_damage(again):
                    raise self._explained(again, "open the cache of replies") from again
            self._move_aside(error)

    def _file_lock(self) -> contextlib.AbstractContextManager[Any]:
        from filelock import FileLock

        assert self.path is not None
        return FileLock(self.path.with_name(f".{self.path.name}.lock"))

    def _guarded(self, doing: str, work: Callable[[], T]) -> T:
        """``work``, once more on a new file where this one turns out damaged; other errors of SQLite as StoreErrors."""
        opened = self._opened
        try:
            return work()
        except sqlite3.ProgrammingError:
            raise  # misuse by us, a closed cache
        except sqlite3.Error as error:
            if not _is_damage(error) or self.path is None:
                raise self._explained(error, doing) from error
            self._mend(error, opened)
            return work()

    def _rows(self, sql: str, *values: object) -> list[Any]:
        def read() -> list[Any]:
            with self._reader:
                return self._reading.execute(sql, values).fetchall()

        return self._guarded("read the cache of replies", read)

    def _explained(self, error: sqlite3.Error, doing: str) -> StoreError:
        message = str(error)
        if "full" in message:
            return StoreError(
                f"cannot {doing}: the disk is full; what {self.path} held is kept: free some space, then run the same command again"
            )
        if "readonly" in message:
            return StoreError(f"cannot {doing}: {self.path} is read-only; make it writable, or name another cache folder in HARNESS_CACHE")
        if "locked" in message or "busy" in message:
            return StoreError(f"cannot {doing}: another process keeps {self.path} locked; wait for it, then run the same command again")
        return StoreError(f"cannot {doing} ({self.path}): {message}; check the disk, or name another cache folder in HARNESS_CACHE")

    def _size(self) -> int:
        if self.path is None:
            return 0
        files = [self.path.with_name(self.path.name + end) for end in ("", "-wal")]
        return sum(file.stat().st_size for file in files if file.exists())


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise


def _tokens(entry: Entry) -> tuple[int, int, int]:
    usage = entry.reply.usage
    return usage.input, usage.cached_input, usage.output


def _is_damage(error: sqlite3.Error) -> bool:
    return any(word in str(error) for word in _DAMAGED)
