"""Scores of texts with a concept, and of their variants: whether each is on its side, and how well variants with it stand above those without."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.scoring.checks import FloatArray, ScoringError

AUROCS = ("auroc_target_removed", "auroc_others_removed", "auroc_added")
RIGHT = "right_in_all"
NAMES = (*AUROCS, RIGHT)
"""By base text; means over base texts are what is reported."""


def aspect_scores(scores: ArrayLike, threshold: float | None) -> dict[str, FloatArray]:
    """Return for each base text of one concept what its variants got.

    Args:
        scores: ``[texts, 4]``: of the base text, without the target, without the others, with further concepts.
        threshold: scores from it on say that the concept is there; it was chosen on other texts. None where there is none.

    Returns:
        By name, ``[texts]`` float64. ``auroc_target_removed``: share of the concept's texts without the target that score below this base text,
        ties half; the other two: below its variant without the others, or with further concepts. The mean over texts is the AUROC of these texts
        against those without the target. ``right_in_all``: 1 where the base text, the one without the others and the one with further concepts
        reach the threshold, and the one without the target does not; NaN without a threshold.

    Raises:
        ScoringError: another shape, or scores that are not finite.
    """
    values: NDArray[np.float64] = np.asarray(scores, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] != 4 or not np.isfinite(values).all():
        raise ScoringError(f"aspect scores are finite numbers [texts, 4], got shape {values.shape}", given=values.shape)
    negatives = values[:, 1]
    found: dict[str, Any] = {name: _above(values[:, column], negatives) for name, column in zip(AUROCS, (0, 2, 3), strict=True)}
    if threshold is None:
        found[RIGHT] = np.full(len(values), np.nan)
    else:
        found[RIGHT] = ((values >= threshold) == np.array([True, False, True, True])).all(axis=1).astype(np.float64)
    return found


def abstained(n: int) -> Mapping[str, FloatArray]:
    """Return what ``n`` base texts count of whose concept a method says nothing: what a constant score gets."""
    return {**{name: np.full(n, 0.5) for name in AUROCS}, RIGHT: np.zeros(n)}


def _above(values: FloatArray, negatives: FloatArray) -> FloatArray:
    order = np.sort(negatives)
    below, upto = np.searchsorted(order, values, "left"), np.searchsorted(order, values, "right")
    return np.asarray((below + upto) / (2.0 * len(negatives)))
