"""Labelers' answers: from the store, or made now and checked against the contract; and what each method is run on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from numbers import Integral, Real
from typing import Any

from harness.contracts import Abstains
from harness.errors import OptionError, PluginError, StoreError
from harness.files.timing import CLOCK
from harness.labelling.passages import with_passages
from harness.plugin.calls import PluginName
from harness.run.abstaining import ABSTAINED, reasons_of, without
from harness.run.bench import TaskBench
from harness.run.concept_check import explained, note_problems
from harness.run.notes import note_versions
from harness.run.plan import PlannedPlugin
from harness.run.profile import LABELERS
from harness.run.run import Run
from harness.store import RunStore
from harness.store.manifest import Manifest, MethodRecord
from harness.types import Abstention, Concept, FeatureRef, Labeling, canonical_json


def label_all(run: Run) -> None:
    """Have every labeler of the run answer that has not answered yet; its answers are in the store when it is done.

    So is, then, what steerers and detectors abstain from.
    """
    if any(run.store.labelings(labeler.key) is None for labeler in run.planned.labelers):
        note_problems(run.bench)
    for labeler in sorted(run.planned.labelers, key=lambda labeler: labeler.follows is not None):  # whom it follows comes first
        if run.store.labelings(labeler.key) is None:
            _label(run, labeler)
    _ask_who_abstains(run)


def _ask_who_abstains(run: Run) -> None:
    """Keep which concepts steerers and detectors have no answer for; each is asked once in a run."""
    plugins = {m.method.id: m.steerer for m in run.planned.methods} | {d.method.id: d.detector for d in run.planned.detections}
    able = [method for method in run.manifest.methods if isinstance(plugins[method.id].instance, Abstains)]
    if not able or run.store.record(ABSTAINED) is not None:
        return
    found = {}
    for method in able:
        if run.manifest.task.mode == "fixed":
            concepts = concepts_of(run.manifest, run.store)
        else:
            concepts = list({one.concept.id: one.concept for one in in_play(method, run.manifest, run.store)}.values())
        found[method.id] = dict(plugins[method.id].instance.abstains(concepts))
    run.store.set_record(ABSTAINED, found)


def _label(run: Run, labeler: PlannedPlugin) -> None:
    """Ask for a labeler's answers. In fixed mode there is one for each concept, in the task's order; one that follows answers what another chose."""
    name = labeler.registered.name
    run.progress.step(f"labelling with {name}")
    note_versions(run.store, run.warnings, "labels", [labeler.registered.made_by])
    followed = None if labeler.follows is None or run.bench.concept_mode == "fixed" else _chosen_by(run, labeler.follows)
    run.bench.answered = {other.identity_key: run.store.labelings(other.key) or () for other in run.planned.labelers if other.follows is None}
    with CLOCK.part(LABELERS):
        answers = labeler.instance.label(run.bench, run.bench.concepts if followed is None else followed)
    answers = checked(labeler, answers, run.bench, followed)
    if _shows_passages(run, labeler):
        run.progress.step(f"reading the passages on which the features of {name} fire")
        with CLOCK.part(LABELERS):
            answers = with_passages(run.bench, answers, run.bench.known_statistics)
    run.store.add_labelings(labeler.key, explained(answers, run.bench))


def _shows_passages(run: Run, labeler: PlannedPlugin) -> bool:
    """Return whether a run's page shows passages of a labeler's features: of one that was asked for, where there are statistics of the corpus."""
    asked = {m.labeler.key for m in run.manifest.methods if m.labeler is not None and m.role == "method"}
    return labeler.key in asked and bool(run.bench.known_statistics)


def checked(
    labeler: PlannedPlugin, answers: Sequence[Any], bench: TaskBench, followed: Sequence[Concept] | None = None
) -> list[Labeling | Abstention]:
    """Return a labeler's answers with Python's own numbers in place of numpy's. Raises PluginError as :func:`check_answers` does."""
    check_answers(labeler.registered.who, answers, bench, labeler.draws(bench.concept_mode), followed)
    return [_with_plain_numbers(answer) if isinstance(answer, Labeling) else answer for answer in answers]


def _with_plain_numbers(answer: Labeling) -> Labeling:
    features = tuple(FeatureRef(feature.dictionary, int(feature.index)) for feature in answer.features)
    return replace(answer, features=features, score=None if answer.score is None else float(answer.score))


def _chosen_by(run: Run, key: str) -> list[Concept]:
    """Return the concepts that the labeler with this ``identity_key`` chose, in its order and as often as it chose them."""
    leader = next((labeler for labeler in run.planned.labelers if labeler.identity_key == key), None)
    if leader is None:
        allowed = tuple(labeler.identity_key for labeler in run.planned.labelers if labeler.follows is None)
        raise OptionError(f"a labeler is to follow {key!r}, which is not part of this run", given=key, allowed=allowed, hint="leave out follows")
    answers = run.store.labelings(leader.key) or []
    return [answer.concept for answer in answers if isinstance(answer, Labeling)][: run.manifest.limit]


def check_answers(
    who: PluginName, answers: Sequence[Any], bench: TaskBench, draws: int = 1, followed: Sequence[Concept] | None = None
) -> None:
    """Raise PluginError for answers that break the contract.

    Args:
        who: the labeler.
        answers: what it returned.
        bench: that it worked at.
        draws: how often each concept is answered, in turn.
        followed: the concepts that another labeler chose, where those are to be answered.
    """
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
            _check_fit(who, answer, bench)
            if answer.id in seen:
                message = f"{who} gave concept {answer.concept.id!r} the same features twice"
                raise PluginError(message, given=answer.concept.id, hint="give each set of features once")
            seen.add(answer.id)
        elif not isinstance(answer.reason, str):
            message = f"{who} abstained from concept {answer.concept.id!r} with a reason of class {type(answer.reason).__name__}"
            raise PluginError(message, given=answer.reason, allowed="text")
    if bench.concept_mode == "fixed" and sorted(a.concept.id for a in answers) != sorted([*asked] * draws):
        message = f"{who} gave {len(answers)} answers for {len(asked)} concepts"
        hint = "answer or abstain from each once" if draws == 1 else f"answer or abstain from each {draws} times"
        raise PluginError(message, given=len(answers), allowed=draws * len(asked), hint=hint)
    wanted = [concept.id for concept in (bench.concepts if followed is None else followed) for _ in range(draws)]
    if (followed is not None or (draws > 1 and bench.concept_mode == "fixed")) and [answer.concept.id for answer in answers] != wanted:
        message = f"{who} gave {len(answers)} answers, which are not those of the concepts that it was asked for, {draws} each, in turn"
        raise PluginError(message, given=len(answers), allowed=len(wanted), hint="answer the concepts in their order, each as often as draws says")


def _check_values(who: PluginName, answer: Labeling) -> None:
    """Features, score and evidence are what the store can keep."""
    about = f"for concept {answer.concept.id!r}"
    if not isinstance(answer.features, tuple | list) or not all(isinstance(feature, FeatureRef) for feature in answer.features):
        raise PluginError(f"{who} gave the features {answer.features!r} {about}", given=answer.features, allowed="a tuple of FeatureRef")
    for feature in answer.features:
        if isinstance(feature.index, bool) or not isinstance(feature.index, Integral) or not isinstance(feature.dictionary, str):
            message = f"{who} named feature {feature} {about}, whose index is of class {type(feature.index).__name__}"
            raise PluginError(message, given=feature, allowed="the dictionary's name, and a whole number")
    score = answer.score
    if score is not None and (isinstance(score, bool) or not isinstance(score, Real) or not math.isfinite(score)):
        raise PluginError(f"{who} gave the score {score!r} {about}", given=score, allowed="a finite number, or None")
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


def _check_fit(who: PluginName, answer: Labeling, bench: TaskBench) -> None:
    """What a control steers by in place of a concept's own fit is another concept of the run."""
    if answer.fit is None:
        return
    others = tuple(concept.id for concept in bench.concepts if concept.id != answer.concept.id)
    if answer.fit not in others:
        message = f"{who} named the fit of {answer.fit!r} for concept {answer.concept.id!r}"
        raise PluginError(message, given=answer.fit, allowed=others or "none: there is one concept", hint="name another concept's id, or None")


# ------------------------------------------------------------------------------------------------------------- what the store says


def concepts_of(manifest: Manifest, store: RunStore) -> list[Concept]:
    """Return the task's concepts (fixed mode) or candidates (chosen mode), in their order."""
    known = {concept.id: concept for concept in store.concepts()}
    return [known[name] for name in manifest.concepts if name in known]


def answers_of(method: MethodRecord, store: RunStore) -> Sequence[Labeling | Abstention]:
    """Return the answers of a method's labeler, with abstentions in place of those that its steerer or detector has none for.

    None for a method without a labeler. Raises StoreError where it has not answered yet.
    """
    return without(_answers_of(method, store), reasons_of(method, store))


def _answers_of(method: MethodRecord, store: RunStore) -> Sequence[Labeling | Abstention]:
    if method.labeler is None:
        return ()
    found = store.labelings(method.labeler.key)
    if found is None:
        message = f"the run in {store.folder} stopped before labelling was done"
        raise StoreError(message, given=store.folder, hint="run its `harness eval` again first")
    return found


def groups_of(method: MethodRecord, manifest: Manifest, store: RunStore) -> list[Sequence[Labeling | Abstention]]:
    """Return the answers of a method's labeler that a run goes by, those together that are draws of one concept; in chosen mode no abstentions."""
    return _groups(answers_of(method, store), method, manifest)


def _groups(answers: Sequence[Labeling | Abstention], method: MethodRecord, manifest: Manifest) -> list[Sequence[Labeling | Abstention]]:
    size = method.draws
    groups = [answers[start : start + size] for start in range(0, len(answers), size)]
    if manifest.task.mode == "fixed":
        return groups
    return [group for group in groups if any(isinstance(answer, Labeling) for answer in group)][: manifest.limit]


def labelings_of(method: MethodRecord, manifest: Manifest, store: RunStore) -> list[Labeling]:
    """Return the labelings that a method is run on: its labeler's, or (without a labeler) every concept that is in play.

    In chosen mode these are the concepts that the labelers asked for chose; without such a labeler, the task's candidates.
    """
    reasons = reasons_of(method, store)
    return [answer for answer in without(in_play(method, manifest, store), reasons) if isinstance(answer, Labeling)]


def in_play(method: MethodRecord, manifest: Manifest, store: RunStore) -> list[Labeling]:
    """Return the labelings that a method would be run on if its steerer or detector had an answer for each."""
    if method.labeler is not None:
        return [answer for group in _groups(_answers_of(method, store), method, manifest) for answer in group if isinstance(answer, Labeling)]
    if manifest.task.mode == "fixed":
        return [Labeling(concept) for concept in concepts_of(manifest, store)]
    asked = {m.labeler.key: m for m in manifest.methods if m.labeler is not None and m.role == "method"}
    chosen = [labeling for other in asked.values() for labeling in in_play(other, manifest, store)]
    concepts = {labeling.concept.id: labeling.concept for labeling in chosen}
    return [Labeling(concept) for concept in (concepts.values() if asked else concepts_of(manifest, store)[: manifest.limit])]


def abstentions_of(method: MethodRecord, manifest: Manifest, store: RunStore) -> list[Abstention]:
    """The concepts that a method's labeler, or its steerer or detector, has no answer for; of draws, those without any."""
    if method.labeler is None:
        reasons = reasons_of(method, store)
        return [Abstention(one.concept, reasons[one.concept.id]) for one in in_play(method, manifest, store) if one.concept.id in reasons]
    if method.draws == 1:
        return [answer for answer in answers_of(method, store) if isinstance(answer, Abstention)]
    groups = groups_of(method, manifest, store)
    return [group[0] for group in groups if isinstance(group[0], Abstention) and not any(isinstance(answer, Labeling) for answer in group)]


def controlled_by(method: MethodRecord, manifest: Manifest) -> list[str]:
    """Return what people call the labelers that a method stands for as their control; where two are called the same, their keys."""
    labelers = [labeler for labeler in manifest.labelers if labeler.key in method.controls]
    titles = [labeler.title for labeler in manifest.labelers]
    return [labeler.title if titles.count(labeler.title) == 1 else labeler.key for labeler in labelers]
