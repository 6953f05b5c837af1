"""Rows of JSON values as a JSONL, CSV or Parquet file: written whole or not at all, and read."""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from harness.errors import DataError
from harness.files.atomic import write_atomically
from harness.files.csv_cells import GuardedWriter, unguarded
from harness.files.json_output import json_text
from harness.types import Json

SUFFIXES = (".jsonl", ".csv", ".parquet")


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

    CSV holds text, and an empty cell is None; its delimiter is a comma, semicolon or tab.

    Args:
        path: the file; its ending says the format.
        what: what the file is, for messages, e.g. ``file of ratings``.

    Raises:
        DataError: no such file, another ending, or a file that is not what its ending says.
    """
    if not path.is_file():
        raise DataError(f"there is no {what} at {path}", given=path, hint="check the path")
    if path.suffix.lower() not in SUFFIXES:
        raise DataError(f"{path} is not a {what}", given=path, allowed=SUFFIXES, hint="give a file name with one of these endings")
    try:
        if path.suffix.lower() == ".jsonl":
            yield from _json_lines(path)
        elif path.suffix.lower() == ".csv":
            yield from _csv_rows(path)
        else:
            import pyarrow.parquet

            yield from pyarrow.parquet.read_table(path).to_pylist()
    except (OSError, ValueError, csv.Error) as error:  # pyarrow's errors are ValueErrors
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"the {what} {path} cannot be read ({first})", given=path, hint="make it again") from error


def _json_lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            row = json.loads(line)
            if not isinstance(row, dict):
                message = f"{path}, line {number}: {line.strip()[:40]!r} is not a JSON object"
                raise DataError(message, given=row, hint="give one object per line")
            yield row


def _csv_rows(path: Path) -> Iterator[dict[str, Any]]:
    csv.field_size_limit(1 << 30)  # the module's own limit is below the longest texts
    with path.open(encoding="utf-8-sig", newline="") as lines:
        head = lines.readline()
        if re.fullmatch(r"sep=.\s*", head, re.IGNORECASE):  # how some spreadsheets state the delimiter
            head = lines.readline()
        delimiter = max(",;\t", key=head.count)
        for row in csv.DictReader(itertools.chain([head], lines), delimiter=delimiter):
            yield {unguarded(name).strip(): unguarded(value) if value else None for name, value in row.items() if name is not None}
