"""Compares two methods on the concepts that they share: difference, interval and permutation test; Holm's correction for many."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from harness.scoring.checks import FloatArray, IntArray, ScoringError, at_least, float_array
from harness.scoring.clusters import cluster_codes, cluster_sums
from harness.scoring.ends import batches
from harness.scoring.intervals import Interval, IntervalMethod, Limits, interval
from harness.types import rng

EXACT_FLIPS = 2**12
"""Up to this many sign patterns (12 clusters) the permutation test goes through all of them."""


@dataclass(frozen=True)
class PairedDifference:
    """Mean of a − b over shared concepts (:func:`paired_difference`).

    Attributes:
        interval: the mean difference with its interval; ``n_missing`` counts concepts that one of the two lacks.
        p_value: two-sided, of the sign-flip test that the differences are symmetric about 0; None without a shared concept.
        exact: whether all sign patterns were gone through, not a random sample of them.
        n_flips: sign patterns compared.
    """

    interval: Interval
    p_value: float | None
    exact: bool
    n_flips: int


def paired_difference(
    a: ArrayLike,
    b: ArrayLike,
    clusters: Sequence[Hashable] | IntArray | None = None,
    method: IntervalMethod = "auto",
    level: float = 0.95,
    seed: int = 0,
    resamples: int = 9999,
    bounds: Limits = (None, None),
    item: str = "concept",
) -> PairedDifference:
    """Compare two methods on the same concepts: interval of the mean difference and a sign-flip permutation test.

    The test turns the signs of whole clusters and asks how often the mean difference is at least as far from 0. Up to 12 clusters it is
    exact; beyond, ``resamples`` random patterns are drawn and the observed one is counted among them, so that p is never 0. With G clusters
    no p-value is below 2 / 2^G: 5 clusters cannot reach .05.

    Args:
        a, b: ``[n]`` scores of the two methods, row by row on the same concept; rows in which either is NaN are left out.
        clusters: ``[n]`` cluster of each row (``clusters_of`` over the features of *both* methods); None: each row stands alone.
        method, level, seed, resamples, item: as in :func:`harness.scoring.interval`; ``resamples`` is also the number of random sign patterns.
        bounds: the scale of a and b; a difference lies within the length of the scale.

    Raises:
        ScoringError: lengths that differ, and as :func:`harness.scoring.interval`.
    """
    first, second = float_array(a, "a", ndim=1), float_array(b, "b", ndim=1)
    if first.shape != second.shape:
        message = f"a has {len(first)} values, b has {len(second)}"
        raise ScoringError(message, given=(len(first), len(second)), allowed="the same concepts in the same order")
    differences = first - second
    codes = cluster_codes(clusters, len(differences))
    low, high = bounds
    span: Limits = (None, None) if low is None or high is None else (low - high, high - low)
    result = interval(differences, codes, method, level, seed, resamples, span, item)
    defined = ~np.isnan(differences)
    if not defined.any():
        return PairedDifference(result, None, exact=True, n_flips=0)
    sums, _ = cluster_sums(differences[defined], codes[defined])
    exact = len(sums) <= 63 and 2 ** len(sums) <= EXACT_FLIPS
    n_extreme, n_flips = _exact_flips(sums) if exact else _random_flips(sums, seed, at_least(resamples, 1, "resamples"))
    return PairedDifference(result, n_extreme / n_flips, exact=exact, n_flips=n_flips)


def holm(p_values: ArrayLike) -> FloatArray:
    """Return Holm's (1979) step-down adjustment of several p-values: rejecting where it is at most α keeps the family-wise error below α.

    Args:
        p_values: ``[n]`` in [0, 1]; NaN (or None) is a test that was not made: it stays NaN and does not count.

    Returns:
        float64 ``[n]``, in the order given.

    Raises:
        ScoringError: a p-value outside [0, 1].
    """
    values = float_array(p_values, "p_values", ndim=1)
    adjusted = np.full(values.shape, np.nan)
    made = np.flatnonzero(~np.isnan(values))
    if made.size == 0:
        return adjusted
    if values[made].min() < 0 or values[made].max() > 1:
        wrong = float(values[made].min() if values[made].min() < 0 else values[made].max())
        raise ScoringError(f"p_values hold {wrong:g}", given=wrong, allowed="0 to 1")
    order = made[np.argsort(values[made], kind="stable")]
    scaled = values[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return adjusted


def _exact_flips(sums: FloatArray) -> tuple[int, int]:
    """Return how many of all sign patterns give a total at least as far from 0 as the observed one, and how many patterns there are."""
    patterns = np.arange(2 ** len(sums))[:, None] >> np.arange(len(sums)) & 1
    return _n_extreme(patterns, sums), len(patterns)


def _random_flips(sums: FloatArray, seed: int, resamples: int) -> tuple[int, int]:
    """As :func:`_exact_flips`, over ``resamples`` random patterns and the observed one."""
    generator = rng(seed, "sign flips")
    n_extreme = sum(_n_extreme(generator.integers(0, 2, size=(rows, len(sums))), sums) for rows in batches(resamples, len(sums)))
    return n_extreme + 1, resamples + 1


def _n_extreme(patterns: IntArray, sums: FloatArray) -> int:
    # Totals that are equal but for rounding count as equal: without this an exact p-value would lose its own mirror image.
    limit = abs(sums.sum()) - 1e-12 * np.abs(sums).sum()
    return int((np.abs((1 - 2 * patterns) @ sums) >= limit).sum())
