"""AxBench's lists of concepts: rows of its ``metadata.jsonl``, or what the tables of a concept folder tell (its datasets on the hub have no list)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from harness.data.corpora.axbench import METADATA, ConceptRow, concepts_in, hard_label, labels_of_concepts, tables_of
from harness.data.scalars import text_of
from harness.errors import DataError
from harness.types import Concept, Json

_PAGE = re.compile(r"neuronpedia\.org/([^/]+/[^/]+/\d+)/?$")


def is_metadata(row: Mapping[str, Json]) -> bool:
    """Return whether a row of a list of concepts is one of AxBench's."""
    return {"concept_id", "concept"} <= set(row) and not {"id", "text"} & set(row)


def metadata_row(row: Mapping[str, Json]) -> ConceptRow:
    """Return a row of ``metadata.jsonl``. Raises ValueError where it lacks the number or the wording."""
    number, wording = text_of(row["concept_id"]), text_of(row["concept"])
    if number is None or wording is None:
        raise ValueError("concept_id and concept are needed")
    return ConceptRow(number, wording.strip(), text_of(row.get("ref")) or "")


def concept_files(path: Path) -> list[Path]:
    """Return the files that a list of concepts is read from: itself, or of a concept folder its list, else its tables; none of another folder."""
    if not path.is_dir():
        return [path]
    return next(([path / name] for name in METADATA if (path / name).is_file()), tables_of(path))


def concepts_of_tables(tables: Iterable[Path]) -> list[Concept]:
    """Return the concepts that tables have positives of. Raises DataError where a table numbers none."""
    rows: dict[str, ConceptRow] = {}
    for table in tables:
        found = concepts_in(table)
        if not found:
            message = f"{table} has no concepts of AxBench's: no rows with concept_id and output_concept"
            raise DataError(message, given=table, hint="give its metadata.jsonl, its concept folder, or JSON lines with id and text")
        for row in found:  # a training table does not name the features
            rows[row.number] = row if row.link or row.number not in rows else rows[row.number]
    return axbench_concepts(list(rows.values()))


def axbench_concepts(rows: list[ConceptRow]) -> list[Concept]:
    """Return concepts with the labels that a corpus of AxBench's has, and the features that they are wordings of."""
    labels = labels_of_concepts({row.number: row.wording for row in rows})
    concepts = []
    for row in rows:
        page, label = _PAGE.search(row.link), labels[row.number]
        feature = None if page is None else page[1]
        concepts.append(Concept(row.number, row.wording, label, hard_negatives=hard_label(label), feature=feature))
    return concepts
