"""What a reader asks for: which texts, in which order, and where a page of them begins; read from an address, and turned into SQL.

Pages are found by the values of the row that they begin behind, never by counting rows from the start.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast, get_args

from harness.judging.agreement import OVERALL
from harness.types import ASPECTS
from harness.view.errors import BadRequest
from harness.view.names import Names
from harness.view.search import Search, Within, count_terms, parse_search

PAGE = 50
"""Texts on a page."""
LONGEST = 1000
"""Characters that a field of a filter may have."""
ASPECT_NAMES = (OVERALL, *ASPECTS)
MOST_TERMS = 30
"""Words, phrases and signs that may be searched for at once: each is a search of its own."""
CHOSEN = "chosen"
STATUSES = {"rated": "done", "unrated": "failed", "pending": "pending", "none": None}
"""A rating's status as the page calls it, and as the store does; ``none``: this judge has not been asked."""
_ROUNDING = 1e-9
_AT_CHOSEN = (
    "SELECT t.position FROM chosen c CROSS JOIN texts t ON t.labeling_id = c.labeling_id AND t.method_id = c.method_id AND t.strength = c.strength "
    "WHERE c.judge = ?"
)
_LAST = {"ASC": "9e99", "DESC": "-9e99"}


@dataclass(frozen=True)
class Order:
    """An order of texts: the column (of :class:`Columns`) that it goes by, and its direction. Equal ones follow the run's order."""

    title: str
    column: str
    direction: str = "ASC"
    needs_index: bool = False


ORDERS: Mapping[str, Order] = {
    "run": Order("as in the run", "position"),
    "newest": Order("newest first", "seq", "DESC"),
    **{
        name + suffix: Order(f"{name}, {title}", name, direction)
        for name in ASPECT_NAMES
        for suffix, title, direction in (("", "highest first", "DESC"), ("-low", "lowest first", "ASC"))
    },
    "strength": Order("strength, lowest first", "strength"),
    "strength-high": Order("strength, highest first", "strength", "DESC"),
    "differ": Order("judges differ most", "differ", "DESC", needs_index=True),
}


@dataclass(frozen=True)
class Filter:
    """What is shown.

    Attributes:
        q, within: the search, and where.
        method, concept, instruction, labeling: ids; empty for all.
        strength: a number, or ``chosen``: the strength that the ratings chose for each concept; None for all.
        judge: key of the judge whose ratings are meant.
        status: a name of :data:`STATUSES`; empty for all.
        least, most: bounds of ratings, by name (:data:`ASPECT_NAMES`).
        differ: two judges' ratings are apart by at least so much, summed over the three; 0 for whatever they say.
        order: a name of :data:`ORDERS`.
    """

    q: str = ""
    within: Within = "all"
    method: str = ""
    concept: str = ""
    instruction: str = ""
    labeling: str = ""
    strength: float | str | None = None
    judge: str = ""
    status: str = ""
    least: Mapping[str, float] = field(default_factory=dict)
    most: Mapping[str, float] = field(default_factory=dict)
    differ: float = 0.0
    order: str = "run"

    @property
    def search(self) -> Search:
        return parse_search(self.q, self.within)

    @property
    def needs_index(self) -> bool:
        """Return whether the run's file alone cannot tell."""
        return bool(self.q or self.differ or self.strength == CHOSEN or ORDERS[self.order].needs_index)

    @property
    def everything(self) -> bool:
        """Return whether it leaves no text out."""
        return not any((self.q, self.method, self.concept, self.instruction, self.labeling, self.status, self.least, self.most, self.differ)) and (
            self.strength is None
        )

    @property
    def key(self) -> str:
        """Identifies what is left in, in whatever order."""
        return repr((self.q, self.within, self.method, self.concept, self.instruction, self.labeling, self.strength, self.judge, self.status,
                     sorted(self.least.items()), sorted(self.most.items()), self.differ))  # fmt: skip


@dataclass(frozen=True)
class Cursor:
    """Where a page begins: behind (or before) the row with this value of the order's column and this position."""

    value: float
    position: int
    backward: bool = False

    def __str__(self) -> str:
        return f"{self.value!r}~{self.position}"


@dataclass(frozen=True)
class Columns:
    """How a table names what filters speak of, as SQL; ``i`` is the row of the text, ``o`` that of the judge's rating of it."""

    tables: str
    overall: str
    seq: str
    differ: str = "NULL"

    def of(self, name: str) -> str:
        """Return the SQL of a column of an order."""
        own = {OVERALL: self.overall, "seq": self.seq, "differ": self.differ, "position": "i.position", "strength": "i.strength"}
        return own.get(name) or f"o.{name}"


def read_filter(given: Mapping[str, str], names: Names) -> Filter:
    """Return the filter of an address' fields; unknown fields say nothing.

    Raises:
        BadRequest: a value that the field cannot have.
    """
    for name, value in given.items():
        if len(value) > LONGEST:
            raise BadRequest(f"{name!r:.50} has {len(value):,} characters", given=len(value), allowed=f"up to {LONGEST:,}")
    text = {name: given.get(name, "").strip() for name in ("q", "within", "method", "concept", "instruction", "labeling", "judge", "status", "order")}
    if (terms := count_terms(text["q"])) > MOST_TERMS:
        raise BadRequest(f"the search has {terms} words", given=terms, allowed=f"up to {MOST_TERMS}", hint='put a passage in "quotes"')
    _one_of("within", text["within"], ("", *get_args(Within)))
    _one_of("status", text["status"], ("", *STATUSES))
    _one_of("order", text["order"], ("", *ORDERS))
    _one_of("method", text["method"], ("", *names.methods))
    _one_of("judge", text["judge"], ("", *(judge.key for judge in names.judges)))
    text["concept"] = _concept(text["concept"], names)
    strength = given.get("strength", "").strip()
    differ = given.get("differ", "").strip()
    return Filter(
        q=text["q"],
        within=cast(Within, text["within"] or "all"),
        method=text["method"],
        concept=text["concept"],
        instruction=text["instruction"],
        labeling=text["labeling"],
        strength=None if not strength else CHOSEN if strength == CHOSEN else finite_number("strength", strength),
        judge=text["judge"] or names.own_judge,
        status=text["status"],
        order=text["order"] or "run",
        least=_bounds(given, "min"),
        most=_bounds(given, "max"),
        differ=finite_number("differ", differ) if differ else 0.0,
    )


def read_cursor(given: Mapping[str, str]) -> Cursor | None:
    """Return where the page begins; None for the first one. Raises BadRequest for what is no place."""
    for name, backward in (("after", False), ("before", True)):
        if text := given.get(name, ""):
            value, _, position = text.partition("~")
            try:
                found = Cursor(float(value), int(position), backward)
                if math.isnan(found.value) or not 0 <= found.position < 2**63:
                    raise ValueError
            except ValueError:
                raise BadRequest(f"{name} is {text!r:.80}, which is no place in the list", given=text, hint="begin at the first page") from None
            return found
    return None


def conditions(asked: Filter, columns: Columns) -> tuple[list[str], list[Any]]:
    """Return the conditions of a filter, and their values in order."""
    where: list[str] = []
    values: list[Any] = []

    def add(sql: str, *given: Any) -> None:
        where.append(sql)
        values.extend(given)

    for name in ("method", "concept", "instruction", "labeling"):
        if value := getattr(asked, name):
            add(f"i.{name}_id = ?", value)
    if asked.strength == CHOSEN:
        add(f"i.position IN ({_AT_CHOSEN})", asked.judge)
    elif asked.strength is not None:
        add("i.strength = ?", asked.strength)
    if asked.status:
        stored = STATUSES[asked.status]
        add("o.status IS NULL") if stored is None else add("o.status = ?", stored)
    for bounds, sign, slack in ((asked.least, ">=", -_ROUNDING), (asked.most, "<=", _ROUNDING)):
        for name, bound in bounds.items():
            add(f"{columns.of(name)} {sign} ?", bound + slack)
    if asked.differ:
        add(f"{columns.differ} >= ?", asked.differ - _ROUNDING)
    if asked.q:
        add("i.position IN (SELECT position FROM temp.hits)")  # Search.find has put them there
    return where, values


def page_query(asked: Filter, columns: Columns, cursor: Cursor | None, limit: int = PAGE + 1) -> tuple[str, list[Any]]:
    """Return the query for one page, with one row more where there is another: position, id, and the value that the order goes by.

    The rows of a page before a cursor come in reverse.
    """
    order = ORDERS[asked.order]
    backward = cursor is not None and cursor.backward
    direction = order.direction if not backward else {"ASC": "DESC", "DESC": "ASC"}[order.direction]
    by_run = "DESC" if backward else "ASC"
    key = columns.of(order.column)
    if order.column not in ("position", "seq"):
        key = f"ifnull({key}, {_LAST[order.direction]})"  # what has no value comes last
    where, values = conditions(asked, columns)
    if cursor is not None and order.column == "position":
        where.append(f"i.position {'<' if backward else '>'} ?")
        values.append(cursor.position)
    elif cursor is not None:
        beyond = ">" if direction == "ASC" else "<"
        where.append(f"({key} {beyond} ? OR ({key} = ? AND i.position {'<' if backward else '>'} ?))")
        values += [cursor.value, cursor.value, cursor.position]
    ordered = f"i.position {direction}" if order.column == "position" else f"{key} {direction}, i.position {by_run}"
    sql = f"SELECT i.position, i.id, {key} FROM {columns.tables}{_where(where)} ORDER BY {ordered} LIMIT {limit}"
    return sql, [asked.judge, *values]


def count_query(asked: Filter, columns: Columns) -> tuple[str, list[Any]]:
    """Return the query for what a filter holds: texts, ratings by status, and the mean of each rating."""
    where, values = conditions(asked, columns)
    statuses = ", ".join(f"sum(o.status = '{status}')" for status in ("done", "failed", "pending"))
    means = ", ".join(f"avg({columns.of(name)})" for name in ASPECT_NAMES)
    return f"SELECT count(*), {statuses}, {means} FROM {columns.tables}{_where(where)}", [asked.judge, *values]


def _where(conditions: Sequence[str]) -> str:
    return f" WHERE {' AND '.join(conditions)}" if conditions else ""


def _one_of(name: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        shown = ", ".join(one for one in allowed if one)
        raise BadRequest(f"{name} is {value!r:.80}", given=value, allowed=shown or "none", hint="choose one of the list")


def _bounds(given: Mapping[str, str], end: str) -> dict[str, float]:
    values = {name: given.get(f"{name}_{end}", "").strip() for name in ASPECT_NAMES}
    return {name: finite_number(f"{name}_{end}", value) for name, value in values.items() if value}


def _concept(given: str, names: Names) -> str:
    """Return the id of a concept that is given by its id or its text; what is neither stays, and fits no text."""
    if given in names.concepts:
        return given
    return next((identity for identity, text in names.concepts.items() if text.lower() == given.lower()), given)


def finite_number(name: str, value: str) -> float:
    """Return the number that an address gives for ``name``. Raises BadRequest for anything else."""
    try:
        found = float(value)
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise BadRequest(f"{name} is {value!r:.80}", given=value, allowed="a number")
    return found
