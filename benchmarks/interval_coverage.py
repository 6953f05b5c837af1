"""How often do nominal 95 % intervals hold the true mean? Prints the table of docs/scoring.md.

    python benchmarks/interval_coverage.py [--samples 2000] [--resamples 999]

Seeded: the same arguments print the same table. Each sample draws the clusters of a run, their scores from a distribution of known mean,
and asks ``harness.scoring.interval`` for each of its methods. The percentile bootstrap of clusters and the plain t interval of clusters
(variance CR1, G − 1 degrees of freedom) stand beside them for comparison. Samples in which all scores are equal have no interval; the last
column gives their share, and coverage is among the others.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from harness.scoring import interval
from harness.types import rng

LEVEL = 0.95
Floats = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int], tuple[Floats, NDArray[np.int64]]]
"""(generator, clusters) -> values and their clusters."""


def normal(generator: np.random.Generator, n: int) -> Floats:
    return generator.standard_normal(n)


def some_zero(generator: np.random.Generator, n: int) -> Floats:
    """Scores of a method that works on a little over half of the concepts."""
    return np.where(generator.random(n) < 0.4, 0.0, generator.uniform(0.1, 1.5, n))


def mostly_zero(generator: np.random.Generator, n: int) -> Floats:
    """Scores of a method that seldom works: four concepts of five score 0."""
    return np.where(generator.random(n) < 0.8, 0.0, generator.uniform(0.1, 1.5, n))


def alone(effect: Callable[[np.random.Generator, int], Floats]) -> Draw:
    return lambda generator, n: (effect(generator, n), np.arange(n))


def clustered(sizes: Callable[[np.random.Generator, int], NDArray[np.int64]]) -> Draw:
    """Clusters of unequal size; half of a value's variance is shared by its cluster."""

    def draw(generator: np.random.Generator, n: int) -> tuple[Floats, NDArray[np.int64]]:
        clusters = np.repeat(np.arange(n), sizes(generator, n))
        shared = some_zero(generator, n)[clusters]
        return (shared + some_zero(generator, len(clusters))) / 2, clusters

    return draw


SETTINGS: dict[str, tuple[Draw, float]] = {
    "normal": (alone(normal), 0.0),
    "40 % zeros": (alone(some_zero), 0.48),
    "80 % zeros": (alone(mostly_zero), 0.16),
    "unequal clusters": (clustered(lambda generator, n: generator.geometric(0.4, n)), 0.48),
    "one giant cluster": (clustered(lambda generator, n: np.concatenate([generator.geometric(0.4, n - 1), [2 * n]])), 0.48),
}
"""Name -> how to draw a run, and the true mean."""


def cluster_totals(values: Floats, clusters: NDArray[np.int64]) -> tuple[Floats, Floats]:
    return np.bincount(clusters, weights=values).astype(np.float64), np.bincount(clusters).astype(np.float64)


def percentile(values: Floats, clusters: NDArray[np.int64], resamples: int, generator: np.random.Generator) -> tuple[float, float]:
    sums, sizes = cluster_totals(values, clusters)
    drawn = generator.integers(0, len(sums), size=(resamples, len(sums)))
    low, high = np.quantile(sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def plain_t(values: Floats, clusters: NDArray[np.int64]) -> tuple[float, float]:
    sums, sizes = cluster_totals(values, clusters)
    n, n_clusters = sizes.sum(), len(sums)
    residuals = sums - sizes * values.mean()
    half = stdtrit(n_clusters - 1, (1 + LEVEL) / 2) * np.sqrt(n_clusters / (n_clusters - 1) * (residuals**2).sum()) / n
    return float(values.mean() - half), float(values.mean() + half)


def covered(draw: Draw, truth: float, n_clusters: int, samples: int, resamples: int, name: str) -> Iterator[list[bool] | None]:
    """Of each sample: whether t, BCa, auto, percentile and plain t hold the truth, or None if it has no interval."""
    generator = rng(0, "interval coverage", f"{name} {n_clusters}")
    for sample in range(samples):
        values, clusters = draw(generator, n_clusters)
        ours = [interval(values, clusters, method, LEVEL, sample, resamples) for method in ("t", "bca", "auto")]
        if any(result.low is None for result in ours):
            yield None
            continue
        ends = [(result.low, result.high) for result in ours if result.low is not None and result.high is not None]
        ends += [percentile(values, clusters, resamples, generator), plain_t(values, clusters)]
        yield [low <= truth <= high for low, high in ends]


def main() -> None:
    parser = argparse.ArgumentParser(description="Coverage of the intervals of harness.scoring.")
    parser.add_argument("--samples", type=int, default=2000, help="simulated runs a row")
    parser.add_argument("--resamples", type=int, default=999, help="bootstrap resamples")
    parser.add_argument("--clusters", type=int, nargs="+", default=[5, 8, 12, 16, 20, 30, 50, 100], help="numbers of clusters")
    arguments = parser.parse_args()
    print("| scores | clusters | t | BCa | auto | percentile | plain t | no interval |\n|---|---|---|---|---|---|---|---|")
    for name, (draw, truth) in SETTINGS.items():
        for n_clusters in arguments.clusters:
            rows = list(covered(draw, truth, n_clusters, arguments.samples, arguments.resamples, name))
            shares = np.mean([row for row in rows if row is not None], axis=0)
            cells = " | ".join(f"{share:.3f}" for share in shares)
            print(f"| {name} | {n_clusters} | {cells} | {rows.count(None) / len(rows):.3f} |", flush=True)


if __name__ == "__main__":
    main()
