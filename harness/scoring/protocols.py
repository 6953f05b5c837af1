"""A concept's score under a named protocol: who chooses the strength, who reports on it, and how three ratings become one number.

``cv`` chooses by repeated cross-validation, ``axbench`` by the first half of the instructions (:mod:`harness.scoring.folds`). Two aggregations go by
one name in the literature: AxBench averages the harmonic means of texts, Arad et al. (2025) take the harmonic mean of a concept's three averages.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import numpy as np
from numpy.typing import ArrayLike

from harness.scoring.checks import FloatArray, IntArray, ScoringError, float_array
from harness.scoring.folds import (
    NO_CHOICE,
    Folds,
    all_tied,
    at_choice,
    choose,
    extremes,
    mean_of_known,
    part_means,
    possible_choices,
    read_only,
)
from harness.scoring.ratings import HIGHEST, LOWEST, counted, harmonic_mean
from harness.types import Aggregation, Goal


@dataclass(frozen=True, eq=False)
class ProtocolScore:
    """What :func:`score_ratings` found for one concept. The arrays are read-only.

    Attributes:
        overall: the score; NaN if there is none.
        aspects: ``[3]``, each rating over the same evaluation parts at the same choices; NaN if there is none.
        low, high: whatever the unrated texts had been rated, ``overall`` would lie between these.
        chosen: index of the strength that the deciding instructions choose, or None if none of them is rated.
        chosen_per_fold: ``[repeats, splits]``, index of the strength chosen on the training part, or ``NO_CHOICE``.
        tied: there are several strengths, and all have one score on the deciding instructions: ``chosen`` is the smallest by rule, and no choice.
        folds: which instructions choose and which report.
        goal: what the ratings counted toward.
    """

    overall: float
    aspects: FloatArray
    low: float
    high: float
    chosen: int | None
    chosen_per_fold: IntArray
    tied: bool
    folds: Folds
    goal: Goal = "express"


def score_ratings(
    ratings: ArrayLike, folds: Folds, aggregation: Aggregation = "mean-of-harmonic-means", goal: Goal = "express"
) -> ProtocolScore:
    """Return the score of a concept, whose strength is chosen on some instructions and reported on others.

    With ``mean-of-harmonic-means`` a part of the instructions scores a strength by the mean of the texts' harmonic means, with
    ``harmonic-mean-of-means`` by the harmonic mean of the three means over the part. The strength with the best score of the training part is
    chosen, the smaller of equals. The three ratings are averaged over the evaluation parts at the choices; ``overall`` is the mean of the harmonic
    means there, or the harmonic mean of these three averages, which at the same choices is never below it.

    Where the goal is to suppress, the concept rating counts turned round in all of that (:func:`harness.scoring.ratings.concept_counted`), in the
    choice, the score and its bounds; ``aspects`` has it as it was rated.

    Args:
        ratings: ``[strength, instruction, 3]`` from 0 to 2, strengths ascending, NaN = unrated.
        folds: from :func:`cross_validation_folds` or :func:`halves`.
        aggregation: how the ratings become one number.
        goal: what steering is for.

    Raises:
        ScoringError: ratings of another shape, of other instructions than the folds', or outside of the scale; an unknown aggregation.
    """
    if aggregation not in get_args(Aggregation):
        raise ScoringError(f"the aggregation is {aggregation!r}", given=aggregation, allowed=get_args(Aggregation))
    values = _checked(ratings, folds)
    rated = np.ascontiguousarray(np.moveaxis(values, -1, 0))
    parts = counted(rated, goal, axis=0)
    streams = _streams(parts, aggregation)
    chosen = choose(_joined(part_means(streams, folds.training)))
    decided = _joined(part_means(streams, folds.deciding))
    overall = int(choose(decided)[0])
    score = float(_joined(_reported(streams, chosen, folds)))
    low, high = _bounds(parts, chosen, folds, aggregation) if np.isnan(parts).any() else (score, score)
    return ProtocolScore(
        overall=score,
        aspects=read_only(_reported(rated, chosen, folds)),
        low=low,
        high=high,
        chosen=None if overall == NO_CHOICE else overall,
        chosen_per_fold=read_only(chosen.reshape(folds.shape)),
        tied=all_tied(decided),
        folds=folds,
        goal=goal,
    )


def _bounds(parts: FloatArray, chosen: IntArray, folds: Folds, aggregation: Aggregation) -> tuple[float, float]:
    """Return the least and the greatest score that ratings of the unrated texts could give, changes of the choice included."""
    worst, best = (_streams(np.where(np.isnan(parts), end, parts), aggregation) for end in (LOWEST, HIGHEST))
    possible = possible_choices(_joined(part_means(worst, folds.training)), _joined(part_means(best, folds.training)))
    # What was chosen on the rated texts counts as possible, although a tie with a strength that has no rating could rule it out.
    possible |= np.arange(parts.shape[1])[:, None] == chosen
    low, high = extremes(worst, best, possible, folds)
    return float(_joined(low)), float(_joined(high))


def _checked(ratings: ArrayLike, folds: Folds) -> FloatArray:
    values = float_array(ratings, "ratings [strength, instruction, 3]", ndim=3)
    wanted = (max(1, len(values)), folds.n_instructions, 3)
    if values.shape != wanted:
        message = f"ratings have the shape {values.shape}"
        raise ScoringError(message, given=values.shape, allowed=f"at least one strength, {wanted[1]} instructions as the folds, three ratings")
    if np.nanmin(values, initial=HIGHEST) < LOWEST or np.nanmax(values, initial=LOWEST) > HIGHEST:
        low, high = float(np.nanmin(values, initial=HIGHEST)), float(np.nanmax(values, initial=LOWEST))
        raise ScoringError(f"ratings lie within {low:g} to {high:g}", given=(low, high), allowed=f"{LOWEST:g} to {HIGHEST:g}")
    return values


def _streams(parts: FloatArray, aggregation: Aggregation) -> FloatArray:
    """Return what is averaged over instructions, ``[1 or 3, strength, instruction]``: the harmonic mean, or the three ratings ``parts``."""
    return harmonic_mean(parts, axis=0)[None] if aggregation == "mean-of-harmonic-means" else parts


def _joined(means: FloatArray) -> FloatArray:
    """Return the means themselves, or the harmonic mean of three, over the first axis."""
    found: FloatArray = means[0] if len(means) == 1 else harmonic_mean(means, axis=0)
    return found


def _reported(streams: FloatArray, chosen: IntArray, folds: Folds) -> FloatArray:
    """Return the mean over evaluation parts at the choices, ``[streams]``; with one strength, that over all instructions that report."""
    if streams.shape[1] == 1:
        return np.array([mean_of_known(stream[0, folds.reporting]) for stream in streams])
    return np.array([mean_of_known(means) for means in at_choice(part_means(streams, folds.evaluation), chosen)])
