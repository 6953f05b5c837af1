"""Tables with named columns: CSV (or tab-separated) text, and Parquet."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.data.reading import Fields, Skipped, lines
from harness.errors import DataError
from harness.types import Document

_FIELD_LIMIT = 1 << 24
_BATCH_ROWS = 1024


class CsvReader:
    """A CSV or TSV file with a header (RFC 4180 quoting: a quoted field may span lines). Row numbers, from 1, are the ids where none is."""

    format = "csv"
    own_ids = True

    def __init__(self, path: Path, fields: Fields) -> None:
        self._path, self._fields = path, fields
        header = next(lines(path), (0, b""))[1].decode("utf-8", errors="replace")
        self._delimiter = "\t" if header.count("\t") > header.count(",") else ","
        self._columns = next(csv.reader([header], delimiter=self._delimiter), [])
        fields.check(self._columns, path)

    def read(self) -> Iterator[Document | Skipped]:
        # A stray quote makes the csv module read on for its partner: up to this many characters, then the row is given up.
        csv.field_size_limit(_FIELD_LIMIT)
        source = _Lines(self._path)
        rows = csv.reader(source, delimiter=self._delimiter, strict=True)
        next(rows, None)
        number = 0
        while True:
            source.begin_row()
            try:
                row = next(rows, None)
            except csv.Error as error:
                number += 1
                yield Skipped(str(self._path), source.row_start, f"not valid CSV ({error})")
                if source.second_line >= 0:
                    source = _Lines(self._path, source.second_line)  # go back: the broken row is its first line alone
                rows = csv.reader(source, delimiter=self._delimiter, strict=True)
                continue
            if row is None:
                return
            if row:
                number += 1
                yield self._document(row, number, source)

    def _document(self, row: list[str], number: int, source: _Lines) -> Document | Skipped:
        if source.broken:
            found: Document | str = "not valid UTF-8"
        elif len(row) != len(self._columns):
            found = f"{len(row)} fields instead of {len(self._columns)}"
        else:
            found = self._fields.document(dict(zip(self._columns, row, strict=True)), number)
        return Skipped(str(self._path), source.row_start, found) if isinstance(found, str) else found


class _Lines:
    """The decoded lines of a file from a byte on, and where the current row's first and second line start."""

    def __init__(self, path: Path, start: int = 0) -> None:
        self._lines = lines(path, start)
        self.begin_row()

    def begin_row(self) -> None:
        self.row_start = self.second_line = -1
        self.broken = False

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        start, line = next(self._lines)
        if self.row_start < 0:
            self.row_start = start
        elif self.second_line < 0:
            self.second_line = start
        try:
            return line.decode("utf-8") + "\n"
        except UnicodeDecodeError:
            self.broken = True
            return line.decode("utf-8", errors="replace") + "\n"


class ParquetReader:
    """A Parquet file, read in batches of rows, the needed columns alone. Row numbers, from 1, are ids where none is given."""

    format = "parquet"
    own_ids = True

    def __init__(self, path: Path, fields: Fields) -> None:
        self._path, self._fields = path, fields
        fields.check(self._open().schema_arrow.names, path)

    def read(self) -> Iterator[Document | Skipped]:
        number = 0
        try:
            for batch in self._open().iter_batches(batch_size=_BATCH_ROWS):
                for row in batch.to_pylist():
                    number += 1
                    found = self._fields.document(row, number)
                    yield Skipped(str(self._path), None, f"row {number}: {found}") if isinstance(found, str) else found
        except (OSError, ValueError) as error:
            yield Skipped(str(self._path), None, f"damaged after row {number} ({error}); used up to there")

    def _open(self) -> Any:
        import pyarrow
        import pyarrow.parquet

        try:
            return pyarrow.parquet.ParquetFile(self._path)
        except (OSError, pyarrow.ArrowInvalid) as error:
            raise DataError(f"{self._path} is no whole Parquet file ({error}); fetch it again") from error
