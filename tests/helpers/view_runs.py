"""Small runs for the pages of `harness view`, stored as an evaluation stores them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from harness.store import JudgeRecord, RunStore
from harness.store.manifest import MethodRecord, PluginRef
from harness.store.values import trial_item
from harness.types import Concept, FeatureRef, Generation, Instruction, Labeling, Method, Rating, Trial
from helpers.runs import manifest

STRENGTHS = (0.1, 0.2, 0.4)
STEERED, PLAIN = Method("finder", "pusher"), Method(None, "nothing")
CONCEPTS = (Concept("sea", "the sea"), Concept("war", "war and <b>peace</b>"))
INSTRUCTIONS = tuple(Instruction(f"i{n}", f"Tell me about number {n}.") for n in range(5))
LABELINGS = tuple(Labeling(concept, (FeatureRef("sae", place),), 0.5) for place, concept in enumerate(CONCEPTS))
JUDGES = (JudgeRecord("kind", "test/1", {"model": "m1"}), JudgeRecord("strict", "test/1"))
HOSTILE = "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'> {{ 7 * 7 }} & \"quoted\" \x1b[31m"


def _record(method: Method, grid: Sequence[float], unit: Any, labeler: bool) -> MethodRecord:
    return MethodRecord(
        kind="steering",
        id=method.id,
        name=method.name,
        role="method" if labeler else "control",
        plugin=PluginRef(kind="steerer", name=method.steerer, key=method.steerer, distribution=""),
        labeler=PluginRef(kind="labeler", name="finder", key="finder", distribution="") if labeler else None,
        strength_unit=unit,
        grid=tuple(grid),
    )


def trials() -> list[Trial]:
    """The trials of the run: every concept, strength and instruction, then the unsteered ones."""
    steered = [
        Trial(STEERED.id, labeling.id, labeling.concept.id, strength, instruction.id, 0)
        for labeling in LABELINGS
        for strength in STRENGTHS
        for instruction in INSTRUCTIONS
    ]
    plain = [Trial(PLAIN.id, f"plain {c.id}", c.id, 0.0, instruction.id, 0) for c in CONCEPTS for instruction in INSTRUCTIONS]
    return steered + plain


def begin(folder: Path, seed: int = 0) -> RunStore:
    """A run without a text, open to be written."""
    records = (_record(STEERED, STRENGTHS, "residual-norm", True), _record(PLAIN, (0.0,), "none", False))
    store = RunStore.create_or_open(folder, manifest({"task": {"name": "demo", "version": "1"}, "seed": seed}, methods=records))
    store.add_concepts(CONCEPTS)
    store.add_instructions(INSTRUCTIONS)
    store.add_methods([STEERED, PLAIN])
    store.add_labelings("finder", LABELINGS)
    store.add_items(map(trial_item, trials()))
    return store


def write(store: RunStore, some: Iterable[Trial], text: str = "Waves of {0.concept_id} at {0.strength} for {0.instruction_id}.") -> None:
    """Store the texts of some trials."""
    for trial in some:
        store.add_generation(Generation(trial.id, f"<user>{trial.instruction_id}", text.format(trial), 7, "eos"))


def rate(store: RunStore, judge: JudgeRecord, some: Iterable[Trial]) -> str:
    """Store ratings: the kind judge likes strength .2 best, the strict one gives nothing above 1; every seventh is unrated."""
    key = store.add_judge(judge)
    places = {trial.id: place for place, trial in enumerate(trials())}
    store.add_ratings(key, (_rating(judge, trial, places[trial.id]) for trial in some))
    return key


def _rating(judge: JudgeRecord, trial: Trial, place: int) -> Rating:
    if place % 7 == 6:
        return Rating(trial.id, "unrated", reason="no number in the reply", details={"replies": {"concept": "I <i>cannot</i> say."}})
    if judge.name == "kind":
        concept, instruction = (2.0 if trial.strength == 0.2 else 0.5), 1.0 + place % 2
    else:
        concept, instruction = min(1.0, place % 3 / 2), float(place % 3)
    return Rating(trial.id, "rated", concept, instruction, 2.0, details={"replies": {"concept": f"Rating: [[{concept:g}]]"}, "model": "m1"})


def make(folder: Path, hostile: bool = False) -> None:
    """A finished run of 40 texts, rated by two judges; its first text is hostile if that is asked for."""
    with begin(folder) as store:
        every = trials()
        if hostile:
            store.add_generation(Generation(every[0].id, HOSTILE, HOSTILE, 7, "eos"))
        write(store, every[1:] if hostile else every)
        for judge in JUDGES:
            rate(store, judge, every)
        store.finish()
