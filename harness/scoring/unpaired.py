"""Compares two methods that share no concept: the difference of their means, each over concepts of its own, with Welch's interval.

A paired comparison takes the difficulty of a concept out; here it stays in, so the interval is wider. Nothing but two means is compared: which
concepts either method has is part of what it does.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from harness.scoring.checks import IntArray, float_array, open_share
from harness.scoring.clusters import cluster_codes, cluster_sums, degrees_of_freedom, ratio_mean, ratio_variance
from harness.scoring.ends import ROUNDING

MIN_CLUSTERS = 3
"""Fewer independent concepts than this on either side give no interval."""


@dataclass(frozen=True)
class UnpairedDifference:
    """How far the mean of one set of concepts lies above that of another.

    Attributes:
        difference: of the means; None where one side has no value.
        low, high: Welch's interval; None where there is none.
        n: values on either side.
        effective: effective clusters on either side (:func:`harness.scoring.clusters.effective_clusters`).
        reason: why there is no interval; empty where there is one.
    """

    difference: float | None
    low: float | None
    high: float | None
    n: tuple[int, int]
    effective: tuple[float, float]
    reason: str = ""


def unpaired_difference(
    a: ArrayLike,
    b: ArrayLike,
    a_clusters: Sequence[Hashable] | IntArray | None = None,
    b_clusters: Sequence[Hashable] | IntArray | None = None,
    level: float = 0.95,
) -> UnpairedDifference:
    """Return mean(a) − mean(b) of two independent sets, with Welch's interval over clusters.

    Each variance is cluster-robust (CR2), with Bell-McCaffrey degrees of freedom; where each value is a cluster of its own this is Welch's t
    interval (Welch 1947), with Satterthwaite's degrees of freedom.

    Args:
        a, b: values of either side; NaN is left out.
        a_clusters, b_clusters: which values belong together; None: each stands alone.
        level: nominal coverage.

    Raises:
        ScoringError: a level outside (0, 1), clusters and values of different lengths.
    """
    level = open_share(level, "level")
    sides = []
    for values, clusters in ((float_array(a, "a", ndim=1), a_clusters), (float_array(b, "b", ndim=1), b_clusters)):
        codes, known = cluster_codes(clusters, len(values)), ~np.isnan(values)
        sides.append(cluster_sums(values[known], codes[known]))
    n = (int(sides[0][1].sum()), int(sides[1][1].sum()))
    if not all(n):
        return UnpairedDifference(None, None, None, n, (0.0, 0.0), "one of the two has no value")
    freedom = [degrees_of_freedom(sizes) if len(sizes) > 1 else 0.0 for _, sizes in sides]
    effective = (round(freedom[0] + 1, 6), round(freedom[1] + 1, 6))
    difference = ratio_mean(*sides[0]) - ratio_mean(*sides[1])
    if min(len(sizes) for _, sizes in sides) < MIN_CLUSTERS:
        reason = f"fewer than {MIN_CLUSTERS} independent concepts on one side"
        return UnpairedDifference(difference, None, None, n, effective, reason)
    variances = [float(ratio_variance(*side)) for side in sides]
    if sum(variances) <= ROUNDING:
        return UnpairedDifference(difference, None, None, n, effective, "the values do not vary")
    from scipy.special import stdtrit

    shared = sum(variances) ** 2 / sum(variance**2 / own for variance, own in zip(variances, freedom, strict=True))
    half = float(stdtrit(shared, (1 + level) / 2) * np.sqrt(sum(variances)))
    return UnpairedDifference(difference, difference - half, difference + half, n, effective)
