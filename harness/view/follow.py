"""Brings an index up to date with a run's file, a portion at a time: what is new first, then what has changed.

Whether the index is complete is not guessed: the sum of the digests of the rows that it has seen is the digest that the run's file holds for each
group of outcomes (:mod:`harness.store.digests`). Where the two differ after all new rows have been read, rows have changed in place (a pending
rating that came) or gone: those written lately are read again, and if that does not do, all are compared.

A portion is read from the run's file within milliseconds and written to the index after that file is closed.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from harness.files.json_text import parse_json
from harness.files.sqlite import transaction
from harness.store.database import Database
from harness.store.digests import row_digest
from harness.store.values import GENERATE, RATE
from harness.types import Goal
from harness.view.chosen import update_chosen
from harness.view.index import Index, overall_sql
from harness.view.names import Names
from harness.view.run_file import Marks, RunFile, marks

PORTION = 2000
"""Rows that are read at once."""

_MOST_RECENT = 20 * PORTION
_MODULUS = 1 << 128
_OUTCOME = ("stage", "source", "item_id", "status", "ticket", "created", "concept", "instruction", "fluency", "reason", "value")
_OWN = len(_OUTCOME)


def _rows_sql(goal: Goal) -> str:
    own = ", ".join(f"o.{name}" for name in _OUTCOME)
    return (
        f"SELECT {own}, o.rowid, {overall_sql(goal)}, i.position, i.kind, i.method_id, i.labeling_id, "
        "i.concept_id, i.strength, i.instruction_id FROM outcomes o LEFT JOIN items i ON i.id = o.item_id "
    )


@dataclass(frozen=True)
class Row:
    """A row of the run's outcomes, with its item; ``position`` is None where there is no item."""

    columns: tuple[Any, ...]
    seq: int
    overall: float | None
    position: int | None
    kind: str
    place: tuple[Any, ...]

    @classmethod
    def of(cls, row: Sequence[Any]) -> Row:
        """Return the row of :func:`_rows_sql`."""
        seq, overall, position, kind, *place = row[_OWN:]
        return cls(tuple(row[:_OWN]), seq, overall, position, kind, tuple(place))

    @property
    def group(self) -> str:
        """The group of records whose digest it is part of."""
        return f"outcomes {self.columns[0]} {self.columns[1]}"


class Follower:
    """Brings one index up to date.

    Args:
        file: the run's.
        index: of that run.
        names: what the ids stand for, read anew whenever it is called.
        stopped: asked between portions; True ends the work there.

    Attributes:
        share: how much of the run is in the index, 0 to 1.
        damaged: groups of outcomes that are not as they were written.
    """

    def __init__(self, file: RunFile, index: Index, names: Callable[[], Names], stopped: Callable[[], bool]) -> None:
        self._file, self._index, self._names, self._stopped = file, index, names, stopped
        self._state: object = None
        self.share = 0.0
        self.damaged: tuple[str, ...] = ()

    def follow(self) -> bool:
        """Bring the index up to date with what the run's file holds now. Return whether anything changed.

        Raises:
            StoreError: the run's file cannot be read.
            sqlite3.Error: the index cannot be written, or is damaged.
        """
        state = self._file.state()
        if state == self._state:
            return False
        with self._index.open(write=True) as connection:
            changed, wanted = self._append(connection)
            if wanted is not None:
                changed |= self._correct(connection, wanted, state)
            if changed:
                with transaction(connection):
                    update_chosen(connection, self._names().rule)
                    _set(connection, "version", str(int(self._index.meta(connection, "version", "0")) + 1))
            if not self._stopped():
                with transaction(connection):
                    _set(connection, "complete", "1")
                self.share, self._state = 1.0, state
        return changed

    @cached_property
    def _goal(self) -> Goal:
        """What the run's steering is for, which is settled when the run begins."""
        return self._names().rule.goal

    # ---------------------------------------------------------------------------------------------------------------- the passes

    def _append(self, connection: sqlite3.Connection) -> tuple[bool, Marks | None]:
        """Take over the rows behind the last one that was seen. Return whether there were any, and the digests of that moment (None: stopped)."""
        changed = False
        while not self._stopped():
            last = _last_seen(connection)
            rows, wanted, last_row = self._snapshot("o.rowid > ?", last)
            changed |= self._apply(connection, rows)
            self.share = max(self.share, min(0.999, (rows[-1].seq if rows else last) / max(last_row, 1)))
            if len(rows) < PORTION:
                return changed, wanted
        return changed, None

    def _correct(self, connection: sqlite3.Connection, wanted: Marks, state: object) -> bool:
        """Read again what has changed in place, as far as the digests tell that something has; all of it where there are none."""
        if wanted and wanted == _groups(connection):
            self.damaged = ()
            return False
        changed = False
        if wanted:
            since, last = self._index.meta(connection, "latest"), _last_seen(connection)
            rows, wanted, _ = self._snapshot("o.created >= ? OR o.rowid > ?", since, last, limit=_MOST_RECENT)
            changed = self._apply(connection, rows)
            if wanted == _groups(connection):
                self.damaged = ()
                return changed
        changed |= self._compare_all(connection)
        more, now = self._append(connection)
        if now is not None:
            own = _groups(connection)
            unchanged = state == self._file.state()
            self.damaged = tuple(sorted(name for name in {*now, *own} if now.get(name) != own.get(name))) if now and unchanged else ()
        return changed or more

    def _compare_all(self, connection: sqlite3.Connection) -> bool:
        """Compare every row with what was seen of it, and forget what has gone."""
        before, changed = 0, False
        while not self._stopped():
            with self._file.open() as database:
                rows = _read(database, self._goal, "o.rowid > ?", before)
            until = rows[-1].seq if len(rows) == PORTION else 2**62
            seen = connection.execute("SELECT seq FROM seen WHERE seq > ? AND seq <= ?", (before, until)).fetchall()
            gone = {seq for (seq,) in seen} - {row.seq for row in rows}
            if gone:
                with transaction(connection):
                    for seq in gone:
                        _forget(connection, seq)
            changed |= bool(gone)
            changed |= self._apply(connection, rows)
            if len(rows) < PORTION:
                break
            before = until
        return changed

    def _snapshot(self, where: str, *values: Any, limit: int = PORTION) -> tuple[list[Row], Marks, int]:
        """Return rows, the digests of the outcomes (empty where the file has none), and the last row's number, all of one moment."""
        with self._file.open() as database:
            database.rows("BEGIN")
            try:
                rows = _read(database, self._goal, where, *values, limit=limit)
                found = {name: mark for name, mark in marks(database).items() if name.startswith("outcomes ") and mark[0]}
                return rows, found, int(database.value("SELECT ifnull(max(rowid), 0) FROM outcomes"))
            finally:
                database.rows("ROLLBACK")

    # ----------------------------------------------------------------------------------------------------------------- the rows

    def _apply(self, connection: sqlite3.Connection, rows: Sequence[Row]) -> bool:
        """Take over rows that are new or have changed, in one transaction. Return whether there were any."""
        if not rows:
            return False
        names = self._names()
        with transaction(connection):
            changed = _note_seen(connection, rows)
            texts = [row for row in changed if row.columns[0] == GENERATE and row.columns[3] == "done" and row.position is not None]
            ratings = [row for row in changed if row.columns[0] == RATE and row.position is not None]
            connection.executemany("INSERT OR REPLACE INTO texts VALUES (?, ?, ?, ?, ?, ?, ?, ?, NULL)", map(_text, texts))
            connection.executemany("INSERT OR REPLACE INTO words (rowid, text, instruction, concept) VALUES (?, ?, ?, ?)", _words(texts, names))
            connection.executemany("INSERT OR IGNORE INTO judges (key) VALUES (?)", {(row.columns[1],) for row in ratings})
            judges = dict(connection.execute("SELECT key, id FROM judges"))
            connection.executemany(
                "INSERT OR REPLACE INTO ratings VALUES (?, ?, ?, ?, ?, ?, ?, ?)", [_rating(row, judges[row.columns[1]]) for row in ratings]
            )
            if len(judges) > 1:
                _update_differ(connection, {row.position for row in (*texts, *ratings) if row.position is not None})
            if changed:
                latest = max(row.columns[5] for row in changed)
                _set(connection, "latest", max(latest, self._index.meta(connection, "latest")))
        return bool(changed)


def _read(database: Database, goal: Goal, where: str, *values: Any, limit: int = PORTION) -> list[Row]:
    return [Row.of(row) for row in database.rows(f"{_rows_sql(goal)} WHERE {where} ORDER BY o.rowid LIMIT {limit}", values)]


def _last_seen(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT ifnull(max(seq), 0) FROM seen").fetchone()[0])


def _note_seen(connection: sqlite3.Connection, rows: Sequence[Row]) -> list[Row]:
    """Count rows into the digests of their groups; return those that were not counted before as they are."""
    sql = "SELECT seq, digest FROM seen WHERE seq IN (SELECT value FROM json_each(?))"
    known = dict(connection.execute(sql, (json.dumps([row.seq for row in rows]),)))
    changed, seen = [], []
    sums: dict[str, tuple[int, int]] = {}
    for row in rows:
        own = row_digest(row.columns)
        if known.get(row.seq) == own:
            continue
        if row.seq in known:
            _forget(connection, row.seq)
        changed.append(row)
        seen.append((row.seq, row.group, own))
        count, total = sums.get(row.group, (0, 0))
        sums[row.group] = count + 1, total + int.from_bytes(own, "big")
    for group, (count, total) in sums.items():
        connection.execute("INSERT OR IGNORE INTO groups (name, rows, value) VALUES (?, 0, ?)", (group, f"{0:032x}"))
        _count(connection, group, count, total)
    groups = dict(connection.execute("SELECT name, id FROM groups"))
    connection.executemany("INSERT INTO seen VALUES (?, ?, ?)", [(seq, groups[group], own) for seq, group, own in seen])
    return changed


def _forget(connection: sqlite3.Connection, seq: int) -> None:
    """Take a row out again, with the text or rating that it was."""
    sql = "SELECT g.name, s.digest FROM seen s JOIN groups g ON g.id = s.group_id WHERE s.seq = ?"
    group, own = connection.execute(sql, (seq,)).fetchone()
    connection.execute("DELETE FROM seen WHERE seq = ?", (seq,))
    _count(connection, group, -1, -int.from_bytes(own, "big"))
    connection.execute("DELETE FROM words WHERE rowid IN (SELECT position FROM texts WHERE seq = ?)", (seq,))
    connection.execute("DELETE FROM texts WHERE seq = ?", (seq,))
    connection.execute("DELETE FROM ratings WHERE seq = ?", (seq,))


def _count(connection: sqlite3.Connection, group: str, rows: int, total: int) -> None:
    value = connection.execute("SELECT value FROM groups WHERE name = ?", (group,)).fetchone()[0]
    connection.execute("UPDATE groups SET rows = rows + ?, value = ? WHERE name = ?", (rows, f"{(int(value, 16) + total) % _MODULUS:032x}", group))


def _text(row: Row) -> tuple[Any, ...]:
    method, labeling, concept, strength, instruction = row.place
    return row.position, row.columns[2], row.seq, method, labeling, concept, strength, instruction


def _words(rows: Sequence[Row], names: Names) -> Iterator[tuple[Any, ...]]:
    for row in rows:
        _, _, concept, _, instruction = row.place
        yield row.position, text_of(row.columns[-1]), names.instruction(instruction), names.concept(concept)


def text_of(value: str) -> str:
    """Return the text in an outcome's value; empty where no harness wrote it."""
    try:
        text = parse_json(value, surrogates="replace")["text"]
    except (ValueError, TypeError, KeyError):
        return ""
    return text if isinstance(text, str) else ""


def _rating(row: Row, judge: int) -> tuple[Any, ...]:
    return row.position, judge, row.seq, row.columns[3], row.overall, *row.columns[6:9]


def _update_differ(connection: sqlite3.Connection, positions: set[int]) -> None:
    """Note how far the judges are apart on texts, as :class:`harness.judging.agreement.Disagreement` has it: of each two that rated one."""
    apart = " + ".join(f"abs(a.{aspect} - b.{aspect})" for aspect in ("concept", "instruction", "fluency"))
    sql = (
        f"UPDATE texts SET differ = (SELECT max({apart}) FROM ratings a JOIN ratings b ON b.position = a.position AND b.judge > a.judge "
        "WHERE a.position = texts.position) WHERE position = ?"
    )
    connection.executemany(sql, [(position,) for position in positions])


def _groups(connection: sqlite3.Connection) -> Marks:
    """Return the digests of the rows that were seen, by group."""
    return {name: (rows, value) for name, rows, value in connection.execute("SELECT name, rows, value FROM groups WHERE rows > 0")}


def _set(connection: sqlite3.Connection, key: str, value: str) -> None:
    connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))
