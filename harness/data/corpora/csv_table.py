"""CSV and tab-separated files as a table of texts and labels."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from harness.data.corpora.reading import CUT_LINE, RECORD_LIMIT, TOO_LONG, Fields, Place, Record, Report, SkipLog, Skipped, lines, vanished
from harness.errors import DataError
from harness.files.csv_cells import unguarded
from harness.files.csv_text import delimiter_of, stated_delimiter
from harness.types import Document

OWN_COLUMNS = ("id", "text", "labels")
"""The header of the CSV files that ``harness data convert`` writes; cells in them are guarded against spreadsheets."""
CONTEXT_COLUMNS = ("instruction", "genre", "part")
"""What may follow in that header, in this order."""
_SAMPLE = 51
"""Lines by which the delimiter is found."""
_OPEN_QUOTE = "a quoted field is never closed: the file was cut off here, and is used up to this place"


@dataclass(frozen=True)
class CsvHead:
    """What the first lines of a table of text say of it.

    Attributes:
        header: the line with the names of the columns; empty in an empty file.
        start: its offset in bytes.
        delimiter: what separates the fields.
        windows: the lines end as those of Windows do.
    """

    header: str
    start: int
    delimiter: str
    windows: bool

    @classmethod
    def read(cls, path: Path) -> CsvHead:
        """Read the first lines of a file; one that states the delimiter (``sep=;``) is passed over."""
        head = list(islice(lines(path), _SAMPLE))
        stated = stated_delimiter(head[0].content.decode("utf-8", errors="replace")) if head else None
        head = head if stated is None else head[1:]
        text = [line.content.decode("utf-8", errors="replace") for line in head]
        return cls(
            text[0] if text else "",
            head[0].offset if head and stated is not None else 0,
            stated or delimiter_of(line + "\n" for line in text),
            bool(head) and head[0].end.startswith(b"\r"),
        )

    @property
    def columns(self) -> list[str]:
        """The names of the columns. Raises csv.Error for a line that is no row."""
        csv.field_size_limit(RECORD_LIMIT)
        return next(csv.reader([self.header], delimiter=self.delimiter), [])


class CsvReader:
    """A table of text with a header (RFC 4180 quoting: a quoted field may span lines). Row numbers, from 1, serve as ids where none is given.

    Commas, semicolons, tabs or bars separate the fields (see :func:`harness.files.csv_text.delimiter_of`), or what a first line ``sep=;`` states.

    A stray quote makes its row swallow the lines up to the next one; then that row's first line alone is given up. Where there is no next
    one, the file was cut off inside of a quoted field, if it ends within a line or if quoted fields of it span lines; else it is stray, too.

    Line ends within a field are kept as they are; in a file whose own are those of Windows they become ``\\n``.
    """

    format = "csv"
    own_ids = True
    by_bytes = True

    def __init__(self, path: Path, fields: Fields) -> None:
        self._path, self._fields = path, replace(fields, untyped=True)
        self.files: tuple[Path, ...] = (path,)
        head = CsvHead.read(path)
        self._start, self._windows, self._delimiter = head.start, head.windows, head.delimiter
        self._ours = _is_ours(head.header)
        try:
            self._columns = head.columns
        except csv.Error as error:
            message = f"the first line of {path} names no columns ({error})"
            raise DataError(message, given=head.header[:80], hint="give a CSV file with a header") from error
        fields.check(self._columns, path)
        twice = sorted(name for name in set(fields.columns(self._columns)) if self._columns.count(name) > 1)
        if twice:
            message = f"{path} has several columns {twice[0]!r}, so it is not clear which of them is meant"
            raise DataError(message, given=twice[0], hint="rename or remove one")

    @property
    def extent(self) -> int:
        return self._path.stat().st_size

    def check(self) -> None:
        """The header was checked already."""

    @property
    def content(self) -> str:
        return self._fields.reading.identity

    def prepare(self, report: Report) -> SkipLog:
        return SkipLog()

    def records(self) -> Iterator[Record | Skipped]:
        self._fields.reading.met = False
        source = _Lines(self._path, self._start, self._windows)
        rows = self._rows(source)
        header = True
        spans = False
        number = 0
        while True:
            source.begin_row()
            try:
                row = next(rows, None)
            except csv.Error as error:
                number += 1
                if source.at_end and (spans or source.second_line < 0 or not source.ended or len(self._columns) < 2):
                    yield Skipped(str(self._path), source.row_start, _OPEN_QUOTE)
                    return
                yield Skipped(str(self._path), source.row_start, TOO_LONG if source.too_long else f"not valid CSV ({error})")
                source, rows, header = *self._go_back(source), False
                continue
            if row is None:
                return
            if row and not header:
                number += 1
                spans = spans or source.second_line >= 0
                found = self._record(row, number, source)
                yield Skipped(str(self._path), source.row_start, found) if isinstance(found, str) else found
                if source.too_long:
                    source, rows = self._go_back(source)
            header = False

    def at(self, place: Place) -> Document:
        source = _Lines(self._path, place.start, self._windows)
        try:
            row = next(self._rows(source), None)
        except csv.Error as error:
            raise vanished(self._path, place.start) from error
        found = self._record(row, place.number, source) if row else ""
        if isinstance(found, str):
            raise vanished(self._path, place.start)
        return found.document()

    def _go_back(self, source: _Lines) -> tuple[_Lines, Iterator[list[str]]]:
        """Return where to go on after a broken row, of which only the first line is given up."""
        if source.second_line >= 0:
            source = _Lines(self._path, source.second_line, self._windows)
        return source, self._rows(source)

    def _rows(self, source: _Lines) -> Iterator[list[str]]:
        # A stray quote makes the csv module read on for its partner: up to this many characters, then the row is given up.
        csv.field_size_limit(RECORD_LIMIT)
        return csv.reader(source, delimiter=self._delimiter, strict=True)

    def _record(self, row: list[str], number: int, source: _Lines) -> Record | str:
        if source.too_long:
            return TOO_LONG
        if not source.ended:
            return CUT_LINE
        if source.broken:
            return "not valid UTF-8"
        if len(row) != len(self._columns):
            return f"another number of fields than the header has ({len(row)} instead of {len(self._columns)})"
        cells = [unguarded(cell) for cell in row] if self._ours else row
        return self._fields.record(dict(zip(self._columns, cells, strict=True)), Place(source.row_start, number))


def _is_ours(header: str) -> bool:
    """Return whether ``harness data convert`` wrote this header."""
    names = header.split(",")
    more = [f'"{name}"' for name in CONTEXT_COLUMNS if f'"{name}"' in names]
    return names == [*(f'"{name}"' for name in OWN_COLUMNS), *more]


class _Lines:
    """The decoded lines of a file from a byte on, with the state of the current row: where its first two lines start, and its faults.

    With ``windows`` all line ends become ``\\n``.
    """

    def __init__(self, path: Path, start: int, windows: bool) -> None:
        self._lines, self._windows = lines(path, start), windows
        self.at_end = False
        self.begin_row()

    def begin_row(self) -> None:
        self.row_start = self.second_line = -1
        self.broken = self.too_long = False
        self.ended = True

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._lines, None)
        if line is None:
            self.at_end = True
            raise StopIteration
        if self.row_start < 0:
            self.row_start = line.offset
        elif self.second_line < 0:
            self.second_line = line.offset
        self.ended = line.ended
        self.too_long = self.too_long or bool(line.fault)
        end = "\n" if self._windows or not line.ended else line.end.decode()
        try:
            return line.content.decode("utf-8") + end
        except UnicodeDecodeError:
            self.broken = True
            return line.content.decode("utf-8", errors="replace") + end








