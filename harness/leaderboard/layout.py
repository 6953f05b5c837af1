"""Tables that fit the screen without cutting a figure: words fold first, then names stand above their figures, then figures stack."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from rich.cells import cell_len, chop_cells
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.console import Group as Stack
from rich.text import Text

from harness.files.visible import in_cell

MIN_NAME = 16
"""Columns of text that a folded name keeps at least, where its own table is to be read at a glance."""
MOST_LINES = 2
"""A name that takes more lines beside its figures stands above them, where there is room for that."""
LEAST_COMMAND = 16
"""Columns below which a command is not folded any more."""
_INDENT = 2
_COMMAND_INDENT = 3
_WORDS = re.compile(r"\[-?[\d.,]+ -?[\d.,]+\]\S*|\S+")
"""Words, an interval among them: ``[0.17, 0.58]`` stays in one line."""
_SHELL_WORDS = re.compile(r"(?:'[^']*'|\S)+")
"""Words as a shell has them: what is quoted is not broken."""


@dataclass(frozen=True)
class Column:
    """A column of a :class:`Grid`.

    Attributes:
        heading: whole words; they may stand below each other.
        name: a column of names, which may be folded. Those and all before them stand before the figures.
        left: flush left, for words among figures.
        words: a column of words among the figures, flush left, which may be folded, too.
        optional: may be left out where there is no room; a line below the table says so.
    """

    heading: str
    name: bool = False
    left: bool = False
    words: bool = False
    optional: bool = False

    @property
    def folds(self) -> bool:
        """Return whether its cells may take several lines."""
        return self.name or self.words


@dataclass(frozen=True)
class Line:
    """A row of a :class:`Grid`: a cell for each column, and a style of rich."""

    cells: tuple[str, ...]
    style: str = ""


class Grid:
    """A table for :mod:`rich` that is laid out by the width there is: the first of these that fits.

    1. Names beside their figures, in one line or folded into two.
    2. Each name on a line of its own above its figures.
    3. The same without the optional columns, which a line below names.
    4. A figure a line, all of them.

    No cell of figures is ever folded, and no word with a digit in it is broken. Words of a heading stand below each other where its figures are
    narrower; with ``broad`` only where there is no room.
    """

    def __init__(self, columns: Sequence[Column], lines: Iterable[Line], *, broad: bool = False) -> None:
        self.columns = tuple(columns)
        self._broad = broad
        self.lines = tuple(Line(tuple(map(in_cell, line.cells)), line.style) for line in lines)
        self.n_lead = 1 + max((place for place, column in enumerate(self.columns) if column.name), default=-1)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for text in self._layout(options.max_width):
            text.no_wrap, text.overflow = True, "ignore"
            yield text

    def _layout(self, width: int) -> list[Text]:
        left_out = [column.heading for column in self.columns if column.optional]
        return self._as_table(width) or (left_out and self._without_optional(width, left_out)) or self._list(width)

    def _as_table(self, width: int) -> list[Text]:
        """Return the table with all its columns; empty where they do not fit."""
        for above, lines in ((False, MOST_LINES), (True, None), (False, None)):
            for broad in (True, False) if self._broad else (False,):
                for gap in (2, 1):
                    widths = self._widths(width, above, gap, broad)
                    if widths is not None and (lines is None or self._name_lines(widths) <= lines):
                        return self._table(widths, above, gap, width)
        return []

    def _name_lines(self, widths: Sequence[int]) -> int:
        """Return how many lines a name takes at most."""
        names = [place for place, column in enumerate(self.columns) if column.name]
        return max((len(fold(line.cells[place], widths[place])) for place in names for line in self.lines), default=0)

    def _without_optional(self, width: int, left_out: Sequence[str]) -> list[Text]:
        kept = [place for place, column in enumerate(self.columns) if not column.optional]
        lines = [Line(tuple(line.cells[place] for place in kept), line.style) for line in self.lines]
        rows = Grid([self.columns[place] for place in kept], lines)._as_table(width)
        note = f"not shown for want of room: {', '.join(left_out)}"
        return [*rows, *(Text(part, "dim") for part in fold(note, width))] if rows else []

    def _widths(self, width: int, above: bool, gap: int, broad: bool) -> list[int] | None:
        """Return the width of each column, or None where they do not fit; with names ``above``, the columns of the lead have none."""
        heads = [cell_len(column.heading) if broad else _longest_word(column.heading) for column in self.columns]
        natural = [
            max([heads[place], *(cell_len(line.cells[place]) for line in self.lines)])
            for place, column in enumerate(self.columns)
        ]
        first = self.n_lead if above else 0
        least = [
            max([MIN_NAME, heads[place], *(_longest_figure(line.cells[place]) for line in self.lines)])
            for place, column in enumerate(self.columns)
        ]
        spare = width - sum(natural[first:]) - gap * (len(natural[first:]) - 1) - (_INDENT if above else 0)
        while spare < 0:
            wide = [place for place, column in enumerate(self.columns) if place >= first and column.folds and natural[place] > least[place]]
            if not wide:
                return None
            natural[max(wide, key=lambda place: natural[place])] -= 1
            spare += 1
        return natural

    def _table(self, widths: list[int], above: bool, gap: int, width: int) -> list[Text]:
        places = range(self.n_lead if above else 0, len(self.columns))
        indent = " " * _INDENT if above else ""

        def rows(cells: Sequence[str], style: str) -> list[Text]:
            """Return a row of the table; a cell that is wider than its column takes several lines of text."""
            folded = [fold(cells[place], widths[place]) for place in places]
            return [
                Text(indent + (" " * gap).join(self._pad(part, place, widths[place]) for part, place in zip(parts, places, strict=True)), style)
                for parts in zip_longest(*folded, fillvalue="")
            ]

        heads = [fold(column.heading, widths[place]) for place, column in enumerate(self.columns)]
        height = max(len(heads[place]) for place in places)
        level = [[""] * (height - len(parts)) + parts for parts in heads]  # headings of one line stand at the bottom
        titles = [row for number in range(height) for row in rows([parts[number] for parts in level], "bold")]
        rule = Text("─" * (sum(widths[place] for place in places) + gap * (len(places) - 1) + len(indent)))
        body = []
        for line in self.lines:
            if above:
                body += [Text(part, line.style) for part in fold(self._lead(line), width)]
            body += rows(line.cells, line.style)
        return [*titles, rule, *body]

    def _list(self, width: int) -> list[Text]:
        """Return a figure a line, for a screen on which no table fits."""
        titles = [column.heading for column in self.columns[self.n_lead :]]
        margin = max(map(cell_len, titles), default=0) + 1
        texts = []
        for line in self.lines:
            texts += [Text(part, line.style) for part in fold(self._lead(line), width)]
            for title, cell in zip(titles, line.cells[self.n_lead :], strict=True):
                beside = _INDENT + margin + cell_len(cell) <= width
                texts += [Text(f"  {title}{' ' * (margin - cell_len(title))}{cell}", line.style)] if beside else []
                if not beside:
                    texts += [Text(f"  {part}", line.style) for part in (*fold(title, width - 2), *fold(cell, width - 2))]
        return texts

    def _lead(self, line: Line) -> str:
        """Return the names of a row in one line, after what stands before them (a rank)."""
        lead = list(zip(self.columns, line.cells, strict=True))[: self.n_lead]
        before = [cell for column, cell in lead if cell and not column.name]
        return " ".join([*before, " · ".join(cell for column, cell in lead if cell and column.name)])

    def _pad(self, part: str, place: int, width: int) -> str:
        space = " " * (width - cell_len(part))
        column = self.columns[place]
        return part + space if column.name or column.left or column.words else space + part


class Prose:
    """A sentence for :mod:`rich` in lines of the width there is; the second and further ones stand a little to the right. No space ends a line."""

    def __init__(self, text: str, style: str = "", *, indent: int = 1, lead: str = "") -> None:
        """See the class.

        Args:
            text: one line, however long.
            style: of rich, for all of it.
            indent: blanks before the first line.
            lead: what stands before the text, bold.
        """
        self.lead, self.text = in_cell(lead), in_cell(f"{lead} {text}" if lead else text)
        self.style, self.indent = style, indent

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = max(options.max_width - self.indent - _INDENT, 1)
        parts = [piece for part in fold(self.text, width) for piece in ([part] if cell_len(part) <= width else chop_cells(part, width))]
        for place, part in enumerate(parts):
            line = Text(" " * (self.indent + (_INDENT if place else 0)) + part, self.style, no_wrap=True, overflow="ignore")
            if place == 0 and self.lead:
                line.stylize("bold", self.indent, self.indent + len(self.lead))
            yield line


class CommandLine:
    """A command for :mod:`rich` that can be copied, and what it is for: in one line where there is room, else below each other.

    A command that does not fit beside its lead has lines of its own. They go on behind a backslash, as a shell reads it, never within a word, and an
    option stays with its value where there is room: a path that is wider than the screen stands in one line all the same.
    """

    def __init__(self, lead: str, command: str, why: str) -> None:
        self.lead, self.command, self.why = lead, in_cell(command), in_cell(why)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = max(options.max_width, LEAST_COMMAND)
        beside, why = f" {self.lead} {self.command}", f"({self.why})"
        if cell_len(f"{beside}  {why}") <= width:
            lines = [f"{beside}  {why}"]
        elif cell_len(beside) <= width:
            lines = [beside, *self._indented(fold(why, width - len(self.lead) - 2), len(self.lead) + 2)]
        else:
            parts = _command_lines(self.command, width - _COMMAND_INDENT - 2)
            lines = [f" {self.lead}", *self._indented([*(f"{part} \\" for part in parts[:-1]), parts[-1]], _COMMAND_INDENT)]
            lines += self._indented(fold(why, width - _COMMAND_INDENT), _COMMAND_INDENT)
        for place, line in enumerate(lines):
            text = Text(line, no_wrap=True, overflow="ignore")
            if place == 0:
                text.stylize("bold", 1, 1 + len(self.lead))
            yield text

    @staticmethod
    def _indented(parts: Iterable[str], blanks: int) -> list[str]:
        return [" " * blanks + part for part in parts]


def _command_lines(command: str, width: int) -> list[str]:
    """Return a command in lines of ``width`` cells, no word broken, an option with its value where both fit, or the value fits nowhere."""
    parts: list[str] = []
    for word in _SHELL_WORDS.findall(command):
        option = parts and parts[-1].startswith("-") and " " not in parts[-1] and not word.startswith("-")
        if option and (cell_len(f"{parts[-1]} {word}") <= width or cell_len(word) > width):
            parts[-1] += f" {word}"
        else:
            parts.append(word)
    lines = [""]
    for part in parts:
        joined = f"{lines[-1]} {part}".strip()
        if cell_len(joined) <= width or not lines[-1]:
            lines[-1] = joined
        else:
            lines.append(part)
    return lines


def text_table(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> RenderableType:
    """Return a table of any cells: the first column names the row, and columns of words may fold as it does.

    Args:
        title: stands above it; empty for none.
        headings: of the columns.
        rows: their cells.
    """
    words = [any(re.search(r"[^\W\d_]{3}", row[place]) for row in rows) for place in range(len(headings))]
    columns = [Column(heading, name=place == 0, words=place > 0 and words[place], left=True) for place, heading in enumerate(headings)]
    grid = Grid(columns, [Line(tuple(row)) for row in rows], broad=True)
    return Stack(Text(in_cell(title), style="bold"), grid) if title else grid


def _longest_word(text: str) -> int:
    return max(map(cell_len, text.split()), default=0)


def _longest_figure(text: str) -> int:
    """Return the width of the longest word that has a digit in it, which must not be broken."""
    return max((cell_len(word) for word in text.split() if _has_digit(word)), default=0)


def _has_digit(word: str) -> bool:
    return any(letter.isdigit() for letter in word)


def fold(text: str, width: int) -> list[str]:
    """Return ``text`` in lines of ``width`` cells, broken between words, and within a word only where one without a digit is too long."""
    if cell_len(text) <= width:
        return [text]
    lines = [""]
    for word in _WORDS.findall(text):
        for part in [word] if cell_len(word) <= width or _has_digit(word) else chop_cells(word, width):
            joined = f"{lines[-1]} {part}".strip()
            if cell_len(joined) <= width or not lines[-1]:
                lines[-1] = joined
            else:
                lines.append(part)
    return lines
