"""Tables as plain values: what stands in each cell, and what it is sorted by."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from harness.leaderboard import columns
from harness.leaderboard.columns import MISSING, number
from harness.leaderboard.layout import Grid

_NUMBER = re.compile(r"-?[\d,]+(?:\.\d+)?(?:e-?\d+)?")


@dataclass(frozen=True)
class Cell:
    """What a cell shows, and the number that it is sorted by; None sorts it by its text, and where that is a dash last."""

    text: str
    value: float | None = None
    href: str = ""
    mark: str = ""
    """Stands behind the text, smaller."""
    css: str = ""


@dataclass(frozen=True)
class Head:
    """A column's heading; ``words`` stand flush left."""

    text: str
    words: bool = False
    title: str = ""
    """What it means, in a sentence."""


@dataclass(frozen=True)
class Line:
    """A row of a table, with what filters find it by."""

    cells: tuple[Cell, ...]
    data: Mapping[str, str] = field(default_factory=dict)
    css: str = ""


@dataclass(frozen=True)
class Table:
    """A table with a caption. Its first column names the row, or its second where the first is a rank."""

    id: str
    caption: str
    heads: tuple[Head, ...]
    lines: tuple[Line, ...]
    note: str = ""
    names: int = 0
    """Place of the column that names the row."""


def plain(value: float | None, digits: int = 3) -> Cell:
    """Return a cell of a number."""
    return Cell(number(value, digits), value)


def words(text: str) -> Cell:
    """Return a cell of text."""
    return Cell(text or MISSING)


def significant(value: float | None) -> Cell:
    """Return a cell of a number of any scale, with four significant digits."""
    return Cell(columns.significant(value), value)


def of_grid(name: str, caption: str, grid: Grid, note: str = "") -> Table:
    """Return a table of the screen as one of a page, with the same figures."""
    heads = tuple(Head(column.heading, column.name or column.left or column.words) for column in grid.columns)
    first = next((place for place, column in enumerate(grid.columns) if column.name), 0)
    lines = [
        Line(tuple(_cell(text, head) for text, head in zip(line.cells, heads, strict=True)), css=_css(line.style)) for line in grid.lines
    ]
    return Table(name, caption, heads, tuple(lines), note, first)


def rows_of(rows: Iterable[Sequence[Cell]]) -> tuple[Line, ...]:
    """Return lines of cells alone."""
    return tuple(Line(tuple(row)) for row in rows)


def _cell(text: str, head: Head) -> Cell:
    return Cell(text, None if head.words else leading_number(text))


def leading_number(text: str) -> float | None:
    """Return the first number of a cell, which it is sorted by; None where there is none."""
    found = _NUMBER.search(text)
    try:
        return float(found[0].replace(",", "")) if found else None
    except ValueError:
        return None


def _css(style: str) -> str:
    return "dim" if "dim" in style else ""
