"""A run as a table for other programs, as JSON lines or Parquet: one row per trial, or per item and outcome."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.errors import StoreError
from harness.files.atomic import disk_error, replacing
from harness.store.run import Record, RunStore
from harness.store.values import STEERING
from harness.types import Concept, EvaluationKind, Json, canonical_json

_TEXT, _WHOLE, _NUMBER, _LIST = "text", "whole", "number", "list"
COLUMNS: dict[str, str] = {
    "run": _TEXT, "trial_id": _TEXT, "method": _TEXT, "method_id": _TEXT, "labeler": _TEXT, "steerer": _TEXT,
    "concept_id": _TEXT, "concept": _TEXT, "features": _LIST, "strength": _NUMBER, "instruction_id": _TEXT, "instruction": _TEXT,
    "seed": _WHOLE, "draw": _WHOLE, "prompt": _TEXT, "text": _TEXT, "n_tokens": _WHOLE, "finish": _TEXT,
    "judge": _TEXT, "status": _TEXT, "concept_rating": _NUMBER, "instruction_rating": _NUMBER, "fluency_rating": _NUMBER, "reason": _TEXT,
}  # fmt: skip
"""The columns, in order. What does not exist yet is null; ``features`` are ``dictionary/index``; ``judge`` is the judge's key."""
OUTCOME_COLUMNS: dict[str, str] = {
    "run": _TEXT, "kind": _TEXT, "item_id": _TEXT, "method": _TEXT, "method_id": _TEXT, "labeling_id": _TEXT, "concept_id": _TEXT,
    "concept": _TEXT, "features": _LIST, "strength": _NUMBER, "instruction_id": _TEXT, "seed": _WHOLE, "draw": _WHOLE, "item": _TEXT,
    "stage": _TEXT, "source": _TEXT, "status": _TEXT, "ticket": _TEXT, "reason": _TEXT, "value": _TEXT,
}  # fmt: skip
"""The columns of an export by item and outcome, in order. ``item`` and ``value`` are JSON as text; an item without outcomes has one row."""
_BLOCK = 1000


def export(run: RunStore, path: Path, judge_key: str | None = None, kind: EvaluationKind = STEERING) -> int:
    """Write a table of one kind of evaluation, all of it or nothing.

    Args:
        run: an open run; reading is enough.
        path: ends in ``.jsonl`` (JSON lines, UTF-8) or ``.parquet``.
        judge_key: steering: whose ratings; by default those of the judge that the run was started with.
        kind: ``steering`` has one row per trial (:data:`COLUMNS`); the others have one per item and outcome (:data:`OUTCOME_COLUMNS`).

    Returns:
        The number of rows.

    Raises:
        StoreError: another ending, an unknown judge, a kind that the run has not, or a disk that refuses; a file that was there before is
            untouched.
    """
    path = Path(path)
    if path.suffix not in _WRITERS:
        raise StoreError(f"cannot export to {path.name}", given=path, allowed=tuple(_WRITERS), hint="give a file name with one of these endings")
    if kind == STEERING:
        columns, rows = COLUMNS, steering_rows(run, None if (judge := run.judge_named(judge_key)) is None else judge.key)
    else:
        kinds = list(run.item_counts())
        if kind not in kinds:
            raise StoreError(f"the run {run.id} has nothing of kind {kind!r} to export", given=kind, allowed=tuple(kinds) or "none")
        if judge_key is not None:
            message = f"ratings by {judge_key!r} belong to steering, not to {kind}"
            raise StoreError(message, given=kind, allowed=STEERING, hint="leave the judge out, or export steering")
        columns, rows = OUTCOME_COLUMNS, _outcome_rows(run, kind)
    try:
        with replacing(path) as temporary:
            count = _WRITERS[path.suffix](rows, temporary, columns)
    except OSError as error:
        raise disk_error(error, f"export the run {run.id} to {path}", "the run itself is not affected") from error
    return count


class _Names:
    """What a run's ids stand for."""

    def __init__(self, run: RunStore) -> None:
        self._run = run
        self.steering = {method.id: method for method in run.methods()}
        self.methods = run.method_names()
        if not run.incomplete:
            self.methods |= {metric.id: metric.plugin.title for metric in run.manifest.metrics}
        self.instructions = {instruction.id: instruction.text for instruction in run.instructions()}
        self._concepts = {concept.id: concept for concept in run.concepts()}
        self._labelings: dict[str, tuple[Concept | None, list[str] | None]] = {}

    def labeling(self, labeling_id: str, concept_id: str) -> tuple[Concept | None, list[str] | None]:
        """Return concept and features (``dictionary/index``) of a labeling; no features where no labeler answered."""
        if labeling_id not in self._labelings:
            found = self._run.labeling(labeling_id)
            self._labelings[labeling_id] = (found.concept, [str(ref) for ref in found.features]) if found else (None, None)
        concept, features = self._labelings[labeling_id]
        return concept or self._concepts.get(concept_id), features


def steering_rows(run: RunStore, judge_key: str | None) -> Iterator[dict[str, Json]]:
    names = _Names(run)
    for record in run.records(judge_key):
        trial = record.trial
        method = names.steering.get(trial.method_id)
        concept, feature_names = names.labeling(trial.labeling_id, trial.concept_id)
        if feature_names is None and method is not None and method.labeler is None:
            feature_names = []  # a method that uses no feature has no labeler's answer behind it
        yield {
            "run": run.id,
            "trial_id": trial.id,
            "method": names.methods.get(trial.method_id),
            "method_id": trial.method_id,
            "labeler": method.labeler if method else None,
            "steerer": method.steerer if method else None,
            "concept_id": trial.concept_id,
            "concept": concept.text if concept else None,
            "features": feature_names,
            "strength": trial.strength,
            "instruction_id": trial.instruction_id,
            "instruction": names.instructions.get(trial.instruction_id),
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


def _outcome_rows(run: RunStore, kind: EvaluationKind) -> Iterator[dict[str, Json]]:
    names = _Names(run)
    for item, stage, outcome in run.item_outcomes(kind):
        concept, feature_names = names.labeling(item.labeling_id, item.concept_id)
        yield {
            "run": run.id,
            "kind": item.kind,
            "item_id": item.id,
            "method": names.methods.get(item.method_id),
            "method_id": item.method_id,
            "labeling_id": item.labeling_id,
            "concept_id": item.concept_id,
            "concept": concept.text if concept else None,
            "features": feature_names,
            "strength": item.strength,
            "instruction_id": item.instruction_id,
            "seed": item.seed,
            "draw": item.draw,
            "item": canonical_json(item.value),
            "stage": stage,
            "source": outcome.source if outcome else None,
            "status": outcome.status if outcome else None,
            "ticket": outcome.ticket if outcome else None,
            "reason": outcome.reason if outcome else None,
            "value": canonical_json(outcome.value) if outcome else None,
        }


def _write_jsonl(rows: Iterator[dict[str, Json]], path: Path, columns: Mapping[str, str]) -> int:
    count = 0
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
            count += 1
    return count


def _write_parquet(rows: Iterator[dict[str, Json]], path: Path, columns: Mapping[str, str]) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds: dict[str, Any] = {_TEXT: pa.string(), _WHOLE: pa.int64(), _NUMBER: pa.float64(), _LIST: pa.list_(pa.string())}
    schema = pa.schema([(name, kinds[kind]) for name, kind in columns.items()])
    count = 0
    with pq.ParquetWriter(path, schema) as writer:
        while block := list(itertools.islice(rows, _BLOCK)):
            try:
                table = pa.Table.from_pylist(block, schema=schema)
            except (pa.ArrowInvalid, OverflowError) as error:
                message = f"a value does not fit a Parquet column ({error})"
                raise StoreError(message, allowed=".jsonl", hint="export to a file of that ending instead") from error
            writer.write_table(table)
            count += len(block)
    return count


_WRITERS: dict[str, Callable[[Iterator[dict[str, Json]], Path, Mapping[str, str]], int]] = {".jsonl": _write_jsonl, ".parquet": _write_parquet}
