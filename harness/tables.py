"""Rows of JSON values as a JSONL, CSV or Parquet file, written whole or not at all."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

from harness.disk import write_atomically
from harness.errors import DataError
from harness.types import Json

SUFFIXES = (".jsonl", ".csv", ".parquet")


def check_suffix(path: Path) -> None:
    """Raise DataError for a file name that says no format we write; before anything is computed."""
    if path.suffix not in SUFFIXES:
        raise DataError(f"cannot write {path.name!r}: give a file that ends in {', '.join(SUFFIXES)}")


def write_rows(rows: Sequence[dict[str, Json]], path: Path) -> None:
    """Write rows; nested values become JSON text in CSV and Parquet.

    Raises:
        DataError: an unknown file name ending.
        StoreError: the disk refuses.
    """
    check_suffix(path)
    what = "table"
    if path.suffix == ".jsonl":
        write_atomically(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), what)
        return
    flat = [{name: json.dumps(v, ensure_ascii=False) if isinstance(v, dict | list) else v for name, v in row.items()} for row in rows]
    if path.suffix == ".csv":
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=list(flat[0]) if flat else [])
        writer.writeheader()
        writer.writerows(flat)
        write_atomically(path, text.getvalue(), what)
        return
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(flat), buffer)
    write_atomically(path, buffer.getvalue(), what)
