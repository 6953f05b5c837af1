"""A labeler's answers, from the store or made now, checked against the contract."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.errors import PluginError
from harness.run.bench import TaskBench
from harness.run.notes import note_versions
from harness.run.plan import PlannedPlugin
from harness.store import RunStore
from harness.types import Abstention, Labeling

if TYPE_CHECKING:
    pass


def label(labeler: PlannedPlugin, bench: TaskBench, store: RunStore) -> Sequence[Labeling | Abstention]:
    """A labeler's answers: from the store, or made now. In fixed mode there is one for each concept, in the task's order."""
    stored = store.labelings(labeler.key)
    if stored is not None:
        return stored
    bench.progress.step(f"labelling with {labeler.registered.name}")
    note_versions(bench, store, "labels", [labeler])
    answers = list(labeler.instance.label(bench, bench.concepts))
    check_answers(labeler.registered.name, answers, bench)
    store.add_labelings(labeler.key, answers)
    return answers


def check_answers(name: str, answers: Sequence[Labeling | Abstention], bench: TaskBench) -> None:
    """Raise PluginError for answers that break the contract."""
    asked = {concept.id: concept for concept in bench.concepts}
    seen: set[str] = set()
    for answer in answers:
        if not isinstance(answer, Labeling | Abstention):
            raise PluginError(f"labeler {name!r} answered with {type(answer).__name__}; it must give Labeling or Abstention values")
        if bench.concept_mode == "fixed" and asked.get(answer.concept.id) != answer.concept:
            raise PluginError(f"labeler {name!r} answered concept {answer.concept.id!r}, which is none of those that it was asked for")
        if isinstance(answer, Labeling):
            _check_features(name, answer, bench)
            if answer.id in seen:
                raise PluginError(f"labeler {name!r} gave concept {answer.concept.id!r} the same features twice")
            seen.add(answer.id)
    if bench.concept_mode == "fixed" and sorted(a.concept.id for a in answers) != sorted(asked):
        raise PluginError(f"labeler {name!r} gave {len(answers)} answers for {len(asked)} concepts; answer or abstain from each once")


def _check_features(name: str, answer: Labeling, bench: TaskBench) -> None:
    for feature in answer.features:
        dictionary = bench.dictionaries.get(feature.dictionary)
        if dictionary is None or not 0 <= feature.index < dictionary.d_sae:
            raise PluginError(f"labeler {name!r} named feature {feature}, which does not exist in the task's dictionaries")
    if len(set(answer.features)) != len(answer.features):
        raise PluginError(f"labeler {name!r} named a feature of concept {answer.concept.id!r} twice")
