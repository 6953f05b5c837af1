"""A run as a table for other programs: one row a trial, as JSON lines or Parquet."""

from __future__ import annotations

import itertools
import json
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from harness.errors import StoreError
from harness.files.atomic import disk_error
from harness.store.run import Record, RunStore
from harness.types import Concept, Json

_TEXT, _WHOLE, _NUMBER, _LIST = "text", "whole", "number", "list"
COLUMNS: dict[str, str] = {
    "run": _TEXT, "trial_id": _TEXT, "method": _TEXT, "method_id": _TEXT, "labeler": _TEXT, "steerer": _TEXT,
    "concept_id": _TEXT, "concept": _TEXT, "features": _LIST, "strength": _NUMBER, "instruction_id": _TEXT, "instruction": _TEXT,
    "seed": _WHOLE, "draw": _WHOLE, "prompt": _TEXT, "text": _TEXT, "n_tokens": _WHOLE, "finish": _TEXT,
    "judge": _TEXT, "status": _TEXT, "concept_rating": _NUMBER, "instruction_rating": _NUMBER, "fluency_rating": _NUMBER, "reason": _TEXT,
}  # fmt: skip
"""The columns, in order. What does not exist yet is null; ``features`` are ``dictionary/index``; ``judge`` is the judge's key."""
_BLOCK = 1000


def export(run: RunStore, path: Path, judge_key: str | None = None) -> int:
    """Write one row a trial (:data:`COLUMNS`), whole or not at all.

    Args:
        run: an open run; reading is enough.
        path: ends in ``.jsonl`` (JSON lines, UTF-8) or ``.parquet``.
        judge_key: whose ratings; by default those of the judge that the run was started with.

    Returns:
        The number of rows.

    Raises:
        StoreError: another ending, an unknown judge, or a disk that refuses; a file that was there before is untouched.
    """
    path = Path(path)
    writers: dict[str, Callable[[Iterator[dict[str, Json]], Path], int]] = {".jsonl": _write_jsonl, ".parquet": _write_parquet}
    if path.suffix not in writers:
        raise StoreError(f"cannot export to {path.name}: the name must end in {' or '.join(writers)}")
    keys = [judge.key for judge in run.judges()]
    if judge_key is not None and judge_key not in keys:
        raise StoreError(f"the run {run.id} has no ratings by {judge_key!r}; its judges: {', '.join(keys) or 'none'}")
    rows = _rows(run, judge_key or (keys[0] if keys else None))
    temporary = path.with_name(f".{path.name[:80]}.{uuid.uuid4().hex[:12]}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            count = writers[path.suffix](rows, temporary)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise disk_error(error, f"export the run {run.id} to {path}", "the run itself is not affected") from error
    return count


def _rows(run: RunStore, judge_key: str | None) -> Iterator[dict[str, Json]]:
    methods = {method.id: method for method in run.methods()}
    instructions = {instruction.id: instruction.text for instruction in run.instructions()}
    concepts = {concept.id: concept for concept in run.concepts()}
    features: dict[str, tuple[Concept | None, list[str] | None]] = {}
    for record in run.records(judge_key):
        trial = record.trial
        if trial.labeling_id not in features:
            labeling = run.labeling(trial.labeling_id)
            features[trial.labeling_id] = (labeling.concept, [str(ref) for ref in labeling.features]) if labeling else (None, None)
        concept, feature_names = features[trial.labeling_id]
        method = methods.get(trial.method_id)
        if feature_names is None and method is not None and method.labeler is None:
            feature_names = []  # a method that uses no feature has no labeler's answer behind it
        concept = concept or concepts.get(trial.concept_id)
        yield {
            "run": run.id,
            "trial_id": trial.id,
            "method": method.name if method else None,
            "method_id": trial.method_id,
            "labeler": method.labeler if method else None,
            "steerer": method.steerer if method else None,
            "concept_id": trial.concept_id,
            "concept": concept.text if concept else None,
            "features": feature_names,
            "strength": trial.strength,
            "instruction_id": trial.instruction_id,
            "instruction": instructions.get(trial.instruction_id),
            "seed": trial.seed,
            "draw": trial.draw,
            **_answer(record, judge_key),
        }


def _answer(record: Record, judge_key: str | None) -> dict[str, Json]:
    generation, rating = record.generation, record.rating
    return {
        "prompt": generation.prompt if generation else None,
        "text": generation.text if generation else None,
        "n_tokens": generation.n_tokens if generation else None,
        "finish": generation.finish if generation else None,
        "judge": judge_key if rating else None,
        "status": rating.status if rating else None,
        "concept_rating": rating.concept if rating else None,
        "instruction_rating": rating.instruction if rating else None,
        "fluency_rating": rating.fluency if rating else None,
        "reason": rating.reason if rating else None,
    }


def _write_jsonl(rows: Iterator[dict[str, Json]], path: Path) -> int:
    count = 0
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
            count += 1
    return count


def _write_parquet(rows: Iterator[dict[str, Json]], path: Path) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds: dict[str, Any] = {_TEXT: pa.string(), _WHOLE: pa.int64(), _NUMBER: pa.float64(), _LIST: pa.list_(pa.string())}
    schema = pa.schema([(name, kinds[kind]) for name, kind in COLUMNS.items()])
    count = 0
    with pq.ParquetWriter(path, schema) as writer:
        while block := list(itertools.islice(rows, _BLOCK)):
            try:
                table = pa.Table.from_pylist(block, schema=schema)
            except (pa.ArrowInvalid, OverflowError) as error:
                raise StoreError(f"a value does not fit a Parquet column ({error}); export as .jsonl instead") from error
            writer.write_table(table)
            count += len(block)
    return count
