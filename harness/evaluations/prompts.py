"""Texts of the subject model for prompts of one's own: steered by one labeling at some strengths, or not steered. No judge, no store."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from harness.errors import OptionError, UnknownNameError
from harness.evaluations.steering.interventions import edited_texts, intervene, try_edits
from harness.run.bench import TaskBench
from harness.run.plan import PlannedPlugin
from harness.run.strengths import has_strength
from harness.types import Concept, FeatureRef, Instruction, Labeling

_DIGITS = 18
"""No dictionary has features of longer indices; Python refuses to read numbers of some thousand digits."""


@dataclass(frozen=True, eq=False)
class SteeredText:
    """A text that was generated under an intervention; :func:`harness.rate` takes it."""

    concept: str
    strength: float
    instruction: str
    text: str


def feature_labeling(bench: TaskBench, feature: str | int, concept: Concept | None = None) -> Labeling:
    """Return a labeling with one feature that is named by hand.

    Args:
        bench: whose dictionaries have the feature.
        feature: its index in the task's first dictionary, or ``DICTIONARY/INDEX``.
        concept: what it stands for; by default its own name.

    Raises:
        UnknownNameError: the task has no such dictionary.
        OptionError: no index, or one that the dictionary does not have.
    """
    dictionary, _, index = str(feature).strip().rpartition("/")
    if not index.isascii() or not index.isdigit() or len(index) > _DIGITS:
        raise OptionError(f"feature {feature!r:.100} is not the index of a feature", given=feature, allowed="N or DICTIONARY/N, N from 0 up")
    ref = FeatureRef(bench.dictionary_name(dictionary or None), int(index))
    if ref.index >= (width := _width(bench, ref.dictionary)):
        message = f"dictionary {ref.dictionary!r} of task {bench.task.name!r} has no feature {ref.index}"
        raise OptionError(message, given=ref.index, allowed=f"0 to {width - 1}")
    return Labeling(Concept(str(ref), f"feature {ref}") if concept is None else concept, (ref,))


def _width(bench: TaskBench, dictionary: str) -> int:
    """Return how many features a dictionary has; it is loaded only where nothing else tells."""
    known = {ref.name: ref.d_sae for ref in bench.dictionary_refs}
    return known[dictionary] if dictionary in known else bench.dictionaries[dictionary].d_sae


def check_strengths(steerer: PlannedPlugin, strengths: Sequence[float]) -> tuple[float, ...]:
    """Return strengths, each once. Raises OptionError for none, for one that is not finite, and for a steerer that has no strength."""
    found = tuple(dict.fromkeys(float(strength) for strength in strengths))
    if not found or not all(map(math.isfinite, found)):
        raise OptionError(f"the strengths {list(strengths)} are not finite numbers", given=tuple(strengths), allowed="one finite number or several")
    if not has_strength(steerer) and found != tuple(steerer.instance.traits.grid):
        message = f"steerer {steerer.registered.name!r} has no strength to choose"
        raise OptionError(message, given=tuple(strengths), hint="leave the strength out")
    return found


def check_labeling(steerer: PlannedPlugin, labeling: Labeling) -> None:
    """Raise OptionError where a steerer needs features and the labeling has none."""
    if steerer.instance.traits.needs_features and not labeling.features:
        message = f"steerer {steerer.registered.name!r} steers through features, and none is given"
        raise OptionError(message, given=steerer.registered.name, hint="name a feature, or a labeler that finds one")


def steered(
    bench: TaskBench, steerer: PlannedPlugin, labeling: Labeling, strengths: Sequence[float], instructions: Sequence[str | Instruction]
) -> list[SteeredText]:
    """Return a text for each strength and instruction, in that order.

    Raises OptionError for strengths or a labeling that the steerer cannot work with; PluginError for an intervention that is none.
    """
    from harness.engine.base import GenerationRequest

    check_labeling(steerer, labeling)
    chosen = check_strengths(steerer, strengths)
    steerer.instance.prepare(bench, [labeling])
    found = [intervene(steerer, labeling, strength) for strength in chosen]
    bench.guard.settle()
    try_edits(bench, found)
    requests, asked = [], {}
    for one in found:
        for place, text in enumerate(map(_text, instructions)):
            name = f"{steerer.registered.name} {labeling.id} {one.strength!r} {place}"
            prompt = bench.model.prompt(text, prefix=one.intervention.prompt_prefix)
            requests.append(GenerationRequest(name, prompt, bench.seed, tuple(one.intervention.edits), one.intervention.adapter))
            asked[name] = (one.strength, text)
    made = {done.id: done.text for done in edited_texts(bench, [part.registered.who for part in steerer.parts], bench.generate(requests))}
    return [SteeredText(labeling.concept.text, *strength_and_text, made[name]) for name, strength_and_text in asked.items()]


def unsteered(bench: TaskBench, instructions: Sequence[str | Instruction]) -> list[str]:
    """Return the model's own text for each instruction."""
    from harness.engine.base import GenerationRequest

    prompts = [bench.model.prompt(_text(instruction)) for instruction in instructions]
    made = {done.id: done.text for done in bench.generate([GenerationRequest(f"unsteered {n}", p, bench.seed) for n, p in enumerate(prompts)])}
    return [made[f"unsteered {place}"] for place in range(len(prompts))]


def _text(instruction: str | Instruction) -> str:
    return instruction.text if isinstance(instruction, Instruction) else instruction


def concept_called(bench: TaskBench, name: str) -> Concept:
    """Return the task's concept of this id, text or label. Raises UnknownNameError where there is none, OptionError where there are several."""
    from harness.data.concepts import choose_concepts

    found = choose_concepts(bench.concepts, [name], "a concept")
    if len(found) > 1:
        raise OptionError(f"{name!r} is the name of {len(found)} concepts", given=name, allowed=tuple(concept.id for concept in found))
    return found[0]


def concept_or_text(bench: TaskBench, text: str) -> Concept:
    """Return the task's concept of this name, or one of this text alone, without label and examples, where the task has none."""
    try:
        return concept_called(bench, text)
    except UnknownNameError:
        return Concept(text, text)
