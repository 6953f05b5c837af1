"""Tables with named columns: CSV (or tab-separated) text, and Parquet."""

from __future__ import annotations

import bisect
import csv
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

from harness.data.reading import CUT_LINE, RECORD_LIMIT, TOO_LONG, Fields, Place, Record, Report, SkipLog, Skipped, lines, vanished
from harness.errors import DataError
from harness.types import Document

_BATCH_ROWS = 1024
_HELD_BYTES = 1 << 27
"""Of what was read for single rows, so much is kept in memory."""
_BUFFER = 1 << 18
_OPEN_QUOTE = "a quoted field is never closed: the file was cut off here, and is used up to this place"


class CsvReader:
    """A CSV or TSV file with a header (RFC 4180 quoting: a quoted field may span lines). Row numbers, from 1, are the ids where none is.

    A stray quote makes its row swallow the lines up to the next one; then that row's first line alone is given up. Where there is no next
    one, the file was cut off inside of a quoted field, if it ends within a line or if quoted fields of it span lines; else it is stray, too.

    Where no separator of labels is given, a label field may be a JSON list, as ``harness data convert`` writes it: ``["a", "b"]``. Line ends
    within a field are kept as they are; in a file whose own are those of Windows they become ``\\n``.
    """

    format = "csv"
    own_ids = True
    by_bytes = True
    content = ""

    def __init__(self, path: Path, fields: Fields) -> None:
        self._path, self._fields = path, replace(fields, json_labels=True)
        self.files: tuple[Path, ...] = (path,)
        first = next(lines(path), None)
        header = first.content.decode("utf-8", errors="replace") if first is not None else ""
        self._windows = first is not None and first.end.startswith(b"\r")
        self._delimiter = "\t" if header.count("\t") > header.count(",") else ","
        csv.field_size_limit(RECORD_LIMIT)
        try:
            self._columns = next(csv.reader([header], delimiter=self._delimiter), [])
        except csv.Error as error:
            raise DataError(f"the first line of {path} names no columns ({error}); give a CSV file with a header") from error
        fields.check(self._columns, path)
        twice = sorted(name for name in set(fields.columns(self._columns)) if self._columns.count(name) > 1)
        if twice:
            raise DataError(f"{path} has several columns {twice[0]!r}, so which of them is meant is not known; rename or remove one")

    @property
    def extent(self) -> int:
        return self._path.stat().st_size

    def check(self) -> None:
        """The header was checked already."""

    def prepare(self, report: Report) -> SkipLog:
        return SkipLog()

    def records(self) -> Iterator[Record | Skipped]:
        source = _Lines(self._path, 0, self._windows)
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
        """Where to go on after a broken row: it is its first line alone."""
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
        return self._fields.record(dict(zip(self._columns, row, strict=True)), Place(source.row_start, number))


class _Lines:
    """The decoded lines of a file from a byte on, and what is known of the current row: where its first and second line start, what ails it.

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


class ParquetReader:
    """A Parquet file, read in batches of rows, the needed columns alone. Row numbers, from 1, are ids where none is given."""

    format = "parquet"
    own_ids = True
    by_bytes = False
    content = ""

    def __init__(self, path: Path, fields: Fields) -> None:
        self._path, self._fields = path, fields
        self.files: tuple[Path, ...] = (path,)
        file = self._open()
        names = file.schema_arrow.names
        fields.check(names, path)
        self._columns = fields.columns(names)
        self._metadata = file.metadata
        self._starts = [0]
        """First row of each row group, and the number of rows."""
        self._small: list[bool] = []
        """Whether a whole row group may be held; pandas makes groups of a million rows."""
        for group in range(file.metadata.num_row_groups):
            found = file.metadata.row_group(group)
            self._starts.append(self._starts[-1] + found.num_rows)
            self._small.append(found.num_rows <= _BATCH_ROWS or _size(found, self._columns) <= _HELD_BYTES)
        self._held: OrderedDict[tuple[int, int], Any] = OrderedDict()
        """What was read last for single rows, by (row group, its first row in there): whole small groups, batches of large ones."""
        self._walk: tuple[int, int, Iterator[Any]] = (-1, 0, iter(()))
        """Where the last walk through a large group stands: the group, the number of the next batch, the batches from there on."""

    @property
    def extent(self) -> int:
        return self._starts[-1]

    def check(self) -> None:
        """The columns were checked already."""

    def prepare(self, report: Report) -> SkipLog:
        return SkipLog()

    def records(self) -> Iterator[Record | Skipped]:
        file = self._open()
        for group, (number, end) in enumerate(pairwise(self._starts)):
            try:
                for row in self._rows(file, group):
                    number += 1
                    found = row if isinstance(row, str) else self._fields.record(row, Place(number - 1, number))
                    yield Skipped(str(self._path), None, f"{found} (row {number})") if isinstance(found, str) else found
            except _faults() as error:
                # A block that cannot be unpacked takes the rest of its row group with it, and no more.
                detail = " ".join(str(error).split())
                yield Skipped(str(self._path), None, f"a damaged part of the file (rows {number + 1} to {end}: {detail})")

    def at(self, place: Place) -> Document:
        group = bisect.bisect_right(self._starts, place.start) - 1
        try:
            row = self._row(group, place.start - self._starts[group])
        except _faults() as error:
            raise vanished(self._path, place.start) from error
        found = row if isinstance(row, str) else self._fields.record(row, place)
        if isinstance(found, str):
            raise vanished(self._path, place.start)
        return found.document()

    def _row(self, group: int, number: int) -> Any:
        """One row of a row group."""
        start = 0 if self._small[group] else number - number % _BATCH_ROWS
        part = self._held.get((group, start))
        if part is None:
            try:
                part = self._group(group) if self._small[group] else self._batch(group, start // _BATCH_ROWS)
            except _faults():  # its first rows may be sound
                return next(islice(self._rows(self._open(), group), number, None), "")
            self._hold((group, start), part)
        self._held.move_to_end((group, start))
        return part.slice(number - start, 1).to_pylist()[0]

    def _group(self, group: int) -> Any:
        return self._open(self._metadata).read_row_group(group, columns=self._columns)

    def _batch(self, group: int, number: int) -> Any:
        """A batch of a large row group: on from the last one where it lies behind that, else from the group's beginning."""
        at, place, batches = self._walk
        if at != group or place > number:
            file = self._open(self._metadata)
            place, batches = 0, file.iter_batches(batch_size=_BATCH_ROWS, row_groups=[group], columns=self._columns)
        self._walk = (-1, 0, iter(()))  # nothing to go on with if this fails
        batch = next(islice(batches, number - place, None))
        self._walk = (group, number + 1, batches)
        return batch

    def _hold(self, key: tuple[int, int], part: Any) -> None:
        """Keep what was read, and as much of what was read before as there is room for."""
        self._held[key] = part
        size = sum(held.nbytes for held in self._held.values())
        while size > _HELD_BYTES and len(self._held) > 1:
            size -= self._held.popitem(last=False)[1].nbytes

    def _rows(self, file: Any, group: int) -> Iterator[Any]:
        """The rows of a row group; in place of one with a broken value, the reason."""
        for batch in file.iter_batches(batch_size=_BATCH_ROWS, row_groups=[group], columns=self._columns):
            try:
                rows = batch.to_pylist()
            except ValueError:
                rows = [_one_row(batch, place) for place in range(len(batch))]
            yield from rows

    def _open(self, metadata: Any = None) -> Any:
        """The file, opened; ``metadata`` of an earlier opening spares reading them again."""
        import pyarrow.parquet

        # through a small buffer: else a row group's columns are in memory as they are in the file, for as long as one reads from it
        small = {"pre_buffer": False, "buffer_size": _BUFFER}
        try:
            return pyarrow.parquet.ParquetFile(self._path, metadata=metadata, page_checksum_verification=True, **small)
        except _faults() as error:
            raise DataError(f"{self._path} is no whole Parquet file ({' '.join(str(error).split())}); fetch it again") from error


def _size(group: Any, columns: list[str]) -> int:
    """Bytes of some columns of a row group, unpacked, by its metadata."""
    found = (group.column(place) for place in range(group.num_columns))
    return sum(column.total_uncompressed_size for column in found if column.path_in_schema.split(".", 1)[0] in columns)


def _one_row(batch: Any, place: int) -> Any:
    try:
        return batch.slice(place, 1).to_pylist()[0]
    except ValueError as error:
        return f"not valid UTF-8 ({error})" if isinstance(error, UnicodeDecodeError) else f"a broken value ({error})"


def _faults() -> tuple[type[Exception], ...]:
    """What pyarrow raises on damaged files."""
    import pyarrow

    return (OSError, ValueError, IndexError, MemoryError, OverflowError, pyarrow.lib.ArrowException)
