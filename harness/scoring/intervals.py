"""Uncertainty of a run's score: intervals over concepts, in which what shares a concept or a feature is resampled together."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from harness.scoring.checks import FloatArray, IntArray, ScoringError, at_least, float_array, open_share
from harness.scoring.clusters import cluster_codes, cluster_sums, effective_clusters
from harness.scoring.ends import ROUNDING, Ends, bca, bootstrap_t, student_t

IntervalMethod = Literal["auto", "t", "bca", "bootstrap-t"]
Limits = tuple[float | None, float | None]
"""The least and the greatest value that there can be; None where there is no such limit."""

MIN_CLUSTERS = 3
"""Fewer independent values than this give no interval: two would get one that is wider than any scale."""

ENOUGH_FOR_BCA = 12
"""From so many effective clusters on, "auto" takes BCa beside Student's t; below, the studentised bootstrap (simulated: docs/scoring.md)."""

FEW_CLUSTERS = 20
"""Below this many effective clusters an interval carries a warning (simulated: docs/scoring.md)."""


@dataclass(frozen=True)
class Interval:
    """A mean with its confidence interval; JSON-ready (no NaN).

    Attributes:
        low, high: the ends, on the scale of the values and within its bounds; None where there is no interval (``warning`` gives the reason).
        estimate: the mean of the values; None without values.
        method: what made the ends: ``t``, ``bca``, ``bootstrap-t``, or two of them (``t and bca``: the lower low end and the higher high one).
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
    method: str
    level: float
    n: int
    n_clusters: int
    n_effective: float
    n_missing: int = 0
    warning: str | None = None


def interval(
    values: ArrayLike,
    clusters: Sequence[Hashable] | IntArray | None = None,
    method: IntervalMethod = "auto",
    level: float = 0.95,
    seed: int = 0,
    resamples: int = 9999,
    bounds: Limits = (None, None),
    item: str = "concept",
) -> Interval:
    """Return the mean of per-concept scores with a confidence interval that treats clusters, not values, as independent.

    ``t``: Student's t with the cluster-robust variance CR2 and Bell-McCaffrey degrees of freedom (Bell & McCaffrey 2002; Imbens & Kolesár
    2016); with clusters of equal size this is the textbook t interval of the cluster means. ``bca``: the bias-corrected and accelerated
    bootstrap (Efron 1987) that resamples whole clusters. ``bootstrap-t``: the studentised bootstrap of clusters (Hall 1988). ``auto``: the hull
    of ``t`` and ``bca`` from 12 *effective* clusters on, that of ``t`` and ``bootstrap-t`` below: scores with many zeros are skewed, and one
    method alone is too narrow there (docs/scoring.md has the simulation). The effective number is the degrees of freedom of t + 1: the number
    of clusters where all have one size, and far fewer where one cluster holds most values.

    The values are concepts (or pairs), each already scored over its instructions. Never resample instructions to widen this: instructions
    drawn twice would fall on both sides of the cross-validation's folds and inflate the score.

    Args:
        values: ``[n]`` scores, e.g. ``cross_validate(…).score`` of each pair; NaN (undefined) is left out and counted.
        clusters: ``[n]`` cluster of each value, as :func:`clusters_of` returns it; None: each value stands alone.
        method: see above.
        level: nominal coverage, strictly between 0 and 1.
        seed: draws the bootstrap; the order of the values changes nothing.
        resamples: bootstrap resamples.
        bounds: the scale of the values; no end lies outside.
        item: the singular of what the values are of, for warnings (``2 concepts: no interval``).

    Returns:
        The interval; its ends are None with fewer than :data:`MIN_CLUSTERS` clusters, when all values are equal (``auto``: all but those of
        one cluster), when so few differ that no end can be told, or when the interval would be the whole scale.

    Raises:
        ScoringError: infinite values, clusters of another length, an unknown method, ``level`` out of bounds.
    """
    scores = float_array(values, "values", ndim=1)
    codes = cluster_codes(clusters, len(scores))
    level = open_share(level, "level")
    resamples = at_least(resamples, 1, "resamples")
    if method not in ("auto", "t", "bca", "bootstrap-t"):
        raise ScoringError(f"method is {method!r}", given=method, allowed=("auto", "t", "bca", "bootstrap-t"))
    defined = ~np.isnan(scores)
    sums, sizes = cluster_sums(scores[defined], codes[defined])
    n, n_missing, effective = int(sizes.sum()), int((~defined).sum()), effective_clusters(sizes)
    methods: tuple[str, ...] = (method,) if method != "auto" else ("t", "bca" if effective >= ENOUGH_FOR_BCA else "bootstrap-t")
    ends, reason = None, _no_spread(sums, sizes, n, item, method)
    if not reason:
        ends = _on_scale(_hull(sums, sizes, methods, level, seed, resamples), bounds)
        reason = "" if ends else f"{n} {item}s are too few or too much alike: no interval"
    return Interval(
        low=ends[0] if ends else None,
        high=ends[1] if ends else None,
        estimate=float(sums.sum() / n) if n else None,
        method=" and ".join(methods),
        level=level,
        n=n,
        n_clusters=len(sizes),
        n_effective=effective,
        n_missing=n_missing,
        warning=_warning(reason, len(sizes), effective, n_missing, item),
    )


def _no_spread(sums: FloatArray, sizes: FloatArray, n: int, item: str, method: str) -> str:
    """Return why no method could find an interval; empty where one may."""
    if not n:
        return f"no {item} has a value"
    if len(sizes) < MIN_CLUSTERS:
        groups = f" in {len(sizes)} independent group{'s' * (len(sizes) != 1)}" if len(sizes) < n else ""
        return f"{n} {item}{'s' * (n != 1)}{groups}: no interval"
    if n_apart(sums, sizes) == 0:
        return f"no interval: all {n} {item}s have the same value, so their spread cannot be estimated"
    if method == "auto" and n_apart(sums, sizes) == 1:
        return f"no interval: all {item}s but {'one' if n == len(sizes) else 'those of one group'} have the same value, and it would rest on that"
    return ""


def n_apart(sums: FloatArray, sizes: FloatArray) -> int:
    """How many clusters have another mean than the median one; 0 or 1 where all, or all but one, have the same."""
    means = sums / sizes
    middle = float(np.median(means))
    return int((np.abs(means - middle) > ROUNDING * max(1.0, abs(middle))).sum())


def _hull(sums: FloatArray, sizes: FloatArray, methods: tuple[str, ...], level: float, seed: int, resamples: int) -> Ends | None:
    """Return the lowest low end and the highest high end of ``methods``; None where one has no ends."""
    found = []
    for name in methods:
        if name == "t":
            found.append(student_t(sums, sizes, level))
            continue
        ends = (bca if name == "bca" else bootstrap_t)(sums, sizes, level, seed, resamples)
        if ends is None:
            return None
        found.append(ends)
    return min(low for low, _ in found), max(high for _, high in found)


def _on_scale(ends: Ends | None, bounds: Limits) -> Ends | None:
    """Return the ends within the scale; None for an interval that holds all of it, and so says nothing."""
    low, high = bounds
    if ends is None or (low is not None and high is not None and ends[0] <= low and ends[1] >= high):
        return None
    return ends[0] if low is None else max(float(low), ends[0]), ends[1] if high is None else min(float(high), ends[1])


def _warning(reason: str, n_clusters: int, effective: float, n_missing: int, item: str) -> str | None:
    notes = [reason] if reason else []
    if not reason and n_clusters < FEW_CLUSTERS:
        notes.append(f"only {n_clusters} independent {item}s: the interval is rough below {FEW_CLUSTERS}")
    elif not reason and effective < FEW_CLUSTERS:
        notes.append(f"{n_clusters} clusters of such unequal size count as {effective:.1f}: the interval is rough below {FEW_CLUSTERS}")
    if n_missing:
        notes.append(f"{n_missing} undefined value{'s' * (n_missing != 1)} left out")
    return "; ".join(notes) or None
