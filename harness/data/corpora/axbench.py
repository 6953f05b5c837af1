"""AxBench's concept folders: ``train_data.parquet`` and ``metadata.jsonl`` (Wu et al. 2025, arXiv 2501.17148).

A document is a reply (column ``output``) to an instruction (``input``); its label is the concept that the reply expresses (``output_concept``).
The shared negatives carry the placeholder ``EEEEE`` there, and have no label. Any other table of such a folder opens as Parquet with the fields
named.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from harness.data.corpora.parquet import ParquetReader
from harness.data.corpora.reading import Fields, Place, Record, Report, SkipLog, Skipped
from harness.types import Document

TABLE, METADATA = "train_data.parquet", "metadata.jsonl"
NO_CONCEPT = "EEEEE"


class AxBenchReader:
    """The training table of a concept folder; ids are row numbers, from 1."""

    format = "axbench"
    own_ids = False
    by_bytes = False
    content = ""

    def __init__(self, folder: Path) -> None:
        table = folder / TABLE if folder.is_dir() else folder
        self._rows = ParquetReader(table, Fields(text="output", label="output_concept", one_label=True))
        self.files: tuple[Path, ...] = self._rows.files

    @property
    def extent(self) -> int:
        return self._rows.extent

    def check(self) -> None:
        """The columns were checked already."""

    def prepare(self, report: Report) -> SkipLog:
        return SkipLog()

    def records(self) -> Iterator[Record | Skipped]:
        for found in self._rows.records():
            if isinstance(found, Record) and NO_CONCEPT in found.labels:
                found = replace(found, labels=found.labels - {NO_CONCEPT})
            yield found

    def at(self, place: Place) -> Document:
        found = self._rows.at(place)
        return replace(found, labels=found.labels - {NO_CONCEPT})
