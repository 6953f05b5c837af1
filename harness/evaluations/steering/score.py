"""From stored ratings to rows: what the manifest and the store say, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence

from harness.evaluations.steering.rows import Answered, samples_of, score_labeling, steering_row
from harness.leaderboard.entry import Row, SteeringSubject
from harness.run.label import answers_of, labelings_of
from harness.store import JudgeRecord, Record, RunStore
from harness.store.manifest import Manifest, MethodRecord, OptionValues
from harness.types import Abstention


def steering_rows(manifest: Manifest, store: RunStore, judge: JudgeRecord) -> list[Row]:
    """Return a row for each method that was steered with, by one judge's ratings."""
    texts = {instruction.id: instruction.text for instruction in store.instructions()}
    return [
        _row(manifest, store, method, list(store.records(judge.key, method.id)), texts) for method in manifest.methods_of("steering")
    ]


def _row(manifest: Manifest, store: RunStore, method: MethodRecord, records: Sequence[Record], texts: dict[str, str]) -> Row:
    by_labeling: dict[str, list[Record]] = {}
    for record in records:
        by_labeling.setdefault(record.trial.labeling_id, []).append(record)
    scored = [
        score_labeling(
            labeling,
            method.grid,
            manifest.instructions_for(labeling.concept.id),
            by_labeling.get(labeling.id, []),
            manifest.protocol,
            manifest.seed,
        )
        for labeling in labelings_of(method, manifest, store)
    ]
    abstained = [answer for answer in answers_of(method, store) if isinstance(answer, Abstention)]
    concepts = list(manifest.concepts) if manifest.task.mode == "fixed" else None
    samples = samples_of(scored, by_labeling, texts, method.id, manifest.seed)
    return steering_row(subject_of(method), method.role, Answered(scored, abstained, concepts), manifest.protocol, manifest.seed, samples)


def subject_of(method: MethodRecord) -> SteeringSubject:
    """Return what the row is about."""
    return SteeringSubject(
        labeler=None if method.labeler is None else method.labeler.name,
        steerer=method.plugin.name,
        labeler_options=OptionValues() if method.labeler is None else method.labeler.options,
        steerer_options=method.plugin.options,
        strength_unit=method.strength_unit,
        grid=method.grid,
        label=method.name,
    )
