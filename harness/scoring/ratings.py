"""From the three ratings of a text to its one score.

What a judge says of the concept counts as it is where the model is to express it, and turned round (2 − rating) where it is to suppress it:
:data:`CONCEPT_COUNTS` is the one place that says so. Stored ratings, and the means of the concept rating that are shown, are never turned.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike

from harness.scoring.checks import FloatArray, ScoringError, float_array
from harness.types import ASPECTS, Goal

LOWEST, HIGHEST = 0.0, 2.0
"""The ends of AxBench's scale."""

CONCEPT_COUNTS: Mapping[Goal, tuple[float, float]] = {"express": (LOWEST, 1.0), "suppress": (HIGHEST, -1.0)}
"""What a concept rating c counts toward each goal, as (offset, factor): offset + factor · c."""

_Rating = TypeVar("_Rating", float, FloatArray)


def concept_counted(concept: _Rating, goal: Goal) -> _Rating:
    """Return what a concept rating counts toward a goal, by :data:`CONCEPT_COUNTS`.

    Raises:
        ScoringError: an unknown goal.
    """
    if goal not in CONCEPT_COUNTS:
        raise ScoringError(f"the goal is {goal!r}", given=goal, allowed=tuple(CONCEPT_COUNTS))
    offset, factor = CONCEPT_COUNTS[goal]
    return offset + factor * concept


def counted(ratings: ArrayLike, goal: Goal, axis: int = -1) -> FloatArray:
    """Return ratings as they count toward a goal, in the same shape: the concept's (the first along ``axis``) by :func:`concept_counted`.

    Args:
        ratings: any shape with an axis of the three ratings, in the order of :data:`harness.types.ASPECTS`; NaN = unrated stays NaN.
        goal: what steering is for.
        axis: that of the three ratings.

    Raises:
        ScoringError: another number of ratings than three, an unknown goal.
    """
    values = np.array(float_array(ratings, "ratings"))  # a copy, written to below
    if not -values.ndim <= axis < values.ndim or values.shape[axis] != len(ASPECTS):
        raise ScoringError(f"ratings have the shape {values.shape}", given=values.shape, allowed=f"three ratings along axis {axis}")
    concept = np.moveaxis(values, axis, 0)[:1]
    concept[...] = concept_counted(np.array(concept), goal)
    return values


def overall(ratings: ArrayLike, goal: Goal = "express", axis: int = -1) -> FloatArray:
    """Return the score of texts: the :func:`harmonic_mean` of their three ratings as they count toward ``goal``."""
    return harmonic_mean(counted(ratings, goal, axis), axis)


def harmonic_mean(ratings: ArrayLike, axis: int = -1) -> FloatArray:
    """Return the harmonic mean along ``axis``: 0 if any rating is 0; NaN if any is NaN (unrated), even beside a 0.

    Over the three ratings of one text it is AxBench's overall score (Wu et al. 2025), to be averaged over texts. Over the three *means* of
    a concept it is the overall score of Arad et al. (2025), which is never below the first: name the two apart.

    Args:
        ratings: any shape with at least one dimension, e.g. ``[texts, 3]``; non-negative.
        axis: the axis that holds what is averaged; it goes away. Must not be empty.

    Returns:
        float64 in the remaining shape (a float for a single list of ratings), on the scale of the ratings.

    Raises:
        ScoringError: a negative or infinite rating, an empty or missing axis.
    """
    values = float_array(ratings, "ratings")
    if not -values.ndim <= axis < values.ndim:
        message = f"axis {axis} does not exist in ratings of shape {values.shape}"
        raise ScoringError(message, given=axis, allowed=f"{-values.ndim} to {values.ndim - 1}" if values.ndim else "ratings with an axis")
    if values.shape[axis] == 0:
        message = f"ratings of shape {values.shape} hold nothing to average along axis {axis}"
        raise ScoringError(message, given=values.shape, hint="drop what was never rated first")
    if (values < 0).any():
        message = f"ratings hold {np.nanmin(values):g}, which has no harmonic mean"
        raise ScoringError(message, given=float(np.nanmin(values)), allowed="at least 0")
    least = values.min(axis=axis, keepdims=True)  # NaN where any rating is
    with np.errstate(invalid="ignore", divide="ignore"):
        # Scaled by the smallest rating, so that 1 / rating cannot overflow.
        mean = least.squeeze(axis) * values.shape[axis] / (least / values).sum(axis=axis)
    result: FloatArray = np.where(least.squeeze(axis) == 0, 0.0, mean)[()]
    return result
