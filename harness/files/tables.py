"""Tables of many rows, written as the rows come: JSON lines, CSV, Parquet. No more than a block of rows is in memory."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from harness.errors import StoreError
from harness.files.atomic import replacing
from harness.files.csv_cells import GuardedWriter
from harness.types import Json

ColumnType = Literal["text", "whole", "number", "flag", "texts", "numbers"]
"""What a column holds beside null; the last two are lists."""
Columns = Mapping[str, ColumnType]
TableFormat = Literal["parquet", "csv", "jsonl"]
FORMATS: tuple[TableFormat, ...] = get_args(TableFormat)

_BLOCK = 1000
"""Rows that are made into Parquet at once."""


def format_of(path: Path, given: str | None = None) -> TableFormat:
    """Return the format of a file: what is ``given``, else by its ending. Raises StoreError where neither is one that is written."""
    wanted = path.suffix.lower().removeprefix(".") if given is None else given
    for name in FORMATS:
        if wanted == name:
            return name
    endings = tuple(f".{name}" for name in FORMATS)
    hint = "give a file name with one of these endings, or --format"
    raise StoreError(f"cannot export to {path.name}", given=path if given is None else given, allowed=endings, hint=hint)


def write_table(
    rows: Iterator[dict[str, Json]], path: Path, columns: Columns, format: TableFormat, metadata: Mapping[str, Json] | None = None
) -> int:
    """Write rows as they come, to a file that takes its place when it is whole.

    CSV is UTF-8 with a byte order mark, by which spreadsheets know it; a list is JSON in its cell, null an empty cell, and a text that a
    spreadsheet would take for a formula has an apostrophe before it (:mod:`harness.files.csv_cells`).

    Args:
        rows: with all of ``columns``.
        path: where to.
        columns: names and types, in order.
        format: of the file.
        metadata: kept in a Parquet file's schema, under ``harness``; other formats have no place for it.

    Returns:
        The number of rows.

    Raises:
        OSError: the disk refuses; a file that was there before is untouched.
        StoreError: a number that Parquet cannot hold.
    """
    with replacing(path) as temporary:
        return _WRITERS[format](rows, temporary, columns, metadata or {})


def _write_jsonl(rows: Iterator[dict[str, Json]], path: Path, columns: Columns, metadata: Mapping[str, Json]) -> int:
    count = 0
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
            count += 1
    return count


def _write_csv(rows: Iterator[dict[str, Json]], path: Path, columns: Columns, metadata: Mapping[str, Json]) -> int:
    count = 0
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = GuardedWriter(file)
        writer.row(columns)
        for row in rows:
            writer.row([json.dumps(value, ensure_ascii=False) if isinstance(value, list) else value for value in map(row.get, columns)])
            count += 1
    return count


def _write_parquet(rows: Iterator[dict[str, Json]], path: Path, columns: Columns, metadata: Mapping[str, Json]) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    types: dict[ColumnType, Any] = {
        "text": pa.string(),
        "whole": pa.int64(),
        "number": pa.float64(),
        "flag": pa.bool_(),
        "texts": pa.list_(pa.string()),
        "numbers": pa.list_(pa.float64()),
    }
    schema = pa.schema([(name, types[kind]) for name, kind in columns.items()])
    if metadata:
        schema = schema.with_metadata({"harness": json.dumps(metadata, ensure_ascii=False)})
    count = 0
    with pq.ParquetWriter(path, schema) as writer:
        while block := list(itertools.islice(rows, _BLOCK)):
            try:
                table = pa.Table.from_pylist(block, schema=schema)
            except (pa.ArrowInvalid, OverflowError) as error:
                message = f"a value does not fit a Parquet column ({error})"
                raise StoreError(message, allowed=".jsonl", hint="export to a file of that ending instead") from error
            writer.write_table(table)
            count += len(block)
            block.clear()  # before the next one is made
    return count


_Writer = Callable[[Iterator[dict[str, Json]], Path, Columns, Mapping[str, Json]], int]
_WRITERS: dict[TableFormat, _Writer] = {"jsonl": _write_jsonl, "csv": _write_csv, "parquet": _write_parquet}
