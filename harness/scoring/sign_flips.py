"""The studentised sign-flip max-T of several pairs at once, stepped down: sign patterns by matrix products (see simultaneous.py)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.scoring.checks import FloatArray
from harness.scoring.differences import Differences
from harness.scoring.ends import ROUNDING, batches
from harness.types import rng

_MOST_STATISTICS = 40_000_000
"""Of all pairs under all sign patterns together; more pairs get fewer patterns, but never fewer than the next."""
_LEAST_FLIPS = 999
_COLUMNS = 1024


@dataclass(frozen=True)
class Stepped:
    critical: float
    p_values: FloatArray
    n_flips: int
    exact: bool


def max_t(found: Sequence[Differences], level: float, resamples: int, seed: int) -> Stepped:
    """Return the quantile of the largest |t*| of all pairs, and each pair's adjusted p-value."""
    sums, sizes = np.array([one.sums for one in found]), np.array([one.sizes for one in found])
    observed = np.array([one.t for one in found])
    order = np.argsort(-observed, kind="stable")
    used = sizes.any(axis=0)
    flips = _Flipped(sums[order][:, used], sizes[order][:, used])
    n_clusters, n_pairs = int(used.sum()), len(found)
    exact = n_clusters <= 20 and 2 ** (n_clusters - 1) <= resamples  # |t| of a pattern and of its mirror image are one
    n_flips = 2 ** (n_clusters - 1) if exact else min(resamples, max(_LEAST_FLIPS, _MOST_STATISTICS // n_pairs))
    generator = rng(seed, "sign flips of all pairs")
    limits = np.where(np.isinf(observed[order]), np.finfo(float).max, observed[order] * (1 - 1e-9))  # rounding must not lose a tie
    largest, exceeding, start = np.empty(n_flips), np.zeros(n_pairs), 0
    for rows in batches(n_flips, max(n_clusters, n_pairs)):
        signs = _patterns(start, rows, n_clusters) if exact else generator.choice(np.array([-1.0, 1.0]), size=(rows, n_clusters))
        t = flips.t(signs)
        of_the_rest = np.maximum.accumulate(t[:, ::-1], axis=1)[:, ::-1]  # the largest of this pair and of those that are nearer to 0
        exceeding += (of_the_rest >= limits).sum(axis=0)
        largest[start : start + rows] = of_the_rest[:, 0]
        start += rows
    p = exceeding / n_flips if exact else (exceeding + 1) / (n_flips + 1)
    p_values = np.empty(n_pairs)
    p_values[order] = np.minimum(np.maximum.accumulate(p), 1.0)
    return Stepped(_critical(largest, level, exact), p_values, n_flips, exact)


def _critical(largest: FloatArray, level: float, exact: bool) -> float:
    """Return the least c of which |t| > c has a p-value of at most 1 − level, by the same count as the p-values."""
    allowed = (1 - level) * (len(largest) + (not exact)) - (not exact)
    n_above = max(int(np.floor(allowed + 1e-9)), 0)  # so many of the drawn statistics may be at least as large
    ordered = np.sort(largest)[::-1]
    value = float(ordered[min(n_above, len(ordered) - 1)])
    return value if np.isfinite(value) else float(ordered[np.isfinite(ordered)].max(initial=0.0))


def _patterns(start: int, rows: int, n_clusters: int) -> FloatArray:
    """Return sign patterns by their number; the last cluster keeps its sign."""
    bits = np.arange(start, start + rows)[:, None] >> np.arange(n_clusters) & 1
    signs: FloatArray = 1.0 - 2.0 * bits.astype(np.float64)
    return signs


class _Flipped:
    """The studentised statistics of all pairs under sign patterns, by two matrix products.

    With S and n a cluster's sum and size in a pair, N its items, a cluster's sign s and w = n / N, the mean is m = Σ s S / N, and CR2 is
    Σ (s S − n m)² / (1 − w) / N² = (Σ S²/(1−w) − 2 m Σ s S n/(1−w) + m² Σ n²/(1−w)) / N².
    """

    def __init__(self, sums: FloatArray, sizes: FloatArray) -> None:
        self.totals = sizes.sum(axis=1)
        ratio = 1 / (1 - sizes / self.totals[:, None])
        self.sums = np.ascontiguousarray(sums.T)
        self.cross = np.ascontiguousarray((sums * sizes * ratio).T)
        self.squares = (sums**2 * ratio).sum(axis=1)
        self.own = (sizes**2 * ratio).sum(axis=1)

    def t(self, signs: FloatArray) -> FloatArray:
        """Return |t| as ``[patterns, pairs]``; a pattern in which all differences are one number has an infinite one, 0 if that is 0."""
        t: FloatArray = np.empty((len(signs), len(self.totals)))
        for start in range(0, len(self.totals), _COLUMNS):  # so few that what is computed of them stays in the processor's cache
            part = slice(start, start + _COLUMNS)
            self._t(signs, part, t[:, part])
        return t

    def _t(self, signs: FloatArray, part: slice, t: FloatArray) -> None:
        """Write |t| of some pairs into ``t``."""
        totals, squares = self.totals[part], self.squares[part]
        means = signs @ self.sums[:, part]
        means /= totals
        variances = signs @ self.cross[:, part]
        variances *= -2
        np.multiply(means, self.own[part], out=t)
        variances += t
        variances *= means
        variances += squares
        variances /= totals**2
        np.abs(means, out=means)
        flat = variances <= 1e-12 * squares / totals**2
        np.maximum(variances, 0.0, out=variances)
        np.sqrt(variances, out=variances)
        with np.errstate(divide="ignore", invalid="ignore"):
            np.divide(means, variances, out=t)
        t[flat] = np.where(means[flat] > ROUNDING, np.inf, 0.0)
