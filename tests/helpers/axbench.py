"""Small tables in AxBench's layout, with what the real ones have: shared negatives, negatives and hard negatives, one wording twice."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.types import rng

WORDINGS = {0: "references to bees", 1: "words about tea", 2: "references to bees", 3: "numbers"}
"""Concepts 0 and 2 share a wording, as two of Concept500 do."""
SOURCE = "gemma-2-2b/10-gemmascope-res-16k"


_DRAWN = """
river stone table paper window garden bridge candle ladder mirror bottle button carpet corner engine feather hammer island jacket kettle
letter market needle orange pencil quilt rocket saddle ticket umbrella velvet wagon yellow zipper anchor basket circle desert
"""


def answer(about: str, place: int) -> str:
    """A text that is no near-copy of another's: what it is about, and words drawn by both."""
    words = _DRAWN.split()
    order = rng(0, "axbench", f"{about} {place}").permutation(len(words))
    return f"{about}: {' '.join(words[int(word)] for word in order[:8])}"


def link(number: int, source: str = SOURCE) -> str:
    return f"https://www.neuronpedia.org/{source}/{10 + number}"


def train_rows(each: int = 3) -> list[dict[str, Any]]:
    """Positives of each concept, then negatives that all share."""
    found = []
    for number, wording in WORDINGS.items():
        genre = "math" if number == 3 else "text"
        for place in range(each):
            found.append(_row(number, place, answer(f"{wording} {number}", place), wording, genre, "positive"))
    for place in range(each):
        found.append(_row(-1, place, answer("plain", place), "EEEEE", ("text", "math", "code")[place % 3], "negative"))
    return found


def evaluation_rows(each: int = 2, source: str = SOURCE) -> list[dict[str, Any]]:
    """For each concept positives, negatives, and a hard negative."""
    found = []
    for number, wording in WORDINGS.items():
        where = {"sae_link": link(number, source), "sae_id": 10 + number}
        for place in range(each):
            found.append({**_row(number, 50 + place, answer(f"{wording} {number}", 50 + place), wording, "text", "positive"), **where})
            found.append({**_row(number, 70 + place, answer(f"without {number}", 70 + place), wording, "code", "negative"), **where})
        sense = f"word{number}//another sense of the word"
        found.append({**_row(number, 90, answer(f"other sense {number}", 90), sense, "text", "hard negative"), **where})
    return found


def metadata_rows() -> list[dict[str, Any]]:
    return [
        {"concept_id": number, "concept": wording, "ref": link(number), "concept_genres_map": {wording: ["text"]}}
        for number, wording in WORDINGS.items()
    ]


def write_table(path: Path, rows: list[dict[str, Any]]) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def table_bytes(rows: list[dict[str, Any]], folder: Path) -> bytes:
    return write_table(folder / "table.parquet", rows).read_bytes()


def hub_files(folder: Path, variant: str = "2b/l10") -> Mapping[str, bytes]:
    """The files of a dataset of the hub that holds one variant."""
    return {
        "README.md": b"#",
        f"{variant}/train/data.parquet": table_bytes(train_rows(), folder),
        f"{variant}/test/data.parquet": table_bytes(evaluation_rows(), folder),
        "9b/l20/train/data.parquet": table_bytes(train_rows(1), folder),
    }


def _row(number: int, place: int, output: str, concept: str, genre: str, category: str) -> dict[str, Any]:
    return {
        "input": f"question {number} {place}", "output": output, "output_concept": concept, "concept_genre": genre, "category": category,
        "dataset_category": "instruction", "concept_id": number,
    }  # fmt: skip
