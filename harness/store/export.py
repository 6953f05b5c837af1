"""What a run's file holds, as rows of a table: one per trial, or per item and outcome."""

from __future__ import annotations

from collections.abc import Iterator

from harness.files.tables import ColumnType
from harness.store.run import Record, RunStore
from harness.types import Concept, EvaluationKind, Json, Trial, canonical_json

COLUMNS: dict[str, ColumnType] = {
    "run": "text", "trial_id": "text", "method": "text", "method_id": "text", "labeler": "text", "steerer": "text",
    "concept_id": "text", "concept": "text", "features": "texts", "strength": "number", "instruction_id": "text", "instruction": "text",
    "seed": "whole", "draw": "whole", "prompt": "text", "text": "text", "n_tokens": "whole", "finish": "text",
    "judge": "text", "status": "text", "concept_rating": "number", "instruction_rating": "number", "fluency_rating": "number", "reason": "text",
}  # fmt: skip
"""The columns of a trial, in order. What does not exist yet is null; ``features`` are ``dictionary/index``; ``judge`` is the judge's key."""
OUTCOME_COLUMNS: dict[str, ColumnType] = {
    "run": "text", "kind": "text", "item_id": "text", "method": "text", "method_id": "text", "labeling_id": "text", "concept_id": "text",
    "concept": "text", "features": "texts", "strength": "number", "instruction_id": "text", "seed": "whole", "draw": "whole", "item": "text",
    "stage": "text", "source": "text", "status": "text", "ticket": "text", "reason": "text", "value": "text",
}  # fmt: skip
"""The columns of an export by item and outcome, in order. ``item`` and ``value`` are JSON as text; an item without outcomes has one row."""


class Names:
    """What a run's ids stand for."""

    def __init__(self, run: RunStore) -> None:
        self._run = run
        self.run_id = run.id
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

    def of_trial(self, trial: Trial) -> tuple[Concept | None, list[str] | None]:
        """Return concept and features of a trial; no features, as an empty list, for a method that has no labeler's answer behind it."""
        concept, features = self.labeling(trial.labeling_id, trial.concept_id)
        method = self.steering.get(trial.method_id)
        return concept, [] if features is None and method is not None and method.labeler is None else features


def trial_row(names: Names, record: Record, judge_key: str | None) -> dict[str, Json]:
    """Return a trial with its text and rating as a row of :data:`COLUMNS`."""
    trial, method = record.trial, names.steering.get(record.trial.method_id)
    concept, features = names.of_trial(trial)
    return {
        "run": names.run_id,
        "trial_id": trial.id,
        "method": names.methods.get(trial.method_id),
        "method_id": trial.method_id,
        "labeler": method.labeler if method else None,
        "steerer": method.steerer if method else None,
        "concept_id": trial.concept_id,
        "concept": concept.text if concept else None,
        "features": features,
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


def outcome_rows(run: RunStore, kind: EvaluationKind) -> Iterator[dict[str, Json]]:
    """Yield the items of a kind with their outcomes as rows of :data:`OUTCOME_COLUMNS`."""
    names = Names(run)
    for item, stage, outcome in run.item_outcomes(kind):
        concept, feature_names = names.labeling(item.labeling_id, item.concept_id)
        yield {
            "run": names.run_id,
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
