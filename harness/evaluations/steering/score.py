"""From stored ratings to rows: what the manifest and the store say, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from harness.evaluations.steering.concepts import Scored, mean_of_draws, score_labeling
from harness.evaluations.steering.reading import reading
from harness.evaluations.steering.rows import Answered, samples_of, steering_row
from harness.evaluations.steering.side_effects.score import StoredSideEffects
from harness.leaderboard.entry import Row, SteeringSubject
from harness.run.label import abstentions_of, controlled_by, groups_of, labelings_of
from harness.store import JudgeRecord, Record, RunStore
from harness.store.manifest import Manifest, MethodRecord, OptionValues
from harness.types import Labeling


def steering_rows(manifest: Manifest, store: RunStore, judge: JudgeRecord) -> list[Row]:
    """Return a row for each method that was steered with, by one judge's ratings."""
    texts = {instruction.id: instruction.text for instruction in store.instructions()}
    methods = manifest.methods_of("steering")
    records = {method.id: _by_labeling(store.records(judge.key, method.id)) for method in methods}
    scored = {method.id: _scored(manifest, store, method, records[method.id]) for method in methods}
    beside = StoredSideEffects(store, manifest.seed)
    rows = []
    for method in methods:
        own, subject = scored[method.id], subject_of(method)
        concepts = list(manifest.concepts) if manifest.task.mode == "fixed" else None
        rows.append(
            steering_row(
                subject,
                method.role,
                Answered(own, abstentions_of(method, manifest, store), concepts),
                manifest.protocol,
                manifest.seed,
                samples_of(own, records[method.id], texts, method.id, manifest.seed, manifest.protocol.goal),
                controlled_by(method, manifest),
                method.control,
                [reading(own, method.grid, scored[m.id], subject_of(m), manifest.seed) for m in _stands_for(method, methods)],
                beside.of(own, records[method.id]),
            )
        )
    return rows


def scored_labelings(manifest: Manifest, store: RunStore, judge: JudgeRecord, method: MethodRecord) -> list[Scored]:
    """Return the scores of what a method was run on, by one judge's ratings; draws of one concept as their mean."""
    return _scored(manifest, store, method, _by_labeling(store.records(judge.key, method.id)))


def _by_labeling(records: Iterable[Record]) -> dict[str, list[Record]]:
    found: dict[str, list[Record]] = {}
    for record in records:
        found.setdefault(record.trial.labeling_id, []).append(record)
    return found


def _scored(manifest: Manifest, store: RunStore, method: MethodRecord, records: Mapping[str, Sequence[Record]]) -> list[Scored]:
    """The scores of what a method was run on; draws of one concept as their mean."""

    def score(labeling: Labeling) -> Scored:
        instructions = manifest.instructions_for(labeling.concept.id)
        return score_labeling(labeling, method.grid, instructions, records.get(labeling.id, []), manifest.protocol, manifest.seed)

    if method.draws == 1:
        return [score(labeling) for labeling in labelings_of(method, manifest, store)]
    groups = [[score(one) for one in group if isinstance(one, Labeling)] for group in groups_of(method, manifest, store)]
    return [mean_of_draws(group) for group in groups if group]


def _stands_for(control: MethodRecord, methods: Sequence[MethodRecord]) -> list[MethodRecord]:
    """The methods with the control's steerer whose labelers it stands for, if there is a strength to choose."""
    if control.role != "control" or len(control.grid) < 2:
        return []
    same = [method for method in methods if method.role == "method" and method.plugin.key == control.plugin.key]
    return [method for method in same if method.labeler is not None and method.labeler.key in control.controls]


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
