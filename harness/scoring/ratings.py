"""From the three ratings of a text to its one score."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from harness.scoring.checks import FloatArray, ScoringError, float_array


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
