"""Rows of JSON values as a JSONL, CSV or Parquet file: written whole or not at all, and read."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.errors import DataError
from harness.files.atomic import write_atomically
from harness.files.contents import HEAD, recognise
from harness.files.csv_cells import GuardedWriter, unguarded
from harness.files.csv_text import table_text
from harness.files.inputs import IN_MEMORY, Input, check_file, open_input, read_text
from harness.files.json_output import json_text
from harness.files.json_text import json_lines
from harness.types import Json

SUFFIXES = (".jsonl", ".csv", ".parquet")
_BATCH = 1024


def check_suffix(path: Path) -> None:
    """Raise DataError, before anything is computed, for a file name whose ending is not that of a format we write."""
    if path.suffix not in SUFFIXES:
        raise DataError(f"cannot write {path.name!r}", given=path, allowed=SUFFIXES, hint="give a file name with one of these endings")


def write_rows(rows: Sequence[dict[str, Json]], path: Path) -> None:
    """Write rows; nested values become JSON text in CSV and Parquet.

    Raises:
        DataError: an unknown file name ending.
        StoreError: the disk refuses.
    """
    check_suffix(path)
    what = "table"
    if path.suffix == ".jsonl":
        write_atomically(path, "".join(json_text(row) + "\n" for row in rows), what)
        return
    flat = [{name: json_text(v) if isinstance(v, dict | list) else v for name, v in row.items()} for row in rows]
    if path.suffix == ".csv":
        text = io.StringIO()
        names = list(flat[0]) if flat else []
        writer = GuardedWriter(text)
        writer.row(names)
        writer.rows([[row.get(name) for name in names] for row in flat])
        write_atomically(path, text.getvalue(), what)
        return
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(flat), buffer)
    write_atomically(path, buffer.getvalue(), what)


def read_rows(path: Path, what: str) -> Iterator[dict[str, Any]]:
    """Yields the rows of a JSONL, CSV or Parquet file by column.

    CSV holds text; its delimiter is a comma, semicolon or tab. An empty cell is None, and so is NaN, which tables of numbers have in the place
    of nothing.

    Args:
        path: the file; its ending says the format.
        what: what the file is, for messages, e.g. ``file of ratings``.

    Raises:
        DataError: no such file, another ending, or a file that is not what its ending says.
    """
    kind = Input(what, DataError, "make it again, or give another", largest=IN_MEMORY)
    check_file(path, replace(kind, hint="check the path"))
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise DataError(f"{path} is not a {what}", given=path, allowed=SUFFIXES, hint="give a file name with one of these endings")
    rows = {".jsonl": _json_rows, ".csv": _csv_rows, ".parquet": _parquet_rows}[suffix]
    for row in rows(path, kind):
        yield {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in row.items()}


def _json_rows(path: Path, kind: Input) -> Iterator[dict[str, Any]]:
    return (row for _, row in json_lines(path, kind, constants=True))


def _csv_rows(path: Path, kind: Input) -> Iterator[dict[str, Any]]:
    table, delimiter = table_text(read_text(path, kind))
    try:
        for row in csv.DictReader(table, delimiter=delimiter):
            yield {unguarded(name).strip(): unguarded(value) if value else None for name, value in row.items() if name is not None}
    except csv.Error as error:
        kind.refuse(path, f"is not valid CSV ({error})")


def _parquet_rows(path: Path, kind: Input) -> Iterator[dict[str, Any]]:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            groups = (file.metadata.row_group(number) for number in range(file.metadata.num_row_groups))
            if sum(group.total_byte_size for group in groups) > IN_MEMORY:
                kind.refuse(path, f"has more than {IN_MEMORY:,} bytes when it is unpacked", "give a smaller file")
            for batch in file.iter_batches(batch_size=_BATCH):
                yield from batch.to_pylist()
    except (OSError, ValueError, pyarrow.lib.ArrowException) as error:
        with open_input(path, kind) as head:
            found = recognise(head.read(HEAD))
        if found is not None and "Parquet" not in found.name:
            kind.refuse(path, f"is {found.name}", found.hint)
        kind.refuse(path, f"cannot be read ({' '.join(str(error).split())[:200]})")
