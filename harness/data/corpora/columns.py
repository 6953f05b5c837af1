"""Which columns a corpus' file has, and which of them its labels are read from: for messages about labels that are not there."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from harness.data.corpora.csv_table import CsvHead
from harness.data.corpora.reading import LABEL_FIELDS, lines
from harness.data.corpora.wrapped import plain_file
from harness.errors import HarnessError

_ROWS = 100


def columns_of(path: Path, format: str) -> tuple[str, ...]:
    """Names of the columns of a CSV or Parquet file, or of the fields of the first objects of JSON lines; none where they cannot be told.

    A packed file, or one in another encoding, is read from its copy in the cache, as the corpus is.
    """
    if not path.is_file():
        return ()
    try:
        path = plain_file(path, rows=format == "jsonl")
        if format == "parquet":
            import pyarrow.parquet as pq

            return tuple(pq.read_schema(path).names)
        if format == "csv":
            return tuple(CsvHead.read(path).columns)
        if format == "jsonl":
            rows = [json.loads(line.content.decode("utf-8-sig")) for line in islice(lines(path), _ROWS) if line.content.strip()]
            return tuple(dict.fromkeys(name for row in rows if isinstance(row, dict) for name in row))
    except (HarnessError, OSError, ValueError, RecursionError, csv.Error):  # whoever reads the corpus says what is wrong with it
        return ()
    return ()


def label_column(columns: Sequence[str], named: str | None) -> str | None:
    """The column that labels are read from: the one that is named, else the first of the usual names; None where there is none."""
    return named or next((name for name in LABEL_FIELDS if name in columns), None)
