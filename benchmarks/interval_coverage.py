"""How often do nominal 95 % intervals hold the true mean? Prints the table of docs/scoring.md.

    python benchmarks/interval_coverage.py [--samples 1000] [--resamples 599] [--scores NAME …] [--clusters N …]

Seeded: the same arguments print the same table. Each sample draws the clusters of a run and their scores from a population of known mean, and asks
each method of ``harness.scoring`` for its ends. Samples that have no interval (all scores equal, or all but one; too few that differ) count neither
as hit nor as miss; the share without one of ``auto`` is the last column. Populations are like those of real runs: scores of 0 to 2 with a share of
zeros, harmonic means of few texts, AUROC near 1, differences of two methods on the same concepts.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from harness.scoring import harmonic_mean, interval
from harness.scoring.clusters import cluster_sums, effective_clusters
from harness.scoring.ends import bca, bootstrap_t, student_t
from harness.scoring.intervals import ENOUGH_FOR_BCA, n_apart
from harness.types import rng

LEVEL = 0.95
Floats = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int], tuple[Floats, NDArray[np.int64]]]
"""(generator, clusters) -> values and their clusters."""

TEXTS = 8
METHODS = ("t", "bca", "bootstrap-t")


def scores(generator: np.random.Generator, n: int, zeros: float) -> Floats:
    """Scores of a method that fails on a share of ``zeros``; the others are spread as the demo's are (mean .4 on the scale of 0 to 2)."""
    return np.where(generator.random(n) < zeros, 0.0, 2 * generator.beta(1.6, 6.4, n))


def good(generator: np.random.Generator, n: int) -> Floats:
    """Scores of a method that works on most concepts."""
    return 2 * generator.beta(4, 3, n)


def harmonic(generator: np.random.Generator, n: int) -> Floats:
    """Harmonic means of ratings 0, 1, 2: concepts differ in how easily they are expressed; the mean of a few texts."""
    easy = generator.beta(0.8, 2, n)[:, None]
    concept = generator.binomial(2, np.broadcast_to(easy, (n, TEXTS)))
    instruction = generator.binomial(2, 0.6, (n, TEXTS))
    fluency = generator.binomial(2, 0.7, (n, TEXTS))
    ratings = np.stack([concept, instruction, fluency], axis=-1)
    return np.asarray(harmonic_mean(ratings)).mean(axis=1)


def auroc(generator: np.random.Generator, n: int) -> Floats:
    """AUROC of a detector that finds most concepts well and some badly."""
    return 1 - 0.5 * generator.beta(0.7, 3, n)


def difference(generator: np.random.Generator, n: int, zeros: float, rival_zeros: float, rival: float) -> Floats:
    """Of two methods on the same concepts: what is hard for one is hard for the other; the rival's scores are smaller by a factor."""
    hard = generator.random(n)
    first = np.where(hard < zeros, 0.0, 2 * generator.beta(1.6, 6.4, n))
    second = np.where((hard + 0.3 * generator.random(n)) / 1.3 < rival_zeros, 0.0, 2 * rival * generator.beta(1.6, 6.4, n))
    return first - second


def alone(draw: Callable[[np.random.Generator, int], Floats]) -> Draw:
    return lambda generator, n: (draw(generator, n), np.arange(n))


def clustered(zeros: float, sizes: Callable[[np.random.Generator, int], NDArray[np.int64]]) -> Draw:
    """Clusters of unequal size; half of a value's variance is shared by its cluster."""

    def draw(generator: np.random.Generator, n: int) -> tuple[Floats, NDArray[np.int64]]:
        clusters = np.repeat(np.arange(n), sizes(generator, n))
        shared = scores(generator, n, zeros)[clusters]
        return (shared + scores(generator, len(clusters), zeros)) / 2, clusters

    return draw


def pairs(generator: np.random.Generator, n: int) -> NDArray[np.int64]:
    """Most concepts alone, some that share a feature with one or two others: the clusters of a real run."""
    return np.asarray(generator.choice([1, 2, 3], n, p=[0.8, 0.15, 0.05]))


def geometric(generator: np.random.Generator, n: int) -> NDArray[np.int64]:
    return generator.geometric(0.4, n)


def giant(generator: np.random.Generator, n: int) -> NDArray[np.int64]:
    """One cluster holds as many values as half of all others together."""
    return np.concatenate([generator.geometric(0.4, n - 1), [2 * n]])


SETTINGS: dict[str, Draw] = {
    "normal": alone(lambda generator, n: generator.standard_normal(n)),
    "no zeros": alone(partial(scores, zeros=0.0)),
    "good": alone(good),
    "40 % zeros": alone(partial(scores, zeros=0.4)),
    "60 % zeros": alone(partial(scores, zeros=0.6)),
    "80 % zeros": alone(partial(scores, zeros=0.8)),
    "harmonic means": alone(harmonic),
    "AUROC": alone(auroc),
    "difference": alone(partial(difference, zeros=0.4, rival_zeros=0.5, rival=0.8)),
    "difference to a control": alone(partial(difference, zeros=0.6, rival_zeros=0.9, rival=0.6)),
    "shared features": clustered(0.5, pairs),
    "unequal clusters": clustered(0.4, geometric),
    "one giant cluster": clustered(0.4, giant),
}
"""Name -> how to draw a run."""


def true_mean(draw: Draw, name: str, population: int) -> float:
    """The mean over a large population of clusters (ratio of sums, as in a run)."""
    if name.startswith("one giant"):  # its share of the values grows with the number of clusters; all values have one mean
        draw = SETTINGS["unequal clusters"]
    values, _ = draw(rng(0, "population", name), population)
    return float(values.mean())


def covered(draw: Draw, truth: float, n_clusters: int, samples: int, resamples: int, name: str) -> Iterator[dict[str, tuple[bool, float] | None]]:
    """Of each sample and method: whether it holds the truth, and how wide it is; None without an interval."""
    generator = rng(0, "interval coverage", f"{name} {n_clusters}")
    for sample in range(samples):
        values, clusters = draw(generator, n_clusters)
        sums, sizes = cluster_sums(values, clusters)
        apart = n_apart(sums, sizes)
        if apart == 0:
            yield dict.fromkeys((*METHODS, "auto"))
            continue
        ends = {
            "t": student_t(sums, sizes, LEVEL),
            "bca": bca(sums, sizes, LEVEL, sample, resamples),
            "bootstrap-t": bootstrap_t(sums, sizes, LEVEL, sample, resamples),
        }
        two = [ends["t"], ends["bca" if effective_clusters(sizes) >= ENOUGH_FOR_BCA else "bootstrap-t"]]
        both = [pair for pair in two if pair is not None]
        ends["auto"] = (min(pair[0] for pair in both), max(pair[1] for pair in both)) if len(both) == 2 and apart > 1 else None
        if sample < 3:  # what is measured here is what harness.scoring does
            found = interval(values, clusters, seed=sample, resamples=resamples)
            assert (found.low, found.high) == (ends["auto"] or (None, None))
        yield {method: None if pair is None else (pair[0] <= truth <= pair[1], pair[1] - pair[0]) for method, pair in ends.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description="Coverage of the intervals of harness.scoring.")
    parser.add_argument("--samples", type=int, default=1000, help="simulated runs a row")
    parser.add_argument("--resamples", type=int, default=599, help="bootstrap resamples")
    parser.add_argument("--clusters", type=int, nargs="+", default=[5, 8, 10, 12, 16, 20, 24, 50], help="numbers of clusters")
    parser.add_argument("--scores", nargs="+", default=list(SETTINGS), choices=list(SETTINGS), help="populations")
    parser.add_argument("--population", type=int, default=2_000_000, help="clusters of the population whose mean is the truth")
    arguments = parser.parse_args()
    print("| scores | clusters | t | BCa | bootstrap-t | auto | width of auto / t | no interval |\n|---|---|---|---|---|---|---|---|")
    for name in arguments.scores:
        truth = true_mean(SETTINGS[name], name, arguments.population)
        for n_clusters in arguments.clusters:
            found = list(covered(SETTINGS[name], truth, n_clusters, arguments.samples, arguments.resamples, name))
            cells = [_mean([pair[0] for row in found if (pair := row[method]) is not None], 3) for method in (*METHODS, "auto")]
            both = [(row["auto"], row["t"]) for row in found]
            ratio = _mean([ours[1] / plain[1] for ours, plain in both if ours is not None and plain is not None], 2)
            none = sum(row["auto"] is None for row in found) / len(found)
            print(f"| {name} | {n_clusters} | {' | '.join(cells)} | {ratio} | {none:.3f} |", flush=True)


def _mean(values: Sequence[float], digits: int) -> str:
    return f"{np.mean(values):.{digits}f}" if len(values) else "–"


if __name__ == "__main__":
    main()
