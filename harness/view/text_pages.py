"""A page of texts that a filter holds, from the index where it is ready, else from the run's file."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness.store.database import Database
from harness.types import Goal
from harness.view.filters import PAGE, Columns, Cursor, Filter, count_query, page_query
from harness.view.index import COLUMNS, run_columns
from harness.view.names import Names
from harness.view.texts import LONGEST, MARKS, Text, Unsteered, cut_into_segments, read_texts


@dataclass(frozen=True)
class Counts:
    """What a filter holds: texts, ratings of the judge by status, and the mean of each rating (overall first; None without any)."""

    texts: int
    rated: int
    unrated: int
    pending: int
    means: tuple[float | None, ...]


@dataclass(frozen=True)
class IdPage:
    """A page of texts.

    Attributes:
        ids: of the trials, in order.
        next, previous: where the neighbouring pages begin; None where there is none.
    """

    ids: tuple[str, ...]
    next: Cursor | None
    previous: Cursor | None


def find_in_index(connection: sqlite3.Connection, asked: Filter, cursor: Cursor | None) -> IdPage:
    """Return a page by the index; of a search after :meth:`harness.view.search.Search.find`."""
    return _id_page(connection.execute(*page_query(asked, COLUMNS, cursor)).fetchall(), cursor)


def find_in_run(database: Database, asked: Filter, cursor: Cursor | None, goal: Goal = "express") -> IdPage:
    """Return a page by the run's file alone; ``asked`` must not need the index. ``goal``: what its steering was for."""
    return _id_page(database.rows(*page_query(asked, run_columns(goal), cursor)), cursor)


def _id_page(rows: Sequence[tuple[Any, ...]], cursor: Cursor | None) -> IdPage:
    more, rows = len(rows) > PAGE, rows[:PAGE]
    backward = cursor is not None and cursor.backward
    if backward:
        rows = rows[::-1]
    if not rows:
        return IdPage((), None, None)
    first, last = (Cursor(float(row[2]), int(row[0])) for row in (rows[0], rows[-1]))
    has_next, has_previous = (backward or more), (more if backward else cursor is not None)
    return IdPage(tuple(row[1] for row in rows), last if has_next else None, replace(first, backward=True) if has_previous else None)


def count(connection: sqlite3.Connection, asked: Filter, columns: Columns = COLUMNS) -> Counts:
    """Return what a filter holds, by the index; of a search after :meth:`harness.view.search.Search.find`."""
    texts, rated, unrated, pending, *means = connection.execute(*count_query(asked, columns)).fetchone()
    return Counts(texts, rated or 0, unrated or 0, pending or 0, tuple(means))


def complete_texts(
    database: Database, names: Names, unsteered: Unsteered, index: sqlite3.Connection, ids: Sequence[str], asked: Filter, *, uncut: bool = False
) -> list[Text]:
    """Return texts with the unsteered ones beside them, their chosen strengths, and what was searched for marked.

    Args:
        database: the run's file.
        names: of the run.
        unsteered: of the run.
        index: of the run, as far as it is made.
        ids: of the trials, in the order in which they are shown.
        asked: whose search is marked, and whose judge's choice counts.
        uncut: nothing is cut.
    """
    texts = read_texts(database, names, ids)
    beside = read_texts(database, names, list(dict.fromkeys(other for text in texts.values() if (other := unsteered.of(text)))))
    chosen = _chosen(index, asked.judge, texts.values())
    marked = _marked(index, asked, [text.position for text in texts.values()])
    longest = None if uncut else LONGEST
    parts = asked.search.parts
    found = []
    for text in (texts[identity] for identity in ids if identity in texts):
        shown, left = cut_into_segments(marked.get(text.position, text.text or ""), parts, longest)
        choice = chosen.get((text.method.id, text.labeling_id))
        found.append(replace(text, segments=shown, left_out=left, unsteered=_cut(beside.get(unsteered.of(text)), longest), chosen=choice))
    return found


def _cut(text: Text | None, longest: int | None) -> Text | None:
    if text is None or text.text is None:
        return None
    shown, left = cut_into_segments(text.text, longest=longest)
    return replace(text, segments=shown, left_out=left)


def _chosen(index: sqlite3.Connection, judge: str, texts: Any) -> dict[tuple[str, str], float]:
    labelings = json.dumps(sorted({text.labeling_id for text in texts}))
    sql = "SELECT method_id, labeling_id, strength FROM chosen WHERE judge = ? AND labeling_id IN (SELECT value FROM json_each(?))"
    return {(method, labeling): float(strength) for method, labeling, strength in index.execute(sql, (judge, labelings))}


def _marked(index: sqlite3.Connection, asked: Filter, positions: Sequence[int]) -> dict[int, str]:
    """Return the texts in which words were found, with marks around them."""
    match = asked.search.match
    if not match:
        return {}
    sql = "SELECT rowid, highlight(words, 0, ?, ?) FROM words WHERE words MATCH ? AND rowid = ?"
    return dict(row for position in positions for row in index.execute(sql, (*MARKS, match, position)))


def ids_at_all_strengths(index: sqlite3.Connection, text: Text) -> list[str]:
    """Return the ids of the texts of the same method, labeling and instruction, by strength."""
    sql = "SELECT id FROM texts WHERE labeling_id = ? AND method_id = ? AND instruction_id = ? ORDER BY strength, position"
    return [row[0] for row in index.execute(sql, (text.labeling_id, text.method.id, text.instruction_id))]
