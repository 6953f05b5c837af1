"""Which values belong together, and what a mean over values needs to know of its clusters."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence

import numpy as np

from harness.scoring.checks import FloatArray, IntArray, ScoringError


def clusters_of(pairs: Iterable[tuple[Hashable, Iterable[Hashable]]]) -> IntArray:
    """Return which (concept, features) pairs belong together: those linked, directly or through others, by a shared concept or feature.

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


def cluster_codes(clusters: Sequence[Hashable] | IntArray | None, n: int) -> IntArray:
    """Return ``clusters`` as whole numbers 0, 1, … in order of first appearance; None: ``n`` clusters of one value."""
    if clusters is None:
        return np.arange(n, dtype=np.int64)
    if len(clusters) != n:
        raise ScoringError(f"there are {len(clusters)} clusters", given=len(clusters), allowed=f"one for each of the {n} values")
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(cluster, len(numbers)) for cluster in clusters], dtype=np.int64)


def cluster_sums(values: FloatArray, codes: IntArray) -> tuple[FloatArray, FloatArray]:
    """Return the sum and size of each cluster that occurs in ``codes``, in an order that depends on the clusters' contents alone.

    A bootstrap draws places in these arrays: ordered so, it gives the same ends however the values are ordered.
    """
    _, codes = np.unique(codes, return_inverse=True)
    order = np.lexsort((values, codes))  # a sum depends on the order of its terms in the last digits
    sums = np.bincount(codes[order], weights=values[order]).astype(np.float64)
    sizes = np.bincount(codes).astype(np.float64)
    place = np.lexsort((sums, sizes))
    return sums[place], sizes[place]


def effective_clusters(sizes: FloatArray) -> float:
    """Return the number of effective clusters: the degrees of freedom (:func:`degrees_of_freedom`) + 1.

    That is the number of clusters if they have one size, and few if one holds most values.
    """
    return round(degrees_of_freedom(sizes) + 1, 6) if len(sizes) > 1 else float(len(sizes))


def degrees_of_freedom(sizes: FloatArray) -> float:
    """Bell-McCaffrey: those of the chi-squared that has the first two moments of the CR2 variance if values are independent and normal.

    With w the clusters' shares of the values: 1 / (Σ w² + Σ_{c≠d} r_c r_d), r = w² / (1 − w). G − 1 for G clusters of equal size.
    """
    share = sizes / sizes.sum()
    ratio = share**2 / (1 - share)
    return float(1 / ((share**2).sum() + ratio.sum() ** 2 - (ratio**2).sum()))


def ratio_mean(sums: FloatArray, sizes: FloatArray) -> float:
    """Return the mean over values: the sum of the clusters' sums by the sum of their sizes."""
    return float(sums.sum() / sizes.sum())


def ratio_variance(sums: FloatArray, sizes: FloatArray) -> FloatArray:
    """CR2: the variance of :func:`ratio_mean`, over the last axis of arrays of clusters.

    With w the clusters' shares of the values and u their summed residuals it is Σ u² / (1 − w) / n², which is unbiased for independent values;
    for G clusters of equal size it is s²/G of the cluster means.
    """
    n = sizes.sum(axis=-1, keepdims=True)
    residuals = sums - sizes * (sums.sum(axis=-1, keepdims=True) / n)
    variance: FloatArray = (residuals**2 / (1 - sizes / n)).sum(axis=-1) / n[..., 0] ** 2
    return variance
