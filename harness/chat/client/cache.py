"""Replies that were paid for, kept in one SQLite file by what was asked: several processes may read and write it at once.

The key of an entry is :meth:`harness.chat.values.ChatRequest.key`, so a changed rubric, model or parameter never meets an old reply. Beside the
replies stands which requests are open in a batch: what was handed in is not handed in again, whoever did so. The file itself is
the business of :mod:`harness.chat.client.cache_file`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from harness.chat.client.cache_file import CacheFile
from harness.chat.values import ChatReply, Usage
from harness.errors import StoreError
from harness.files.json_output import json_text

FILE_NAME = "replies.sqlite"
"""The cache's file in the cache folder."""

MOST = 2**53
"""A larger number of tokens is none, and not every program that reads the file can hold it."""

_PUT = "INSERT OR IGNORE INTO replies VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_GET = "SELECT text, input, cached_input, output, answered_by, finish FROM replies WHERE key = ?"


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
        self._file = CacheFile(path)

    # ------------------------------------------------------------------------------------------------------------------------- use

    def get(self, key: str) -> ChatReply | None:
        """Return the reply kept under ``key`` (64 hex digits), marked ``from_cache``; None where there is none.

        ``usage`` is what it cost at its time.
        """
        rows = self._file.rows(_GET, bytes.fromhex(key))
        if not rows:
            return None
        text, tokens_in, cached, tokens_out, model, finish = rows[0]
        return ChatReply(text, Usage(tokens_in, cached, tokens_out), model, finish, from_cache=True)

    def __contains__(self, key: str) -> bool:
        return bool(self._file.rows("SELECT 1 FROM replies WHERE key = ?", bytes.fromhex(key)))

    def __len__(self) -> int:
        return int(self._file.rows("SELECT count(*) FROM replies")[0][0])

    def put(self, key: str, reply: ChatReply, *, provider: str = "", model: str = "", rubric: str = "") -> None:
        """Keep a reply. A key that is there already keeps its first reply."""
        self.put_many([Entry(key, reply, provider, model, rubric)])

    def put_many(self, entries: Iterable[Entry], *, batch: str | None = None) -> None:
        """Keep several replies, all or none of them. Those that came from ``batch`` are open in it no more.

        A number beyond :data:`MOST` becomes that.
        """
        rows = [_row(entry, _now()) for entry in entries]

        def write(connection: sqlite3.Connection) -> None:
            connection.executemany(_PUT, rows)
            if batch is not None:
                connection.executemany("DELETE FROM handed_in WHERE key = ? AND batch = ?", [(row[0], batch) for row in rows])

        self._file.write("store replies in the cache", write)

    def check_writable(self) -> None:
        """Raise StoreError where replies could not be kept, before one is paid for."""
        self._file.check_writable("keep new replies")

    def answered(self, provider: str, model: str, rubric: str) -> bool:
        """Return whether any reply of this model to a question of this rubric is kept; looks through all."""
        sql = "SELECT 1 FROM replies WHERE provider = ? AND model = ? AND rubric = ? LIMIT 1"
        return bool(self._file.rows(sql, *(storable(text) for text in (provider, model, rubric))))

    def close(self) -> None:
        """Close the file. Idempotent."""
        self._file.close()

    def __enter__(self) -> ReplyCache:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---------------------------------------------------------------------------------------------------------- requests in batches

    def hand_in(self, batch: str, keys: Iterable[str]) -> None:
        """Note that the requests of these keys are open in a batch, all or none; to be called at once when the batch was taken."""
        rows = [(bytes.fromhex(key), storable(batch), _now()) for key in keys]
        sql = "INSERT OR REPLACE INTO handed_in VALUES (?, ?, ?)"
        self._file.write("note what was handed in", lambda connection: connection.executemany(sql, rows))

    def batch_of(self, key: str) -> str | None:
        """Return the batch in which a request is open; None where it is in none."""
        rows = self._file.rows("SELECT batch FROM handed_in WHERE key = ?", bytes.fromhex(key))
        return str(rows[0][0]) if rows else None

    def open_in(self, batch: str) -> set[str]:
        """Return the keys of the requests that are open in a batch."""
        return {key.hex() for (key,) in self._file.rows("SELECT key FROM handed_in WHERE batch = ?", storable(batch))}

    def rename(self, name: str, batch: str) -> None:
        """What was noted under a name is open in this batch: of one that was unconfirmed, the id is known now."""
        sql, values = "UPDATE handed_in SET batch = ? WHERE batch = ?", (storable(batch), storable(name))
        self._file.write("note the id of a batch", lambda connection: connection.execute(sql, values))

    def settle(self, batch: str) -> None:
        """A batch is over: what is still open in it will not be answered, and may be handed in again."""
        self._file.write(
            "note the end of a batch", lambda connection: connection.execute("DELETE FROM handed_in WHERE batch = ?", (storable(batch),))
        )

    def handing_in(self) -> AbstractContextManager[Any]:
        """Return a lock for who looks what is open and hands in the rest: two processes that do so at once would both pay."""
        return self._file.lock("batches")

    # ------------------------------------------------------------------------------------------------------------------ maintenance

    def stats(self) -> CacheStats:
        """Return entries, bytes, and the entries of each model, the most frequent first."""
        sql = (
            "SELECT provider, model, count(*), sum(input), sum(cached_input), sum(output), min(created), max(created) FROM replies "
            "GROUP BY provider, model ORDER BY count(*) DESC, provider, model"
        )
        models = tuple(ModelStats(p, m, n, Usage(i, c, o), first, last) for p, m, n, i, c, o, first, last in self._file.rows(sql))
        return CacheStats(str(self.path or "temporary"), sum(model.entries for model in models), self._file.size, models)

    def prune(self, *, days: float | None = None, model: str | None = None) -> int:
        """Delete entries, and give their room back to the disk; the number that went. Both conditions must hold where both are given.

        Args:
            days: only entries older than this.
            model: only entries of this model, as it was asked for or as the server named it.

        Raises:
            StoreError: without any condition: to delete everything, delete the file.
        """
        if days is None and model is None:
            raise StoreError("nothing to prune by", allowed="days, a model or both", hint=f"to delete every reply, delete {self.path}")
        conditions, values = [], list[str]()
        if days is not None:
            conditions.append("created < ?")
            values.append((datetime.now(timezone.utc) - timedelta(days=days)).isoformat(timespec="seconds"))
        if model is not None:
            conditions.append("(model = ? OR answered_by = ?)")
            values += [model, model]

        sql = f"DELETE FROM replies WHERE {' AND '.join(conditions)}"
        n = self._file.write("prune the cache of replies", lambda connection: connection.execute(sql, values).rowcount)
        if n:
            self._file.shrink()
        return n

    def export(self) -> Iterator[str]:
        """Yield every entry as a line of JSON, without the line break, oldest first.

        Its names are key, created, provider, model, rubric, answered_by, text, finish, input, cached_input and output.
        """
        names = ("key", "created", "provider", "model", "rubric", "answered_by", "text", "finish", "input", "cached_input", "output")
        sql, last = f"SELECT rowid, {', '.join(names)} FROM replies WHERE rowid > ? ORDER BY rowid LIMIT 1000", -1
        while rows := self._file.rows(sql, last):  # a query held open would keep the log from being folded back
            for _, key, *rest in rows:
                yield json_text(dict(zip(names, (key.hex(), *rest), strict=True)))
            last = rows[-1][0]


def storable(text: str) -> str:
    """Return a name without halves of characters, which no file can hold; replies are cleaned when they come."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _row(entry: Entry, now: str) -> tuple[Any, ...]:
    reply, usage = entry.reply, entry.reply.usage
    names = (entry.provider, entry.model or reply.model, entry.rubric)
    counts = (usage.input, usage.cached_input, usage.output)
    return (bytes.fromhex(entry.key), now, *map(storable, names), reply.model, reply.text, reply.finish, *(min(max(n, 0), MOST) for n in counts))


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
