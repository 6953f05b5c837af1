"""The differences of pairs of methods by cluster: mean, standard error, and whether the shapes of the two are alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.scoring.checks import FloatArray, IntArray
from harness.scoring.clusters import effective_clusters, ratio_variance
from harness.scoring.ends import ROUNDING

_PAIRS_AT_ONCE = 8192
SKEWED = 1.0
"""From this skewness of the clusters' differences on (in absolute value), their shape is called skewed."""

UNLIKE_SPREAD = 3.0
"""From this ratio of two methods' standard deviations over clusters on, their shapes are called unlike."""


@dataclass(frozen=True)
class Differences:
    """The differences of one pair by cluster: ``sums`` and ``sizes`` over all clusters, 0 where the pair has no item."""

    sums: FloatArray
    sizes: FloatArray
    mean: float
    deviation: float
    n: int
    effective: float
    unlike: str
    """In what way the shapes of the two differ; empty where they do not."""

    @property
    def t(self) -> float:
        """Return |mean| / standard error: 0 where all differences are 0, infinite where all are one other number."""
        if self.deviation:
            return abs(self.mean) / self.deviation
        return float("inf") if abs(self.mean) > ROUNDING else 0.0

    @property
    def alike(self) -> bool:
        """Return whether all differences are 0."""
        return not self.deviation and abs(self.mean) <= ROUNDING


def differences_of(table: FloatArray, pairs: Sequence[tuple[int, int]], codes: IntArray) -> list[Differences]:
    """Return each pair's numbers; pairs that share the same items are computed together."""
    known = ~np.isnan(table)
    patterns, of_method = np.unique(known, axis=0, return_inverse=True)
    together: dict[tuple[int, int], list[int]] = {}
    for place, (first, second) in enumerate(pairs):
        together.setdefault((int(of_method[first]), int(of_method[second])), []).append(place)
    found: list[Differences | None] = [None] * len(pairs)
    for (one, other), places in together.items():
        shared = patterns[one] & patterns[other]
        for start in range(0, len(places), _PAIRS_AT_ONCE):
            part = places[start : start + _PAIRS_AT_ONCE]
            numbers = _alike_pairs(table, np.array([pairs[place] for place in part]), shared, codes)
            for place, own in zip(part, numbers, strict=True):
                found[place] = own
    return [own for own in found if own is not None]


def _alike_pairs(table: FloatArray, pairs: IntArray, shared: NDArray[np.bool_], codes: IntArray) -> list[Differences]:
    """Return the numbers of pairs ``[pairs, 2]`` that share the same items."""
    n_clusters, n = int(codes.max(initial=-1)) + 1, int(shared.sum())
    sizes = np.bincount(codes[shared], minlength=n_clusters).astype(np.float64)
    if n == 0:
        return [Differences(np.zeros(n_clusters), sizes, 0.0, 0.0, 0, 0.0, "") for _ in pairs]
    used = sizes > 0
    members = np.zeros((n, n_clusters))
    members[np.arange(n), codes[shared]] = 1.0
    methods, places = np.unique(pairs, return_inverse=True)
    scores = table[methods][:, shared]
    of_cluster = (scores @ members)[:, used] / sizes[used]
    first, second = places.reshape(pairs.shape).T
    differences = scores[first] - scores[second]
    sums = differences @ members
    means = sums.sum(axis=1) / n
    deviations = np.sqrt(ratio_variance(sums[:, used], sizes[used])) if used.sum() > 1 else np.zeros(len(pairs))
    deviations[deviations <= ROUNDING * np.maximum(1.0, np.abs(differences).max(axis=1))] = 0.0
    unlike = _unlike(sums[:, used] / sizes[used], of_cluster.std(axis=1)[np.stack([first, second])])
    effective = effective_clusters(sizes[used])
    return [
        Differences(own, sizes, float(mean), float(deviation), n, effective, why)
        for own, mean, deviation, why in zip(sums, means, deviations, unlike, strict=True)
    ]


def _unlike(differences: FloatArray, spreads: FloatArray) -> list[str]:
    """Return in what way two methods' scores have unlike shapes; empty where nothing is seen.

    Args:
        differences: clusters' means ``[pairs, clusters]``.
        spreads: standard deviations of the two methods' own clusters' means, ``[2, pairs]``.
    """
    skewness = _skewness(differences)
    least, most = spreads.min(axis=0), spreads.max(axis=0)
    uneven = (most > ROUNDING) & (most >= UNLIKE_SPREAD * least)
    return [
        f"their differences are skewed (skewness {skew:.1f})"
        if abs(skew) >= SKEWED
        else f"one varies little (standard deviation {low:.2g}), the other much ({high:.2g})"
        if other
        else ""
        for skew, low, high, other in zip(skewness.tolist(), least.tolist(), most.tolist(), uneven.tolist(), strict=True)
    ]


def _skewness(values: FloatArray) -> FloatArray:
    """Return the third standardised moment of each row; 0 for values that are all alike."""
    centred = values - values.mean(axis=1, keepdims=True)
    spread = np.sqrt((centred**2).mean(axis=1))
    varies = spread > ROUNDING * np.maximum(1.0, np.abs(values).max(axis=1))
    found: FloatArray = np.where(varies, (centred**3).mean(axis=1) / np.where(varies, spread, 1.0) ** 3, 0.0)
    return found
