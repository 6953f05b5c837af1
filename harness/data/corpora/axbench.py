"""AxBench's concept folders (Wu et al. 2025, arXiv 2501.17148): what is fitted on, what is evaluated on, and which concept a reply was written for.

A document is a reply (column ``output``) to an instruction (``input``). A positive has the label of the concept that it was written to contain; a
negative has none, whichever concept it stands against; a hard negative (another sense of one of the concept's words) has the label that
:func:`hard_label` makes of the concept's. Concepts are told apart by their number (``concept_id``): two may have one wording.

A folder holds one or both of two tables, under the names of any of :data:`LAYOUTS`. Where both are there, the first is ``train`` and the second
``evaluation``; of one alone the split decides. Any single table opens as Parquet, too, with the fields named.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

from harness.data.corpora.parquet import ParquetReader, faults
from harness.data.corpora.reading import PARTS, Fields, Place, Record, Report, SkipLog, Skipped
from harness.errors import DataError
from harness.types import Document, Json

LAYOUTS = (
    ("train_data.parquet", "latent_eval_data.parquet"),
    ("train/data.parquet", "test/data.parquet"),
    ("generate/train_data.parquet", "inference/latent_eval_data.parquet"),
)
"""Names of the two tables in a concept folder: that of its code, of its datasets on the hub, and of its runs."""
METADATA = ("metadata.jsonl", "generate/metadata.jsonl")
NO_CONCEPT = "EEEEE"
_HARD = "hard negative of "
_COLUMNS = ("output", "output_concept", "input", "concept_genre", "category", "concept_id")


def hard_label(label: str) -> str:
    """Return the label of a concept's hard negatives."""
    return _HARD + label


def is_hard(label: str) -> bool:
    """Return whether a label is one of hard negatives, and no concept's."""
    return label.startswith(_HARD)


def labels_of_concepts(concepts: Mapping[str, str]) -> dict[str, str]:
    """Return the label of each concept by its number: its wording, with the number behind it where two concepts share one."""
    shared = Counter(concepts.values())
    return {number: wording if shared[wording] == 1 else f"{wording} [{number}]" for number, wording in concepts.items()}


def tables_of(folder: Path) -> list[Path]:
    """Return the tables of a concept folder, training first; none where it is no such folder."""
    for names in LAYOUTS:
        if found := [folder / name for name in names if (folder / name).is_file()]:
            return found
    return []


@dataclass(frozen=True)
class ConceptRow:
    """A concept as a table tells of it: its number, its wording, and the page of its feature on Neuronpedia (empty where the table has none)."""

    number: str
    wording: str
    link: str = ""


def concepts_in(table: Path) -> list[ConceptRow]:
    """Return the concepts that a table has positives of, in the order of their first rows; none where it does not number them.

    Raises:
        DataError: it is not a complete Parquet file.
    """
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(table)
    except faults() as error:
        message = f"{table} is not a complete Parquet file ({' '.join(str(error).split())})"
        raise DataError(message, given=table, hint="fetch it again") from error
    columns = [name for name in ("concept_id", "output_concept", "category", "sae_link") if name in file.schema_arrow.names]
    found: dict[str, ConceptRow] = {}
    for group in range(file.metadata.num_row_groups if columns[:2] == ["concept_id", "output_concept"] else 0):
        try:
            rows = file.read_row_group(group, columns=columns).group_by(columns, use_threads=False).aggregate([]).to_pylist()
        except faults():
            continue  # whoever reads the documents hears what is wrong with it
        for row in rows:
            if _kind(row) == "positive" and isinstance(row["output_concept"], str):
                found.setdefault(_number(row), ConceptRow(_number(row), row["output_concept"].strip(), row.get("sae_link") or ""))
    return list(found.values())


class _Labels:
    """The labels of a folder's concepts by their numbers; the tables are looked through when they are first asked for."""

    def __init__(self, tables: Sequence[Path]) -> None:
        self._tables = tables

    @cached_property
    def by_number(self) -> dict[str, str]:
        return labels_of_concepts({one.number: one.wording for table in self._tables for one in concepts_in(table)})


@dataclass(frozen=True)
class _Rows(Fields):
    """Reads a row of a table."""

    labels: _Labels = field(default_factory=lambda: _Labels(()), compare=False)

    def record(self, row: Mapping[str, Json], place: Place) -> Record | str:
        found = super().record(row, place)
        if isinstance(found, str):
            return found
        kind, wording = _kind(row), next(iter(found.labels), "")
        label = self.labels.by_number.get(_number(row), wording)
        if kind == "negative" or not label:
            return replace(found, labels=frozenset())
        return replace(found, labels=frozenset([hard_label(label) if kind == "hard" else label]))

    def check(self, columns: Sequence[str], path: Path | str) -> None:
        Fields(text=self.text, label=self.label).check(columns, path)  # the others are read where they are there

    def columns(self, present: Sequence[str]) -> list[str]:
        return [name for name in _COLUMNS if name in present]


class AxBenchReader:
    """The tables of a concept folder, one behind the other; ids are row numbers, from 1, with the part before them where there are two tables."""

    format = "axbench"
    own_ids = False
    by_bytes = False
    content = ""

    def __init__(self, path: Path) -> None:
        tables = tables_of(path) if path.is_dir() else [path]
        if not tables:
            names = dict.fromkeys(name for layout in LAYOUTS for name in layout)
            raise DataError(f"the folder {path} has no table of AxBench's", given=path, allowed=tuple(names), hint="give another folder")
        self.files: tuple[Path, ...] = tuple(tables)
        self._parts = PARTS if len(tables) == 2 else ("",)
        rows = _Rows("output", "output_concept", instruction="input", genre="concept_genre", one_label=True, labels=_Labels(tables))
        self._readers = [ParquetReader(table, rows) for table in tables]
        self._ends = list(accumulate(reader.extent for reader in self._readers))

    @property
    def extent(self) -> int:
        return self._ends[-1]

    def check(self) -> None:
        """The columns were checked already."""

    def prepare(self, report: Report) -> SkipLog:
        return SkipLog()

    def records(self) -> Iterator[Record | Skipped]:
        for number, reader in enumerate(self._readers):
            first, part = self._first(number), self._parts[number]
            for found in reader.records():
                if isinstance(found, Record):
                    start = found.place.start
                    found = replace(found, place=Place(first + start, first + start + 1), id=_id(part, start + 1), part=part)
                yield found

    def at(self, place: Place) -> Document:
        number = min(bisect_right(self._ends, place.start), len(self._readers) - 1)
        start, part = place.start - self._first(number), self._parts[number]
        document = self._readers[number].at(Place(start, start + 1))
        return replace(document, id=_id(part, start + 1), part=part)

    def _first(self, number: int) -> int:
        """Return the rows that come before a table."""
        return self._ends[number - 1] if number else 0


def _id(part: str, row: int) -> str:
    return f"{part}-{row}" if part else str(row)


def _number(row: Mapping[str, Any]) -> str:
    return str(row.get("concept_id", ""))


def _kind(row: Mapping[str, Any]) -> str:
    """Return whether a row is a ``positive``, a ``negative`` or a ``hard`` negative."""
    category = str(row.get("category") or "").strip().lower()
    if category == "hard negative":
        return "hard"
    return "negative" if category == "negative" or row.get("output_concept") == NO_CONCEPT else "positive"
