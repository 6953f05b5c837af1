"""From stored scores to the rows of an entry: one for each detection method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.evaluations.detection.aspects import ASPECTS, aspects_of, draw_items
from harness.evaluations.detection.records import Truth, unpack
from harness.evaluations.detection.score import (
    ConceptScore,
    DetectionResult,
    abstained,
    failed,
    mean_of_draws,
    score_concept,
    summarise,
)
from harness.leaderboard.aspects import AspectItem, Aspects
from harness.leaderboard.entry import DetectionSubject, ItemResult, Row
from harness.run.label import abstentions_of, controlled_by, groups_of, labelings_of
from harness.store import RunStore
from harness.store.manifest import Manifest, MethodRecord, OptionValues
from harness.store.values import Outcome
from harness.types import Json, Labeling, Role, digest

DETECT = "detect"
"""The stage in which texts are scored."""
TEXTS = "detection texts"
"""The record of a run that says which texts are scored."""


def item_id(method_id: str, labeling_id: str) -> str:
    """Identifies a labeling of a detection method."""
    return digest(["detection", method_id, labeling_id], 24)


def detection_rows(manifest: Manifest, store: RunStore) -> list[Row]:
    """Return the rows of a run's detection methods, in the order of the plan."""
    truths = {item.id: Truth.from_json(item.value) for item in store.items("detection")}
    outcomes = {outcome.item_id: outcome for outcome in store.outcomes(DETECT, kind="detection")}
    texts: Mapping[str, Json] = store.record(TEXTS) or {}
    left_out: Mapping[str, str] = texts.get("left_out", {})
    aspects: Mapping[str, Json] = texts.get(ASPECTS, {})
    return [_row(manifest, store, method, truths, outcomes, left_out, aspects) for method in manifest.methods_of("detection")]


def _row(
    manifest: Manifest,
    store: RunStore,
    method: MethodRecord,
    truths: Mapping[str, Truth],
    outcomes: Mapping[str, Outcome],
    left_out: Mapping[str, str],
    aspects: Mapping[str, Json],
) -> Row:
    items = []
    ids: Mapping[str, Sequence[str]] = aspects.get("texts", {})
    on_aspects: dict[str, list[list[AspectItem]]] = {}
    for group in _groups(manifest, store, method):
        if group[0].concept.id in left_out:
            continue
        draws = [_concept_score(manifest, method, labeling, truths, outcomes) for labeling in group]
        items.append(draws[0] if len(draws) == 1 else mean_of_draws(draws))
        for labeling, draw in zip(group, draws, strict=True):
            outcome = outcomes.get(item_id(method.id, labeling.id))
            if labeling.concept.id in ids and outcome is not None and outcome.status == "done" and ASPECTS in outcome.value:
                own = draw_items(labeling.concept.id, ids[labeling.concept.id], outcome.value[ASPECTS], draw)
                on_aspects.setdefault(labeling.concept.id, []).append(own)
    items += [
        abstained((answer.concept.id, answer.concept.text), answer.reason)
        for answer in abstentions_of(method, manifest, store)
        if answer.concept.id not in left_out
    ]
    negatives = manifest.protocol.negatives
    found = summarise(items, fixed=manifest.task.mode == "fixed", selects_on=method.selects_on, seed=manifest.seed, negatives=negatives)
    silent = [item.id for item in items if not item.answered] if manifest.task.mode == "fixed" else []
    robust = aspects_of(aspects, on_aspects, silent, manifest.seed)
    return _entry_row(method, method.role, found, controlled_by(method, manifest), robust)


def _groups(manifest: Manifest, store: RunStore, method: MethodRecord) -> list[list[Labeling]]:
    """What a method was run on, draws of one concept together."""
    if method.labeler is None or method.draws == 1:
        return [[labeling] for labeling in labelings_of(method, manifest, store)]
    groups = [[answer for answer in group if isinstance(answer, Labeling)] for group in groups_of(method, manifest, store)]
    return [group for group in groups if group]


def _concept_score(
    manifest: Manifest, method: MethodRecord, labeling: Labeling, truths: Mapping[str, Truth], outcomes: Mapping[str, Outcome]
) -> ConceptScore:
    concept, features = (labeling.concept.id, labeling.concept.text), tuple(str(feature) for feature in labeling.features)
    name = item_id(method.id, labeling.id)
    outcome = outcomes.get(name)
    if outcome is None or outcome.status != "done":
        return failed(concept, features, "not scored yet" if outcome is None else outcome.reason)
    scores = {part: unpack(packed) for part, packed in outcome.value.items()}
    return score_concept(concept, features, truths[name], scores, manifest.protocol.pi0)


def _entry_row(method: MethodRecord, role: Role, found: DetectionResult, controls: Sequence[str], aspects: Aspects | None) -> Row:
    return Row(
        kind="detection",
        role=role,
        subject=DetectionSubject(
            labeler=None if method.labeler is None else method.labeler.name,
            detector=method.plugin.name,
            labeler_options=OptionValues() if method.labeler is None else method.labeler.options,
            detector_options=method.plugin.options,
            label=method.name,
        ),
        primary=found.primary,
        metrics=dict(found.metrics),
        ranked=found.ranked,
        n_items=found.n_items,
        n_answered=found.n_answered,
        coverage=found.coverage,
        n_texts=found.n_texts,
        eligible=found.eligible,
        reasons=found.reasons,
        items=tuple(_item(item, found.metrics) for item in found.items),
        warnings=found.warnings,
        controls=tuple(controls),
        control=method.control,
        aspects=aspects,
    )


def _item(item: ConceptScore, metrics: Mapping[str, object]) -> ItemResult:
    names: Sequence[str] = [name for name in metrics if name in item.values] if item.answered else list(metrics)
    return ItemResult(
        id=item.id,
        text=item.text,
        features=item.features,
        answered=item.answered,
        values={name: item.values.get(name) for name in names} if item.answered else dict.fromkeys(names),
        trivial={name: value for name, value in item.trivial.items() if name in metrics},
        n=item.n,
        details=dict(item.details),
        reason=item.reason,
    )
