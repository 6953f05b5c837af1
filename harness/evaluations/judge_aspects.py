"""How robust a judge's concept rating is against other concepts in a text: the texts of an aspect set, rated, and scored as a detector's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from harness.data.aspects import VARIANTS, AspectText
from harness.errors import TaskError
from harness.leaderboard.aspects import AspectItem, Aspects, over_texts
from harness.run.bench import TaskBench
from harness.scoring.aspects import NAMES, aspect_scores
from harness.types import JudgeItem, Rating

INSTRUCTION = "Write a short text."
"""What a judge is told that the texts answer: nothing that holds a concept."""
PRESENT = 1.0
"""The concept rating from which on a concept counts as present: 0 means absent by every rubric. It is not chosen on these texts."""


def judge_items(bench: TaskBench, texts: Sequence[AspectText]) -> list[JudgeItem]:
    """Return the variants of all base texts as a judge is shown them, in an order that tells nothing of what belongs together.

    Raises TaskError for a target that the task's list of concepts lacks.
    """
    concepts = {concept.id: concept.text for concept in bench.list_concepts()}
    for one in texts:
        if one.concept not in concepts:
            message = f"aspect text {one.id!r} has the target {one.concept!r}, which task {bench.task.name!r} does not list"
            raise TaskError(message, given=one.concept, allowed=tuple(concepts), hint="give a task whose concepts these are")
    items = [
        JudgeItem(f"{one.id}:{name}", concepts[one.concept], INSTRUCTION, text)
        for one in texts
        for name, text in zip(VARIANTS, one.variants, strict=True)
    ]
    order = bench.rng("aspect-texts").permutation(len(items))
    return [items[int(place)] for place in order]


def judged(digest: str, texts: Sequence[AspectText], ratings: Sequence[Rating], seed: int) -> Aspects:
    """Return a judge's numbers; a base text of which a variant is unrated has none, and is no negative for others.

    Args:
        digest: of the set.
        texts: of the set.
        ratings: of :func:`judge_items`.
        seed: of the intervals.
    """
    rated = {rating.item_id: rating.concept for rating in ratings if rating.status == "rated"}
    by_concept: dict[str, list[AspectText]] = {}
    for one in texts:
        by_concept.setdefault(one.concept, []).append(one)
    found: dict[str, Mapping[str, float | None]] = {}
    for own in by_concept.values():
        whole = [one for one in own if all(f"{one.id}:{name}" in rated for name in VARIANTS)]
        if whole:
            table = np.array([[rated[f"{one.id}:{name}"] for name in VARIANTS] for one in whole], dtype=np.float64)
            values = aspect_scores(table, PRESENT)
            found |= {one.id: {name: float(values[name][place]) for name in NAMES} for place, one in enumerate(whole)}
    nothing: Mapping[str, float | None] = dict.fromkeys(NAMES)
    return over_texts(digest, [AspectItem(id=one.id, concept=one.concept, values=dict(found.get(one.id, nothing))) for one in texts], seed)
