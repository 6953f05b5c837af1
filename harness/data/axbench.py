"""AxBench's concept folders: ``train_data.parquet`` and ``metadata.jsonl`` (Wu et al. 2025, arXiv 2501.17148).

A document is a reply (column ``output``); its label is the concept that the reply expresses (``output_concept``). The shared negatives
carry the placeholder ``EEEEE`` there, and have no label. Any other table of such a folder opens as Parquet with the fields named.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from harness.data.reading import Fields, Skipped
from harness.data.tables import ParquetReader
from harness.types import Document

TABLE, METADATA = "train_data.parquet", "metadata.jsonl"
NO_CONCEPT = "EEEEE"


class AxBenchReader:
    """The training table of a concept folder; ids are row numbers, from 1."""

    format = "axbench"
    own_ids = False

    def __init__(self, folder: Path) -> None:
        self._rows = ParquetReader(folder / TABLE, Fields(text="output", label="output_concept"))

    def read(self) -> Iterator[Document | Skipped]:
        for found in self._rows.read():
            if isinstance(found, Document) and NO_CONCEPT in found.labels:
                found = Document(found.id, found.text, found.labels - {NO_CONCEPT})
            yield found
