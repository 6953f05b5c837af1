"""Three ways to the ends of a confidence interval of a mean over clusters: Student's t, BCa, and the studentised bootstrap.

Each takes the clusters' sums and sizes (at least two clusters whose means differ) and returns both ends, or None where it has none.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from harness.scoring.checks import FloatArray, IntArray
from harness.scoring.clusters import degrees_of_freedom, ratio_mean, ratio_variance
from harness.types import rng

Ends = tuple[float, float]

ROUNDING = 1e-12
_CHUNK = 4_000_000  # numbers drawn at once by the bootstrap: 32 MB


def student_t(sums: FloatArray, sizes: FloatArray, level: float) -> Ends:
    """Return Student's t for a ratio mean: CR2 variance and Bell-McCaffrey degrees of freedom, in closed form for an intercept alone."""
    from scipy.special import stdtrit

    mean = ratio_mean(sums, sizes)
    half = float(stdtrit(degrees_of_freedom(sizes), (1 + level) / 2) * np.sqrt(ratio_variance(sums, sizes)))
    return mean - half, mean + half


def bca(sums: FloatArray, sizes: FloatArray, level: float, seed: int, resamples: int) -> Ends | None:
    """Return the bias-corrected and accelerated bootstrap (Efron 1987) over clusters; None where its corrections have no meaning."""
    from scipy.special import ndtr, ndtri

    means = bootstrap_means(sums, sizes, seed, resamples)
    estimate = ratio_mean(sums, sizes)
    tolerance = ROUNDING * max(1.0, abs(estimate))
    below = (means < estimate - tolerance).mean() + (np.abs(means - estimate) <= tolerance).mean() / 2  # ties count half
    bias = ndtri(below)
    left_out = (sums.sum() - sums) / (sizes.sum() - sizes)  # jackknife: the mean without each cluster
    influence = left_out.mean() - left_out
    acceleration = (influence**3).sum() / (6 * (influence**2).sum() ** 1.5)
    tails = bias + ndtri(np.array([(1 - level) / 2, (1 + level) / 2]))
    if not np.isfinite(tails).all() or (acceleration * tails).max() >= 1:
        return None
    shares = ndtr(bias + tails / (1 - acceleration * tails))
    low, high = np.quantile(means, shares)
    return float(low), float(high)


def bootstrap_t(sums: FloatArray, sizes: FloatArray, level: float, seed: int, resamples: int) -> Ends | None:
    """Return the studentised bootstrap (Efron 1979; Hall 1988): the distribution of t is that of resampled clusters, not Student's.

    A resample whose clusters all have one mean has no variance, and its t is infinite. None where so many have that an end would be.
    """
    mean, deviation = ratio_mean(sums, sizes), float(np.sqrt(ratio_variance(sums, sizes)))
    tolerance = ROUNDING * max(1.0, float(np.abs(sums).max()))
    found = []
    for drawn in _draws(len(sums), seed, resamples):
        some, many = sums[drawn], sizes[drawn]
        gap = some.sum(axis=1) / many.sum(axis=1) - mean
        own = np.sqrt(ratio_variance(some, many))
        flat = own <= tolerance
        with np.errstate(divide="ignore", invalid="ignore"):
            t = gap / own
        t[flat] = np.where(np.abs(gap[flat]) <= tolerance, 0.0, np.copysign(np.inf, gap[flat]))
        found.append(t)
    ordered = np.sort(np.concatenate(found))
    cut = int(np.floor((resamples + 1) * (1 - level) / 2 + 1e-9))
    if cut < 1 or not np.isfinite(ordered[[cut - 1, -cut]]).all():
        return None
    return mean - float(ordered[-cut]) * deviation, mean - float(ordered[cut - 1]) * deviation


def bootstrap_means(sums: FloatArray, sizes: FloatArray, seed: int, resamples: int) -> FloatArray:
    """Return ``[resamples]`` ratio means of as many clusters as there are, drawn with replacement."""
    means = [sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1) for drawn in _draws(len(sizes), seed, resamples)]
    return np.concatenate(means)


def _draws(n_clusters: int, seed: int, resamples: int) -> Iterator[IntArray]:
    """Yield resamples of clusters, as places ``[some resamples, clusters]``."""
    generator = rng(seed, "cluster bootstrap")
    for rows in batches(resamples, n_clusters):
        yield generator.integers(0, n_clusters, size=(rows, n_clusters))


def batches(rows: int, columns: int) -> Iterator[int]:
    """Yield ``rows`` rows of ``columns`` numbers, as numbers of rows that fit the memory a resampling may use."""
    step = max(1, _CHUNK // columns)
    for start in range(0, rows, step):
        yield min(step, rows - start)
