"""Labelers' answers: from the store, or made now and checked against the contract; and what each method is run on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from harness.errors import PluginError, StoreError
from harness.plugin.calls import PluginName
from harness.run.bench import TaskBench
from harness.run.notes import note_versions
from harness.run.plan import PlannedPlugin
from harness.run.run import Run
from harness.store import RunStore
from harness.store.manifest import Manifest, MethodRecord
from harness.types import Abstention, Concept, FeatureRef, Labeling, canonical_json


def label_all(run: Run) -> None:
    """Have every labeler of the run answer that has not answered yet; its answers are in the store when it is done."""
    for labeler in run.planned.labelers:
        if run.store.labelings(labeler.key) is None:
            _label(run, labeler)


def _label(run: Run, labeler: PlannedPlugin) -> None:
    """A labeler's answers. In fixed mode there is one for each concept, in the task's order."""
    name = labeler.registered.name
    run.progress.step(f"labelling with {name}")
    note_versions(run.store, run.warnings, "labels", [labeler.registered.made_by])
    answers = labeler.instance.label(run.bench, run.bench.concepts)
    check_answers(labeler.registered.who, answers, run.bench)
    run.store.add_labelings(labeler.key, answers)


def check_answers(who: PluginName, answers: Sequence[Any], bench: TaskBench) -> None:
    """Raise PluginError for answers that break the contract."""
    asked = {concept.id: concept for concept in bench.concepts}
    seen: set[str] = set()
    for answer in answers:
        if not isinstance(answer, Labeling | Abstention):
            message = f"{who}: label returned a value of class {type(answer).__name__}"
            raise PluginError(message, given=answer, allowed=("Labeling", "Abstention"))
        if not isinstance(answer.concept, Concept):
            message = f"{who} answered a concept of class {type(answer.concept).__name__}"
            raise PluginError(message, given=answer.concept, allowed="one of the concepts that label is given")
        if bench.concept_mode == "fixed" and asked.get(answer.concept.id) != answer.concept:
            message = f"{who} answered concept {answer.concept.id!r}, which is not one of those that it was asked for"
            raise PluginError(message, given=answer.concept.id, allowed=tuple(asked), hint="answer with the very concepts that label is given")
        if isinstance(answer, Labeling):
            _check_values(who, answer)
            _check_features(who, answer, bench)
            if answer.id in seen:
                message = f"{who} gave concept {answer.concept.id!r} the same features twice"
                raise PluginError(message, given=answer.concept.id, hint="give each set of features once")
            seen.add(answer.id)
        elif not isinstance(answer.reason, str):
            message = f"{who} abstained from concept {answer.concept.id!r} with a reason of class {type(answer.reason).__name__}"
            raise PluginError(message, given=answer.reason, allowed="text")
    if bench.concept_mode == "fixed" and sorted(a.concept.id for a in answers) != sorted(asked):
        message = f"{who} gave {len(answers)} answers for {len(asked)} concepts"
        raise PluginError(message, given=len(answers), allowed=len(asked), hint="answer or abstain from each once")


def _check_values(who: PluginName, answer: Labeling) -> None:
    """Features, score and evidence are what the store can keep."""
    about = f"for concept {answer.concept.id!r}"
    if not isinstance(answer.features, tuple | list) or not all(isinstance(feature, FeatureRef) for feature in answer.features):
        raise PluginError(f"{who} gave the features {answer.features!r} {about}", given=answer.features, allowed="a tuple of FeatureRef")
    for feature in answer.features:
        if isinstance(feature.index, bool) or not isinstance(feature.index, int) or not isinstance(feature.dictionary, str):
            message = f"{who} named feature {feature} {about}, whose index is of class {type(feature.index).__name__}"
            raise PluginError(message, given=feature, allowed="the dictionary's name, and a whole number (int(…) makes one of numpy's)")
    score = answer.score
    if score is not None and (isinstance(score, bool) or not isinstance(score, int | float) or not math.isfinite(score)):
        raise PluginError(f"{who} gave the score {score!r} {about}", given=score, allowed="a finite number (float(…) makes one of numpy's), or None")
    try:
        canonical_json(dict(answer.evidence))
    except (TypeError, ValueError, RecursionError) as error:
        message = f"{who} gave evidence {about} that cannot be stored ({error})"
        raise PluginError(message, given=answer.evidence, allowed="JSON without NaN") from None


def _check_features(who: PluginName, answer: Labeling, bench: TaskBench) -> None:
    for feature in answer.features:
        dictionary = bench.dictionaries.get(feature.dictionary)
        if dictionary is None or not 0 <= feature.index < dictionary.d_sae:
            message = f"{who} named feature {feature}, which does not exist in the task's dictionaries"
            known = tuple(bench.dictionaries) if dictionary is None else f"indices 0 to {dictionary.d_sae - 1}"
            raise PluginError(message, given=feature, allowed=known)
    if len(set(answer.features)) != len(answer.features):
        message = f"{who} named a feature of concept {answer.concept.id!r} twice"
        raise PluginError(message, given=answer.concept.id, hint="name each feature once")


# ------------------------------------------------------------------------------------------------------------- what the store says


def concepts_of(manifest: Manifest, store: RunStore) -> list[Concept]:
    """The task's concepts (fixed mode) or candidates (chosen mode), in their order."""
    known = {concept.id: concept for concept in store.concepts()}
    return [known[name] for name in manifest.concepts if name in known]


def answers_of(method: MethodRecord, store: RunStore) -> Sequence[Labeling | Abstention]:
    """The answers of a method's labeler; none for a method without one. Raises StoreError where it has not answered yet."""
    if method.labeler is None:
        return ()
    found = store.labelings(method.labeler.key)
    if found is None:
        message = f"the run in {store.folder} stopped before labelling was done"
        raise StoreError(message, given=store.folder, hint="run its `harness eval` again first")
    return found


def labelings_of(method: MethodRecord, manifest: Manifest, store: RunStore) -> list[Labeling]:
    """The labelings that a method is run on: its labeler's, or (without a labeler) every concept that is in play.

    In chosen mode these are the concepts that the labelers asked for chose; without such a labeler, the task's candidates.
    """
    limit, fixed = manifest.limit, manifest.task.mode == "fixed"
    if method.labeler is not None:
        chosen = [answer for answer in answers_of(method, store) if isinstance(answer, Labeling)]
        return chosen if fixed else chosen[:limit]
    if fixed:
        return [Labeling(concept) for concept in concepts_of(manifest, store)]
    asked = {m.labeler.key: m for m in manifest.methods if m.labeler is not None and m.role == "method"}
    limited = [answer for other in asked.values() for answer in [a for a in answers_of(other, store) if isinstance(a, Labeling)][:limit]]
    concepts = {answer.concept.id: answer.concept for answer in limited}
    return [Labeling(concept) for concept in (concepts.values() if asked else concepts_of(manifest, store)[:limit])]
