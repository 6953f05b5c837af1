"""Parquet files as a table of texts and labels."""

from __future__ import annotations

import bisect
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

from harness.data.corpora.label_text import class_names
from harness.data.corpora.reading import Fields, Place, Record, Report, SkipLog, Skipped, vanished
from harness.errors import DataError
from harness.files.json_text import JsonError, parse_json
from harness.types import Document

_BATCH_ROWS = 1024
_BATCH_BYTES = 1 << 26
"""Bytes of rows that are in memory at once, as far as the file says how long they are."""
_DELTA_ROWS = 16
_MOST_VALUES, _VALUES_A_ROW = 10_000_000, 1000


_HELD_BYTES = 1 << 27
"""Bytes of what was read for single rows that are kept in memory."""


_BUFFER = 1 << 18


class ParquetReader:
    """A Parquet file, read in batches of rows, only the needed columns; row numbers, from 1, serve as ids where none is given."""

    format = "parquet"
    own_ids = True
    by_bytes = False
    content = ""

    def __init__(self, path: Path, fields: Fields) -> None:
        self._path = path
        self.files: tuple[Path, ...] = (path,)
        file = self._open()
        names = file.schema_arrow.names
        fields.check(names, path)
        self._fields = replace(fields, classes=_classes(file.schema_arrow.metadata))
        self._columns = fields.columns(names)
        self._metadata = file.metadata
        self._starts = [0]
        """First row of each row group, and the number of rows."""
        self._texts = [path for path in _byte_columns(file) if path.split(".", 1)[0] in self._columns]
        self._batch_rows: dict[int, int] = {}
        """Rows of a batch of each row group that was read."""
        self._small: list[bool] = []
        """Whether a row group may be held in full; pandas makes groups of a million rows."""
        for group in range(file.metadata.num_row_groups):
            found = file.metadata.row_group(group)
            self._starts.append(self._starts[-1] + found.num_rows)
            self._small.append(found.num_rows <= _BATCH_ROWS or _size(found, self._columns) <= _HELD_BYTES)
        self._longest: dict[int, int] = {}
        self._held: OrderedDict[tuple[int, int], Any] = OrderedDict()
        """What was read last for single rows, by (row group, its first row in there): full small groups, batches of large ones."""
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
            except faults() as error:
                # A block that cannot be unpacked takes the rest of its row group with it, and no more.
                detail = " ".join(str(error).split())
                yield Skipped(str(self._path), None, f"a damaged part of the file (rows {number + 1} to {end}: {detail})")

    def at(self, place: Place) -> Document:
        group = bisect.bisect_right(self._starts, place.start) - 1
        try:
            row = self._row(group, place.start - self._starts[group])
        except faults() as error:
            raise vanished(self._path, place.start) from error
        found = row if isinstance(row, str) else self._fields.record(row, place)
        if isinstance(found, str):
            raise vanished(self._path, place.start)
        return found.document()

    def _row(self, group: int, number: int) -> Any:
        """Return one row of a row group."""
        size = self._rows_of_a_batch(group)
        start = 0 if self._small[group] else number - number % size
        part = self._held.get((group, start))
        if part is None:
            try:
                part = self._group(group) if self._small[group] else self._batch(group, start // size)
            except faults():  # its first rows may be sound
                return next(islice(self._rows(self._open(), group), number, None), "")
            self._hold((group, start), part)
        self._held.move_to_end((group, start))
        return part.slice(number - start, 1).to_pylist()[0]

    def _group(self, group: int) -> Any:
        """Return a row group. Repeated texts are held once where that may matter: each row becomes Python objects by itself."""
        found = self._metadata.row_group(group)
        large = self._rows_of_a_batch(group) < _BATCH_ROWS or found.num_rows * self._longest[group] > 4 * _HELD_BYTES
        return self._open(self._metadata, self._texts if large else ()).read_row_group(group, columns=self._columns)

    def _rows_of_a_batch(self, group: int) -> int:
        """Return how many rows of a group are in memory at once: fewer where they are long, or where one long text stands for many rows.

        A column that has few different texts holds each of them once: a file of a kilobyte may stand for gigabytes.

        Raises:
            ValueError: a column has so many values for its rows that no list of labels is so long.
        """
        if group not in self._batch_rows:
            found = self._metadata.row_group(group)
            columns = [column for column in map(found.column, range(found.num_columns)) if column.path_in_schema.split(".", 1)[0] in self._columns]
            if any(column.num_values > _MOST_VALUES + _VALUES_A_ROW * found.num_rows for column in columns):
                raise ValueError("it has too many values for its rows")
            self._longest[group] = self._longest_repeated(group) if found.num_rows else 0
            mean = _size(found, self._columns) // max(1, found.num_rows)
            rows = max(1, min(_BATCH_ROWS, _BATCH_BYTES // max(1, mean, self._longest[group])))
            if any("DELTA_BYTE_ARRAY" in column.encodings for column in columns):  # each text may repeat the one before it
                rows = min(rows, _DELTA_ROWS)
            self._batch_rows[group] = rows
        return self._batch_rows[group]

    def _longest_repeated(self, group: int) -> int:
        """Return the bytes of the longest text that the dictionaries of a row group hold: they come with its first row."""
        import pyarrow
        import pyarrow.compute

        file = self._open(self._metadata, self._texts)
        first = next(file.iter_batches(batch_size=1, row_groups=[group], columns=self._columns), None)
        longest = 0
        for column in () if first is None else first.columns:
            while pyarrow.types.is_list(column.type) or pyarrow.types.is_large_list(column.type):
                column = column.values
            if pyarrow.types.is_dictionary(column.type) and len(column.dictionary):
                longest = max(longest, pyarrow.compute.max(pyarrow.compute.binary_length(column.dictionary)).as_py() or 0)
        return longest

    def _batch(self, group: int, number: int) -> Any:
        """Return a batch of a large row group, read on from the last one where it lies behind that, else from the group's beginning."""
        at, place, batches = self._walk
        if at != group or place > number:
            file = self._open(self._metadata)
            place, batches = 0, file.iter_batches(batch_size=self._rows_of_a_batch(group), row_groups=[group], columns=self._columns)
        self._walk = (-1, 0, iter(()))  # nothing to go on with if this fails
        batch = next(islice(batches, number - place, None))
        self._walk = (group, number + 1, batches)
        return batch

    def _hold(self, key: tuple[int, int], part: Any) -> None:
        """Keep what was read, and as much of what was read before as fits."""
        self._held[key] = part
        size = sum(held.nbytes for held in self._held.values())
        while size > _HELD_BYTES and len(self._held) > 1:
            size -= self._held.popitem(last=False)[1].nbytes

    def _rows(self, file: Any, group: int) -> Iterator[Any]:
        """Yield the rows of a row group; in place of a row with a broken value, the reason."""
        for batch in file.iter_batches(batch_size=self._rows_of_a_batch(group), row_groups=[group], columns=self._columns):
            try:
                rows = batch.to_pylist()
            except ValueError:
                rows = [_one_row(batch, place) for place in range(len(batch))]
            yield from rows

    def _open(self, metadata: Any = None, once: Sequence[str] = ()) -> Any:
        """Open the file; with the ``metadata`` of an earlier opening they are not read again. Texts of the columns ``once`` are held once each."""
        import pyarrow.parquet

        # through a small buffer: else a row group's columns are in memory as they are in the file, for as long as one reads from it
        small = {"pre_buffer": False, "buffer_size": _BUFFER}
        try:
            return pyarrow.parquet.ParquetFile(self._path, metadata=metadata, page_checksum_verification=True, read_dictionary=list(once), **small)
        except faults() as error:
            message = f"{self._path} is not a complete Parquet file ({' '.join(str(error).split())})"
            raise DataError(message, given=self._path, hint="fetch it again") from error


def _classes(metadata: Mapping[bytes, bytes] | None) -> dict[str, list[str]]:
    """Return the class names of the columns that hold class numbers, as the ``datasets`` library keeps them in a table's own metadata."""
    try:
        described = parse_json((metadata or {}).get(b"huggingface", b"{}"))
    except JsonError:
        return {}
    for name in ("info", "features"):
        described = described.get(name) if isinstance(described, dict) else None
    found = {name: class_names(feature) for name, feature in described.items()} if isinstance(described, dict) else {}
    return {name: classes for name, classes in found.items() if classes}


def _byte_columns(file: Any) -> list[str]:
    """Return the paths of the columns of a file that hold texts, those within lists among them."""
    columns = (file.schema.column(number) for number in range(len(file.schema)))
    return [column.path for column in columns if column.physical_type == "BYTE_ARRAY"]


def _size(group: Any, columns: list[str]) -> int:
    """Return the unpacked bytes of some columns of a row group, by its metadata."""
    found = (group.column(place) for place in range(group.num_columns))
    return sum(column.total_uncompressed_size for column in found if column.path_in_schema.split(".", 1)[0] in columns)


def _one_row(batch: Any, place: int) -> Any:
    try:
        return batch.slice(place, 1).to_pylist()[0]
    except ValueError as error:
        return f"not valid UTF-8 ({error})" if isinstance(error, UnicodeDecodeError) else f"a broken value ({error})"


def faults() -> tuple[type[Exception], ...]:
    """Return the exceptions that pyarrow raises on damaged files."""
    import pyarrow

    return (OSError, ValueError, IndexError, MemoryError, OverflowError, pyarrow.lib.ArrowException)
