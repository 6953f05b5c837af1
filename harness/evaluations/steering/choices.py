"""Which strengths cross-validation chose for each labeling of a method, from its stored ratings; texts are not read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from harness.scoring import NO_CHOICE, CrossValidation, ScoringError, cross_validate, harmonic_mean
from harness.scoring.checks import FloatArray
from harness.store import RunStore
from harness.store.manifest import Manifest, MethodRecord
from harness.types import ASPECTS, Rating


@dataclass(frozen=True)
class Choice:
    """The strengths chosen for one labeling.

    Attributes:
        on_all: by all instructions; None where nothing is rated, or where all strengths score alike.
        without: by instruction, and by repeat of the cross-validation: the strength that was chosen without this instruction, at which the
            instruction's text counts in the score; None where none could be chosen.
    """

    on_all: float | None = None
    without: Mapping[str, tuple[float | None, ...]] = field(default_factory=dict)


NONE = Choice()


def choices_of(method: MethodRecord, manifest: Manifest, store: RunStore, judge_key: str) -> dict[str, Choice]:
    """Return the choices of a method by labeling id; labelings without a rating are missing."""
    ratings: dict[str, FloatArray] = {}
    instructions: dict[str, list[str]] = {}
    for trial, rating in store.rated(judge_key, method.id):
        if trial.labeling_id not in ratings:
            instructions[trial.labeling_id] = manifest.instructions_for(trial.concept_id)
            ratings[trial.labeling_id] = np.full((len(method.grid), len(instructions[trial.labeling_id]), len(ASPECTS)), np.nan)
        own = instructions[trial.labeling_id]
        if trial.strength in method.grid and trial.instruction_id in own:
            ratings[trial.labeling_id][method.grid.index(trial.strength), own.index(trial.instruction_id)] = rating
    return {name: _choice(harmonic_mean(found), method.grid, instructions[name], manifest) for name, found in ratings.items()}


def _choice(overall: FloatArray, grid: Sequence[float], instructions: Sequence[str], manifest: Manifest) -> Choice:
    """Return the choice by the overall ratings ``[strengths, instructions]``; none where they are too few to be cut into folds."""
    protocol = manifest.protocol
    try:
        found: CrossValidation = cross_validate(overall, protocol.repeats, protocol.splits, manifest.seed)
    except ScoringError:
        return NONE
    strengths: dict[int, float | None] = {NO_CHOICE: None, **dict(enumerate(grid))}
    places = found.choices_without.T
    without = {name: tuple(strengths[int(place)] for place in row) for name, row in zip(instructions, places, strict=True)}
    return Choice(None if found.chosen is None or found.tied else grid[found.chosen], without)


def overall(rating: Rating | None) -> float | None:
    """Return the harmonic mean of a text's three ratings; None where it is not rated."""
    return None if rating is None or rating.status != "rated" else _overall(*(getattr(rating, aspect) for aspect in ASPECTS))


@lru_cache(maxsize=4096)
def _overall(concept: float, instruction: float, fluency: float) -> float:
    """As :func:`harmonic_mean`; kept, since most judges give few different ratings."""
    return float(harmonic_mean([concept, instruction, fluency]))
