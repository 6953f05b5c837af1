"""A run's items and what came of them, of any kind of evaluation; facts and notes of the run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from harness.errors import StoreError
from harness.store.folder import RunFolder, now
from harness.store.values import (
    GENERATE,
    ITEM_COLUMNS,
    OUTCOME_COLUMNS,
    RATE,
    Item,
    Outcome,
    OutcomeStatus,
    encode,
    item_row,
    outcome_rating,
    outcome_row,
    pack,
    row_item,
    row_outcome,
    unpack,
)
from harness.types import EvaluationKind, Json

PAGE = 500
"""Rows that are read at once: between two pages others may write."""

ITEM = ", ".join(f"i.{name}" for name in ITEM_COLUMNS)
OUTCOME = ", ".join(f"o.{name}" for name in OUTCOME_COLUMNS)
_INSERT_ITEM = f"INSERT INTO items ({', '.join(ITEM_COLUMNS)}) VALUES ({', '.join('?' * len(ITEM_COLUMNS))}) ON CONFLICT (id) DO NOTHING"
_PUT_OUTCOME = (
    f"INSERT INTO outcomes ({', '.join(OUTCOME_COLUMNS)}, stage, created) VALUES ({', '.join('?' * len(OUTCOME_COLUMNS))}, ?, ?) "
    "ON CONFLICT (stage, source, item_id) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in (*OUTCOME_COLUMNS[2:], "created"))
)


@dataclass(frozen=True)
class Note:
    """Something worth keeping that is not a value of the evaluation: a warning, a timing, library versions. ``created`` is ISO 8601, UTC."""

    created: str
    kind: str
    value: Json


class ItemStore(RunFolder):
    """The part of a run store that is the same for every kind of evaluation. Use :class:`harness.store.RunStore`."""

    # ---------------------------------------------------------------------------------------------------------------------- items

    def add_items(self, items: Iterable[Item]) -> None:
        """Store items; those that are stored keep their place. One transaction.

        Raises:
            StoreError: a value that cannot be stored, or an id that is stored with another content.
        """
        with self._database.transaction("store the items"):
            for item in items:
                row = item_row(item)
                stored = self._database.rows(f"SELECT {ITEM} FROM items i WHERE i.id = ?", (item.id,))
                if not stored:
                    self._database.execute(_INSERT_ITEM, row)
                elif stored[0] != row:
                    message = f"the run in {self.folder} has another item {item.id!r}"
                    raise StoreError(message, given=item.id, hint="choose another folder (--out)")

    def _insert_items(self, items: Iterable[Item]) -> None:
        """Store items whose id covers all of their content; within a transaction."""
        self._database.execute_many(_INSERT_ITEM, map(item_row, items))

    def items(self, kind: EvaluationKind | None = None, method_id: str | None = None) -> list[Item]:
        """Return the items stored, of all kinds or one, of all methods or one, in order."""
        asked = {"kind": kind, "method_id": method_id}
        where = [f"i.{name} = ?" for name, value in asked.items() if value is not None]
        sql = f"SELECT {ITEM} FROM items i {'WHERE ' + ' AND '.join(where) if where else ''} ORDER BY i.position"
        return [row_item(row) for row in self._database.rows(sql, [value for value in asked.values() if value is not None])]

    def missing_items(
        self, kind: EvaluationKind, stage: str, source: str, *, retry_failed: bool = False, after: str | None = None
    ) -> list[Item]:
        """Return the items that a stage has still to do, in order. Those that are pending are not among them.

        Args:
            kind: of the evaluation.
            stage: the stage.
            source: whose outcomes count.
            retry_failed: also those that failed.
            after: only items whose outcome of this earlier stage is done.
        """
        sql = (
            f"SELECT {ITEM} FROM items i LEFT JOIN outcomes o ON o.item_id = i.id AND o.stage = ? AND o.source = ? "
            f"WHERE i.kind = ? AND (o.status IS NULL{' OR o.status = ' + repr('failed') if retry_failed else ''})"
        )
        values = [stage, source, kind]
        if after is not None:
            sql += " AND EXISTS (SELECT 1 FROM outcomes b WHERE b.item_id = i.id AND b.stage = ? AND b.status = 'done')"
            values.append(after)
        return [row_item(row) for row in self._database.rows(sql + " ORDER BY i.position", values)]

    def item_counts(self) -> dict[str, tuple[int, int]]:
        """By kind: how many items there are, and how many of them are done in their kind's first stage."""
        sql = (
            "SELECT kind, count(*), sum(EXISTS (SELECT 1 FROM outcomes o WHERE o.item_id = i.id AND o.stage <> ? AND o.status = 'done')) "
            "FROM items i GROUP BY kind ORDER BY min(position)"
        )
        return {kind: (int(items), int(done)) for kind, items, done in self._database.rows(sql, (RATE,))}

    # ------------------------------------------------------------------------------------------------------------------- outcomes

    def add_outcome(self, stage: str, outcome: Outcome, *, replace: bool = False) -> bool:
        """Store what came of an item; committed before the call returns.

        An outcome takes the place of a pending or failed one of its stage, source and item. One that differs from one that is ``done`` is put
        down as a note of kind ``outcome-ignored`` (a rating: ``rating-ignored``) instead, so nothing is lost and the first one stands;
        ``replace`` lets it take the place. A trial has one text, whichever engine made it.

        Returns:
            Whether it was stored.

        Raises:
            StoreError: an item that the run does not have, or a value that cannot be stored.
        """
        with self._database.transaction("store an outcome"):
            return self._put_outcome(stage, outcome, replace)

    def _put_outcome(self, stage: str, outcome: Outcome, replace: bool = False) -> bool:
        """:meth:`add_outcome` within a transaction of the caller's."""
        row = outcome_row(stage, outcome)
        sql = f"SELECT {OUTCOME} FROM outcomes o WHERE o.item_id = ? AND o.stage = ? AND (o.source = ?{' OR 1' if stage == GENERATE else ''})"
        stored = self._database.rows(sql, (outcome.item_id, stage, outcome.source))
        if not stored and self._database.value("SELECT 1 FROM items WHERE id = ?", (outcome.item_id,)) is None:
            message = f"the run in {self.folder} has no item {outcome.item_id!r}"
            raise StoreError(message, given=outcome.item_id, hint="add the item first")
        done = [other for other in stored if row_outcome(other).status == "done"]
        if row in stored or any(row[1:] == other[1:] for other in done):
            return False
        if done and not replace:
            self._ignore(stage, outcome)
            return False
        for source, item_id, *_ in done if stage == GENERATE else ():
            self._database.execute("DELETE FROM outcomes WHERE stage = ? AND source = ? AND item_id = ?", (stage, source, item_id))
        self._database.execute(_PUT_OUTCOME, (*row, stage, now()))
        return True

    def _ignore(self, stage: str, outcome: Outcome) -> None:
        if stage == RATE:
            self.note("rating-ignored", {"judge": outcome.source, "ignored": outcome_rating(outcome)})
        else:
            self.note("outcome-ignored", {"stage": stage, "ignored": outcome})

    def outcomes(
        self, stage: str, source: str | None = None, *, status: OutcomeStatus | None = None, kind: EvaluationKind | None = None
    ) -> Iterator[Outcome]:
        """Yield the outcomes of a stage in the order of their items, of all sources or one; read in pages."""
        asked = {"o.source": source, "o.status": status, "i.kind": kind}
        where = "".join(f" AND {name} = ?" for name, value in asked.items() if value is not None)
        # without a source SQLite would look through the whole stage for each item, if it could, in place of the item's own outcomes
        stage_of = "+o.stage" if source is None else "o.stage"
        sql = (
            f"SELECT i.position, {OUTCOME} FROM items i CROSS JOIN outcomes o ON o.item_id = i.id AND {stage_of} = ? "
            f"WHERE i.position >= ? AND (i.position > ? OR o.source > ?){where} ORDER BY i.position, o.source LIMIT {PAGE}"
        )
        values = [value for value in asked.values() if value is not None]
        position, last = -1, ""
        while rows := self._database.rows(sql, (stage, position, position, last, *values)):
            position, last = rows[-1][0], rows[-1][1]
            yield from (row_outcome(row[1:]) for row in rows)

    def item_outcomes(self, kind: EvaluationKind) -> Iterator[tuple[Item, str | None, Outcome | None]]:
        """Yield the items of a kind in order, each with stage and outcome: once for each outcome, or once with None; read in pages."""
        sql = (
            f"SELECT i.position, {ITEM}, o.stage, {OUTCOME} FROM items i LEFT JOIN outcomes o ON o.item_id = i.id WHERE i.position IN "
            f"(SELECT position FROM items WHERE kind = ? AND position > ? ORDER BY position LIMIT {PAGE}) ORDER BY i.position, o.stage, o.source"
        )
        last, stage = -1, 1 + len(ITEM_COLUMNS)
        while rows := self._database.rows(sql, (kind, last)):
            last = rows[-1][0]
            for row in rows:
                outcome = None if row[stage] is None else row_outcome(row[stage + 1 :])
                yield row_item(row[1:stage]), row[stage], outcome

    def outcome_counts(self, stage: str, source: str | None = None) -> dict[OutcomeStatus, int]:
        """Return how many outcomes of a stage are ``done``, ``failed`` and ``pending``, of all sources or one."""
        where, values = ("", (stage,)) if source is None else (" AND source = ?", (stage, source))
        rows = self._database.rows(f"SELECT status, count(*) FROM outcomes WHERE stage = ?{where} GROUP BY status", values)
        return {"done": 0, "failed": 0, "pending": 0, **dict(rows)}

    def sources(self, stage: str) -> list[str]:
        """Return the sources of a stage's outcomes, by name."""
        return [row[0] for row in self._database.rows("SELECT DISTINCT source FROM outcomes WHERE stage = ? ORDER BY source", (stage,))]

    # -------------------------------------------------------------------------------------------------------------- facts and notes

    def set_record(self, name: str, value: Json, *, replace: bool = False) -> None:
        """Keep a fact of the run under a name, e.g. which texts detection reports on; a large one is compressed.

        Raises:
            StoreError: a value that JSON cannot hold, or (without ``replace``) one that differs from what is stored under the name.
        """
        text = encode(value, f"the record {name!r}")
        with self._database.transaction(f"store the record {name!r}"):
            stored = self._database.value("SELECT value FROM facts WHERE name = ?", (name,))
            if stored is not None and unpack(stored) == text:
                return
            if stored is not None and not replace:
                message = f"the run in {self.folder} has another record {name!r}"
                raise StoreError(message, given=name, hint="choose another folder (--out)")
            self._database.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, pack(text)))

    def record(self, name: str) -> Json:
        """Return the fact kept under a name, or None."""
        stored = self._database.value("SELECT value FROM facts WHERE name = ?", (name,))
        return None if stored is None else json.loads(unpack(stored))

    def note(self, kind: str, value: Json) -> None:
        """Keep a warning, a timing, versions, … under a kind of the caller's choice."""
        text = encode(value, f"a note of kind {kind!r}")
        with self._database.transaction("store a note"):
            self._database.execute("INSERT INTO notes (created, kind, value) VALUES (?, ?, ?)", (now(), kind, text))

    def notes(self, kind: str | None = None) -> list[Note]:
        """Return the notes of a kind (None: of all kinds), oldest first."""
        where, values = ("", ()) if kind is None else ("WHERE kind = ?", (kind,))
        rows = self._database.rows(f"SELECT created, kind, value FROM notes {where} ORDER BY id", values)
        return [Note(created, stored_kind, json.loads(value)) for created, stored_kind, value in rows]
