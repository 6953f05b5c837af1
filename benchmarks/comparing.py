"""All pairs of methods compared at once: two matrix products against one pattern after the other.

    python benchmarks/comparing.py [--methods 12] [--concepts 500] [--resamples 10000]

The loop does what the test says, a pattern at a time: turn the signs, studentise each pair, keep the largest; it goes through a twentieth of the
patterns, and its time is scaled. Both print the critical value, which must agree.
"""

from __future__ import annotations

import argparse
import time
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from harness.scoring.simultaneous import compare_all
from harness.types import rng

SHARE = 20


def by_loop(table: NDArray[np.float64], resamples: int) -> float:
    """The critical value, over patterns one by one."""
    n = table.shape[1]
    differences = np.array([table[i] - table[j] for i, j in combinations(range(len(table)), 2)])
    generator, largest = rng(0, "loop"), []
    for _ in range(resamples):
        turned = differences * generator.choice(np.array([-1.0, 1.0]), size=n)
        largest.append(float(np.max(np.abs(turned.mean(axis=1)) / (turned.std(axis=1, ddof=1) / np.sqrt(n)))))
    return float(np.quantile(largest, 0.95))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--methods", type=int, default=12)
    parser.add_argument("--concepts", type=int, default=500)
    parser.add_argument("--resamples", type=int, default=10_000)
    given = parser.parse_args()
    table = rng(0, "scores").beta(1.6, 6.4, (given.methods, given.concepts))
    ours, theirs = [], []
    for _ in range(5):
        start = time.perf_counter()
        found = compare_all(table, resamples=given.resamples)
        ours.append(time.perf_counter() - start)
        start = time.perf_counter()
        critical = by_loop(table, given.resamples // SHARE)
        theirs.append((time.perf_counter() - start) * SHARE)
    own, loop = float(np.median(ours)), float(np.median(theirs))
    print(f"{given.methods} methods, {given.concepts} concepts, {given.resamples} patterns: {own:.2f} s; a loop {loop:.2f} s; ratio {loop / own:.1f}")
    print(f"critical value {found.critical:.3f}; by the loop {critical:.3f}")


if __name__ == "__main__":
    main()
