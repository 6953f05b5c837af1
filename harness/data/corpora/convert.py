"""A corpus of any format as one file of ours: rows ``{id, text, labels}`` and what else is known of a text, written as they are read."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from harness.data.corpora.csv_table import OWN_COLUMNS
from harness.errors import DataError
from harness.files.atomic import disk_error, replacing
from harness.files.csv_cells import GuardedWriter
from harness.files.json_output import json_text
from harness.types import Document

if TYPE_CHECKING:
    import pyarrow

SUFFIXES = (".jsonl", ".csv", ".parquet")
_ROWS = 1024


def check_suffix(path: Path) -> None:
    """Raise DataError for a file name whose ending is not a format that can be written."""
    if path.suffix not in SUFFIXES:
        raise DataError(f"the format of {path.name!r} cannot be written", given=path.suffix, allowed=SUFFIXES, hint="give one of these endings")


def convert(
    documents: Iterable[Document], path: Path, advance: Callable[[int], None] | None = None, context: Sequence[str] = ()
) -> int:
    """Write documents to ``path`` (JSONL, CSV or Parquet by its ending), one after the other, and return how many.

    :func:`harness.data.open_corpus` reads the same documents from it, without any option (but ``genre_field`` and ``part_field``, where these are
    written): in CSV, the labels of a text are a JSON list. The file appears in full or not at all: it is written under another name beside its
    place.

    Args:
        documents: any corpus.
        path: replaced if it is there.
        advance: called with the number of documents just written.
        context: further columns, of :data:`~harness.data.corpora.csv_table.CONTEXT_COLUMNS`.

    Raises:
        DataError: the ending is another one.
        StoreError: the file cannot be written.
    """
    check_suffix(path)
    writer = {".jsonl": _write_jsonl, ".csv": _write_csv, ".parquet": _write_parquet}[path.suffix]
    count = 0

    def counted() -> Iterator[list[Document]]:
        nonlocal count
        iterator = iter(documents)
        while batch := list(islice(iterator, _ROWS)):
            yield batch
            count += len(batch)
            if advance is not None:
                advance(len(batch))

    try:
        with replacing(path) as temporary:
            writer(counted(), temporary, context)
    except OSError as error:
        raise disk_error(error, f"write the corpus {path}") from error
    return count


def _write_jsonl(batches: Iterator[list[Document]], path: Path, context: Sequence[str]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for batch in batches:
            for document in batch:
                row = {"id": document.id, "text": document.text, "labels": sorted(document.labels)}
                row |= {name: getattr(document, name) for name in context}
                file.write(json_text(row) + "\n")


def _write_csv(batches: Iterator[list[Document]], path: Path, context: Sequence[str]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        # all in quotes: a lone \r without them would end a row for some readers, ours included
        writer = GuardedWriter(file, lineterminator="\n", quoting=csv.QUOTE_ALL)
        writer.row((*OWN_COLUMNS, *context))
        for batch in batches:
            for document in batch:
                more = (getattr(document, name) for name in context)
                writer.row((document.id, document.text, json_text(sorted(document.labels)), *more))


def _write_parquet(batches: Iterator[list[Document]], path: Path, context: Sequence[str]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    more = [(name, pa.string()) for name in context]
    schema = pa.schema([("id", pa.string()), ("text", pa.string()), ("labels", pa.list_(pa.string())), *more])
    with pq.ParquetWriter(path, schema) as writer:
        for batch in batches:
            writer.write_table(_table(batch, schema, context))


def _table(batch: list[Document], schema: pyarrow.Schema, context: Sequence[str]) -> pyarrow.Table:
    import pyarrow as pa

    columns: list[list[object]] = [[d.id for d in batch], [d.text for d in batch], [sorted(d.labels) for d in batch]]
    columns += [[getattr(d, name) for d in batch] for name in context]
    return pa.table([pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)], schema=schema)
