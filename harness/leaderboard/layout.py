"""Tables that fit the screen without cutting a figure: names fold first, then headings get short, then columns stack."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from rich.cells import cell_len, chop_cells
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

MIN_NAME = 16
"""Columns of text that a folded name keeps at least, where its own table is to be read at a glance."""
_INDENT = 2


@dataclass(frozen=True)
class Column:
    """A column of a :class:`Grid`.

    Attributes:
        heading: whole words; they may stand below each other.
        short: what stands there where the whole words are too wide; empty: the heading.
        name: a column of names, which may be folded. Those and all before them stand before the figures.
        left: flush left, for words among figures.
    """

    heading: str
    short: str = ""
    name: bool = False
    left: bool = False

    def title(self, short: bool) -> str:
        """The heading, or the short one."""
        return self.short or self.heading if short else self.heading


@dataclass(frozen=True)
class Line:
    """A row of a :class:`Grid`: a cell for each column, and a style of rich."""

    cells: tuple[str, ...]
    style: str = ""


class Grid:
    """A table for :mod:`rich` that is laid out by the width there is: the first of these that fits.

    1. Names beside their figures, in one line or folded, under whole words.
    2. The same under short headings.
    3. Each name on a line of its own above its figures, under whole words, then under short headings.
    4. A figure a line.
    """

    def __init__(self, columns: Sequence[Column], lines: Iterable[Line]) -> None:
        self.columns = tuple(columns)
        self.lines = tuple(lines)
        self.n_lead = 1 + max(place for place, column in enumerate(self.columns) if column.name)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for text in self._layout(options.max_width):
            text.no_wrap, text.overflow = True, "ignore"
            yield text

    def _layout(self, width: int) -> list[Text]:
        for above in (False, True):
            for short in (False, True):
                for gap in (2, 1):
                    widths = self._widths(width, above, short, gap)
                    if widths is not None:
                        return self._table(widths, above, short, gap, width)
        return self._list(width)

    def _widths(self, width: int, above: bool, short: bool, gap: int) -> list[int] | None:
        """The width of each column, or None where they do not fit; with names ``above``, the columns of the lead have none."""
        natural = [
            max([_longest_word(column.title(short)), *(cell_len(line.cells[place]) for line in self.lines)])
            for place, column in enumerate(self.columns)
        ]
        shown = natural[self.n_lead :] if above else natural
        spare = width - sum(shown) - gap * (len(shown) - 1) - (_INDENT if above else 0)
        while spare < 0:
            names = [place for place, column in enumerate(self.columns) if column.name and natural[place] > MIN_NAME]
            if above or not names:
                return None
            natural[max(names, key=lambda place: natural[place])] -= 1
            spare += 1
        return natural

    def _table(self, widths: list[int], above: bool, short: bool, gap: int, width: int) -> list[Text]:
        places = range(self.n_lead if above else 0, len(self.columns))
        indent = " " * _INDENT if above else ""

        def rows(cells: Sequence[str], style: str) -> list[Text]:
            """A row of the table; a cell that is wider than its column takes several lines of text."""
            folded = [_fold(cells[place], widths[place]) for place in places]
            return [
                Text(indent + (" " * gap).join(self._pad(part, place, widths[place]) for part, place in zip(parts, places, strict=True)), style)
                for parts in zip_longest(*folded, fillvalue="")
            ]

        heads = [_fold(column.title(short), widths[place]) for place, column in enumerate(self.columns)]
        height = max(len(heads[place]) for place in places)
        level = [[""] * (height - len(parts)) + parts for parts in heads]  # headings of one line stand at the bottom
        titles = [row for number in range(height) for row in rows([parts[number] for parts in level], "bold")]
        rule = Text("─" * (sum(widths[place] for place in places) + gap * (len(places) - 1) + len(indent)))
        body = []
        for line in self.lines:
            if above:
                body += [Text(part, line.style) for part in _fold(self._lead(line), width)]
            body += rows(line.cells, line.style)
        return [*titles, rule, *body]

    def _list(self, width: int) -> list[Text]:
        """A figure a line, for a screen on which no table fits."""
        titles = [column.title(short=False) for column in self.columns[self.n_lead :]]
        margin = max(map(cell_len, titles), default=0) + 1
        texts = []
        for line in self.lines:
            texts += [Text(part, line.style) for part in _fold(self._lead(line), width)]
            for title, cell in zip(titles, line.cells[self.n_lead :], strict=True):
                beside = _INDENT + margin + cell_len(cell) <= width
                texts += [Text(f"  {title}{' ' * (margin - cell_len(title))}{cell}", line.style)] if beside else []
                texts += [] if beside else [Text(part, line.style) for part in (*_fold(title, width), *_fold(cell, width))]
        return texts

    def _lead(self, line: Line) -> str:
        """The names of a row in one line, after what stands before them (a rank)."""
        lead = list(zip(self.columns, line.cells, strict=True))[: self.n_lead]
        before = [cell for column, cell in lead if cell and not column.name]
        return " ".join([*before, " · ".join(cell for column, cell in lead if cell and column.name)])

    def _pad(self, part: str, place: int, width: int) -> str:
        space = " " * (width - cell_len(part))
        return part + space if self.columns[place].name or self.columns[place].left else space + part


def _longest_word(text: str) -> int:
    return max(map(cell_len, text.split()), default=0)


def _fold(text: str, width: int) -> list[str]:
    """``text`` in lines of ``width`` cells, broken between words, and within a word only where one is too long."""
    if cell_len(text) <= width:
        return [text]
    lines = [""]
    for word in text.split():
        for part in [word] if cell_len(word) <= width else chop_cells(word, width):
            joined = f"{lines[-1]} {part}".strip()
            if cell_len(joined) <= width:
                lines[-1] = joined
            else:
                lines.append(part)
    return lines
