"""Uncertainty of a run's score: intervals over concepts, in which what shares a concept or a feature is resampled together."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from harness.scoring.checks import FloatArray, IntArray, ScoringError, at_least, float_array, open_share
from harness.types import rng

IntervalMethod = Literal["auto", "t", "bca"]

FEW_CLUSTERS = 20
"""Below this many effective clusters an interval carries a warning, and "auto" takes Student's t (simulated: docs/scoring.md)."""

_ROUNDING = 1e-12
_CHUNK = 4_000_000  # numbers drawn at once by the bootstrap: 32 MB


@dataclass(frozen=True)
class Interval:
    """A mean with its confidence interval; JSON-ready (no NaN).

    Attributes:
        low, high: the ends, on the scale of the values and not clipped to it; None where there is no interval (``warning`` gives the reason).
        estimate: the mean of the values; None without values.
        method: ``t`` or ``bca``, never ``auto``.
        level: the nominal coverage.
        n: values used.
        n_clusters: independent clusters among them.
        n_effective: effective clusters (see :func:`interval`); equals ``n_clusters`` if all have one size.
        n_missing: values that were NaN and left out.
        warning: what the reader must know, or None.
    """

    low: float | None
    high: float | None
    estimate: float | None
    method: Literal["t", "bca"]
    level: float
    n: int
    n_clusters: int
    n_effective: float
    n_missing: int = 0
    warning: str | None = None


def clusters_of(pairs: Iterable[tuple[Hashable, Iterable[Hashable]]]) -> IntArray:
    """Which (concept, features) pairs belong together: those linked, directly or through others, by a shared concept or feature.

    Args:
        pairs: (concept id, its features), e.g. ``[(x.concept.id, x.features) for x in labelings]``. No feature is fine.

    Returns:
        int64 ``[pairs]``: the connected component of each pair, numbered in order of first appearance.
    """
    parent: list[int] = []

    def root(node: int) -> int:
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    first_with: dict[tuple[str, Hashable], int] = {}
    for pair, (concept, features) in enumerate(pairs):
        if isinstance(features, (str, bytes)):
            hint = f"write ({features!r},) for one feature"
            raise ScoringError(f"a pair's features are the text {features!r}", given=features, allowed="a collection", hint=hint)
        parent.append(pair)
        for key in [("concept", concept), *(("feature", feature) for feature in features)]:
            parent[root(pair)] = root(first_with.setdefault(key, pair))
    numbers: dict[int, int] = {}
    return np.array([numbers.setdefault(root(pair), len(numbers)) for pair in range(len(parent))], dtype=np.int64)


def interval(
    values: ArrayLike,
    clusters: Sequence[Hashable] | IntArray | None = None,
    method: IntervalMethod = "auto",
    level: float = 0.95,
    seed: int = 0,
    resamples: int = 9999,
) -> Interval:
    """The mean of per-concept scores with a confidence interval that treats clusters, not values, as independent.

    ``t``: Student's t with the cluster-robust variance CR2 and Bell-McCaffrey degrees of freedom (Bell & McCaffrey 2002; Imbens & Kolesár
    2016); with clusters of equal size this is the textbook t interval of the cluster means. ``bca``: the bias-corrected and accelerated
    bootstrap (Efron 1987) that resamples whole clusters. ``auto``: ``t`` below 20 *effective* clusters, else ``bca``. The effective number
    is the degrees of freedom + 1: the number of clusters where all have one size, and far fewer where one cluster holds most values (BCa
    fails there, however many clusters there are: docs/scoring.md has the simulation).

    The values are concepts (or pairs), each already scored over its instructions. Never resample instructions to widen this: instructions
    drawn twice would fall on both sides of the cross-validation's folds and inflate the score.

    Args:
        values: ``[n]`` scores, e.g. ``cross_validate(…).score`` of each pair; NaN (undefined) is left out and counted.
        clusters: ``[n]`` cluster of each value, as :func:`clusters_of` returns it; None: each value stands alone.
        method: see above.
        level: nominal coverage, strictly between 0 and 1.
        seed: draws the bootstrap.
        resamples: bootstrap resamples.

    Returns:
        The interval; its ends are None with fewer than two clusters, or when all values are equal.

    Raises:
        ScoringError: infinite values, clusters of another length, an unknown method, ``level`` out of bounds.
    """
    scores = float_array(values, "values", ndim=1)
    codes = cluster_codes(clusters, len(scores))
    level = open_share(level, "level")
    resamples = at_least(resamples, 1, "resamples")
    if method not in ("auto", "t", "bca"):
        raise ScoringError(f"method is {method!r}", given=method, allowed=("auto", "t", "bca"))
    defined = ~np.isnan(scores)
    sums, sizes = cluster_sums(scores[defined], codes[defined])
    n, n_missing = int(sizes.sum()), int((~defined).sum())
    effective = round(_degrees_of_freedom(sizes) + 1, 6) if len(sizes) > 1 else float(len(sizes))
    used: Literal["t", "bca"] = ("t" if effective < FEW_CLUSTERS else "bca") if method == "auto" else method
    ends, reason = _ends(sums, sizes, used, level, seed, resamples)
    return Interval(
        low=ends[0] if ends else None,
        high=ends[1] if ends else None,
        estimate=float(sums.sum() / n) if n else None,
        method=used,
        level=level,
        n=n,
        n_clusters=len(sizes),
        n_effective=effective,
        n_missing=n_missing,
        warning=_warning(reason, len(sizes), effective, n_missing),
    )


def cluster_codes(clusters: Sequence[Hashable] | IntArray | None, n: int) -> IntArray:
    """``clusters`` as whole numbers 0, 1, … in order of first appearance; None: ``n`` clusters of one value."""
    if clusters is None:
        return np.arange(n, dtype=np.int64)
    if len(clusters) != n:
        raise ScoringError(f"there are {len(clusters)} clusters", given=len(clusters), allowed=f"one for each of the {n} values")
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(cluster, len(numbers)) for cluster in clusters], dtype=np.int64)


def cluster_sums(values: FloatArray, codes: IntArray) -> tuple[FloatArray, FloatArray]:
    """Sum and size of each cluster that occurs in ``codes``."""
    _, codes = np.unique(codes, return_inverse=True)
    return np.bincount(codes, weights=values).astype(np.float64), np.bincount(codes).astype(np.float64)


def _ends(
    sums: FloatArray, sizes: FloatArray, method: str, level: float, seed: int, resamples: int
) -> tuple[tuple[float, float] | None, str | None]:
    """The ends of the interval and None, or None and the reason."""
    if len(sizes) < 2:
        return None, "no interval: it takes at least two independent clusters"
    deviations = sums - sizes * (sums.sum() / sizes.sum())
    if np.abs(deviations).max() <= _ROUNDING * max(1.0, np.abs(sums).max()):
        return None, "no interval: all clusters have the same mean, so their spread cannot be estimated"
    if method == "t":
        return _student_t(sums, sizes, level), None
    ends = _bca(sums, sizes, level, seed, resamples)
    return ends, None if ends else "no interval: the bootstrap is too one-sided for BCa; use method t"


def _student_t(sums: FloatArray, sizes: FloatArray, level: float) -> tuple[float, float]:
    """Student's t for a ratio mean: CR2 variance and Bell-McCaffrey degrees of freedom, in closed form for an intercept alone.

    With w the clusters' shares of the values and u their summed residuals, the variance is Σ u² / (1 − w) / n²; it is unbiased for
    independent values. For G clusters of equal size it is s²/G of the cluster means, and the degrees of freedom are G − 1.
    """
    from scipy.special import stdtrit

    n = sizes.sum()
    mean = sums.sum() / n
    share = sizes / n
    variance = ((sums - sizes * mean) ** 2 / (1 - share)).sum() / n**2
    half = float(stdtrit(_degrees_of_freedom(sizes), (1 + level) / 2) * np.sqrt(variance))
    return float(mean) - half, float(mean) + half


def _degrees_of_freedom(sizes: FloatArray) -> float:
    """Bell-McCaffrey: those of the chi-squared that has the first two moments of the CR2 variance if values are independent and normal.

    With w the clusters' shares of the values: 1 / (Σ w² + Σ_{c≠d} r_c r_d), r = w² / (1 − w). G − 1 for G clusters of equal size.
    """
    share = sizes / sizes.sum()
    ratio = share**2 / (1 - share)
    return float(1 / ((share**2).sum() + ratio.sum() ** 2 - (ratio**2).sum()))


def _bca(sums: FloatArray, sizes: FloatArray, level: float, seed: int, resamples: int) -> tuple[float, float] | None:
    """BCa ends over resampled clusters, or None where the corrections leave the range in which they have a meaning."""
    from scipy.special import ndtr, ndtri

    means = _bootstrap_means(sums, sizes, seed, resamples)
    estimate = sums.sum() / sizes.sum()
    tolerance = _ROUNDING * max(1.0, abs(float(estimate)))
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


def _bootstrap_means(sums: FloatArray, sizes: FloatArray, seed: int, resamples: int) -> FloatArray:
    """``[resamples]`` ratio means of as many clusters as there are, drawn with replacement."""
    generator = rng(seed, "cluster bootstrap")
    means = []
    for rows in batches(resamples, len(sizes)):
        drawn = generator.integers(0, len(sizes), size=(rows, len(sizes)))
        means.append(sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1))
    return np.concatenate(means)


def batches(rows: int, columns: int) -> Iterator[int]:
    """``rows`` rows of ``columns`` numbers, as numbers of rows that fit the memory a resampling may use."""
    step = max(1, _CHUNK // columns)
    for start in range(0, rows, step):
        yield min(step, rows - start)


def _warning(reason: str | None, n_clusters: int, effective: float, n_missing: int) -> str | None:
    notes = [reason] if reason else []
    if not reason and n_clusters < FEW_CLUSTERS:
        notes.append(f"only {n_clusters} independent concepts: the interval is rough below {FEW_CLUSTERS}")
    elif not reason and effective < FEW_CLUSTERS:
        notes.append(f"{n_clusters} clusters of such unequal size count as {effective:.1f}: the interval is rough below {FEW_CLUSTERS}")
    if n_missing:
        notes.append(f"{n_missing} undefined value{'s' * (n_missing != 1)} left out")
    return "; ".join(notes) or None
