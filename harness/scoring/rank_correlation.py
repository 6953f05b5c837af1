"""Whether two numbers of the same things rise together, by their ranks alone: Kendall's tau-b and Spearman's rho, with intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from harness.scoring.checks import FloatArray, ScoringError, at_least, float_array, open_share
from harness.types import rng

MIN_POINTS = 6
"""Of fewer, no correlation is reported: of five points in random order, one order in sixty has a tau-b of 1 or −1."""
_DEFINED = 0.9
"""So large a share of the resamples must have a correlation for an interval: one in which all values are alike has none."""


@dataclass(frozen=True)
class Coefficient:
    """One coefficient: None with its interval where there is none (see :attr:`RankCorrelation.reason`)."""

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class RankCorrelation:
    """Two coefficients over the same points.

    Attributes:
        tau: Kendall's tau-b: pairs of points in the same order less those in the opposite one, corrected for ties.
        rho: Spearman's: the correlation of the ranks.
        n: points that have both numbers.
        level: of the intervals.
        reason: why there is no coefficient, or no interval; empty where there are both.
    """

    tau: Coefficient
    rho: Coefficient
    n: int
    level: float
    reason: str = ""


def rank_correlation(x: ArrayLike, y: ArrayLike, *, level: float = 0.95, seed: int = 0, resamples: int = 1999) -> RankCorrelation:
    """Return the rank correlation of two numbers of the same points, with percentile intervals of a bootstrap over points.

    A correlation of ±1 has no interval: every resample has it, too, which says nothing of other points.

    Args:
        x, y: ``[n]``; a point that lacks one (NaN) is left out.
        level: of the intervals.
        seed: of the bootstrap.
        resamples: of the bootstrap.

    Raises:
        ScoringError: lists of different lengths, infinite values, a level outside (0, 1).
    """
    first, second = float_array(x, "x", ndim=1), float_array(y, "y", ndim=1)
    if len(first) != len(second):
        raise ScoringError(f"x has {len(first)} values, y {len(second)}", given=(len(first), len(second)), allowed="one of each for every point")
    level, resamples = open_share(level, "level"), at_least(resamples, 1, "resamples")
    known = ~(np.isnan(first) | np.isnan(second))
    first, second = first[known], second[known]
    n = len(first)
    if n < MIN_POINTS:
        return _none(n, level, f"{n} point{'s' * (n != 1)} ha{'ve' if n != 1 else 's'} both numbers, and it takes {MIN_POINTS}")
    if len(np.unique(first)) == 1 or len(np.unique(second)) == 1:
        return _none(n, level, "one of the two is the same for all points")
    order = np.lexsort((second, first))  # the points' order changes nothing
    first, second = first[order], second[order]
    found = _coefficients(first, second)
    generator = rng(seed, "rank-correlation")
    drawn = np.array([_coefficients(first[places], second[places]) for places in generator.integers(0, n, size=(resamples, n))])
    ends = [_ends(value, drawn[:, place], level) for place, value in enumerate(found)]
    reason = "" if all(low is not None for low, _ in ends) else "no interval: too few resamples differ"
    tau, rho = (Coefficient(value, low, high) for value, (low, high) in zip(found, ends, strict=True))
    return RankCorrelation(tau, rho, n, level, reason)


def _coefficients(x: FloatArray, y: FloatArray) -> tuple[float, float]:
    """Return tau-b and rho; NaN where one of the two has a single value."""
    from scipy.stats import kendalltau, rankdata

    if (x == x[0]).all() or (y == y[0]).all():
        return float("nan"), float("nan")
    ranks = rankdata(x), rankdata(y)
    return float(kendalltau(x, y, method="asymptotic").statistic), float(np.corrcoef(*ranks)[0, 1])


def _ends(value: float, drawn: FloatArray, level: float) -> tuple[float | None, float | None]:
    defined = drawn[~np.isnan(drawn)]
    if len(defined) < _DEFINED * len(drawn) or abs(abs(value) - 1) < 1e-9 or np.ptp(defined) == 0:
        return None, None
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _none(n: int, level: float, reason: str) -> RankCorrelation:
    nothing = Coefficient(None, None, None)
    return RankCorrelation(nothing, nothing, n, level, reason)
