"""Stored runs of steering that no model made: as many concepts, strengths and instructions as a test needs, rated as it says."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.store import JudgeRecord, Manifest, RunStore
from harness.store.manifest import MethodRecord, PluginRef
from harness.store.values import trial_item
from harness.types import Concept, FeatureRef, Generation, Instruction, Labeling, Method, Rating, Role, StrengthUnit, Trial
from helpers.runs import manifest
from helpers.stores import add_generations

JUDGE = JudgeRecord("tester", "test/1")
Rate = Callable[[str, int, float, int], "tuple[float, float, float] | None"]
"""Method, number of the concept, strength and place of the instruction → three ratings, or None for a text that cannot be rated."""


def method_record(name: str, role: Role = "method", grid: Sequence[float] = (0.5, 1.0)) -> tuple[Method, MethodRecord]:
    """A steerer with a labeler of its own (``name``), with another one (``labeler/steerer``), or without one where the name ends in ``!``."""
    other, _, steerer = name.rstrip("!").rpartition("/")
    labeler = None if name.endswith("!") else other or f"l-{steerer}"
    method = Method(labeler, steerer, {} if labeler is None else {"pi0": 0.5}, {"unit": "max, or =none"})
    key = PluginRef(kind="labeler", name=labeler, key=labeler, options={"given": {"pi0": 0.5}}, distribution="") if labeler else None
    plugin = PluginRef(kind="steerer", name=steerer, key=steerer, options={"default": {"unit": "max, or =none"}}, distribution="")
    unit: StrengthUnit = "none" if name.endswith("!") else "max-activation"
    return method, MethodRecord(
        kind="steering", id=method.id, name=method.name, role=role, labeler=key, plugin=plugin, strength_unit=unit, grid=tuple(grid)
    )


def steered_run(
    folder: Path,
    rate: Rate,
    methods: Sequence[str] = ("clamp", "prompt!"),
    n_concepts: int = 14,
    n_instructions: int = 4,
    feature: Callable[[int], int] = lambda concept: concept,
    text: Callable[[str, int, float, int], str] = lambda method, concept, strength, place: f"{method} {concept} {strength} {place}",
    judge: JudgeRecord = JUDGE,
    controls: Mapping[str, Callable[[int], int]] | None = None,
    planned: Sequence[MethodRecord] = (),
    **changes: Any,
) -> Manifest:
    """Write a run; the steerer whose name ends in ``!`` has no labeler and no strength: one text for each instruction.

    ``controls`` are more methods, each with its features; ``planned`` are methods of the manifest that have come to nothing yet; ``changes`` are
    fields of the manifest.
    """
    concepts = [Concept(f"c{number}", f"concept {number}") for number in range(n_concepts)]
    instructions = [Instruction(f"i{number}", f"Instruction {number}?") for number in range(n_instructions)]
    controls = controls or {}
    features = {**dict.fromkeys(methods, feature), **controls}
    grids = {name: (1.0,) if name.endswith("!") else (0.5, 1.0) for name in features}
    made = [method_record(name, "control" if name in controls else "method", grids[name]) for name in features]
    identity = {"task": {"name": "demo", "version": "1"}, "seed": 0, "methods": list(methods), "judge": {"name": judge.name, "options": {}}}
    facts: dict[str, Any] = {
        "concepts": tuple(concept.id for concept in concepts),
        "instructions": tuple(instruction.id for instruction in instructions),
        "per_concept": n_instructions,
        "methods": (*(record for _, record in made), *planned),
        "protocol": {"repeats": 3, "splits": 2},
        "command": {"task": "demo", "asked": {"steerers": list(methods)}, "choices": {"seed": 0}},
    }
    given = manifest(identity, **{**facts, **changes})
    with RunStore.create_or_open(folder, given) as store:
        store.add_concepts(concepts)
        store.add_instructions(instructions)
        store.add_methods([method for method, _ in made])
        store.add_judge(judge)
        trials: dict[str, tuple[str, int, float, int]] = {}
        items = []
        for (name, own), (method, record) in zip(features.items(), made, strict=True):
            refs = [(FeatureRef("sae", own(number)),) if record.labeler else () for number in range(n_concepts)]
            labelings = [Labeling(concept, own) for concept, own in zip(concepts, refs, strict=True)]
            if record.labeler is not None:
                store.add_labelings(record.labeler.key, labelings)
            for number, labeling in enumerate(labelings):
                asked = given.instructions_for(labeling.concept.id)
                for strength in record.grid:
                    for place, instruction in enumerate(asked):
                        trial = Trial(method.id, labeling.id, labeling.concept.id, strength, instruction, given.seed)
                        trials[trial.id] = (name.rstrip("!"), number, strength, place)
                        items.append(trial_item(trial))
        store.add_items(items)
        with store._database.transaction("fill"):
            add_generations(store, (Generation(name, f"prompt {where[3]}", text(*where), 3, "eos") for name, where in trials.items()))
            store.add_ratings(judge.key, (_rating(name, rate(*where)) for name, where in trials.items()))
    return given


def _rating(trial: str, given: tuple[float, float, float] | None) -> Rating:
    if given is None:
        return Rating(trial, "unrated", reason="refused")
    return Rating(trial, "rated", *given, details={"replies": {"concept": f"I give {given[0]:g}"}})
