"""How long do the scores of many labels take, against a plain loop that computes the same? Prints seconds and their ratio.

    python benchmarks/protocols.py [--labels 500] [--resamples 10000]

500 labels × 14 strengths × 20 instructions, 10 × 4 folds, and the bootstrap over labels: what a run's row is made of. The loop goes through labels,
folds, strengths and instructions one by one in Python, as the formulas of docs/scoring.md read; it is given a tenth of the labels, and its time is
multiplied. Both must find the same scores, else the script ends with an error.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time

import numpy as np
from numpy.typing import NDArray

from harness.scoring import Folds, cross_validation_folds, halves, interval, score_ratings
from harness.scoring.folds import TIE
from harness.types import Aggregation, rng

STRENGTHS, INSTRUCTIONS, REPEATS, SPLITS = 14, 20, 10, 4
SHARE_OF_LOOP = 10
"""The loop does one label of so many."""
SLACK = 1e-9

Floats = NDArray[np.float64]


def made_up(labels: int) -> Floats:
    """Return ratings 0, 1, 2 ``[labels, strengths, instructions, 3]``, of which one text in fifty is unrated."""
    draw = rng(0, "benchmark of protocols")
    ratings = draw.integers(0, 3, (labels, STRENGTHS, INSTRUCTIONS, 3)).astype(np.float64)
    ratings[draw.random(ratings.shape[:3]) < 0.02] = np.nan
    return ratings


def by_loop(ratings: Floats, folds: Folds) -> float:
    """Return one label's mean of harmonic means, text by text."""

    def mean(strength: int, part: list[int]) -> float | None:
        texts = [list(map(float, ratings[strength, i])) for i in part]
        scores = [0.0 if min(text) == 0 else 3 / sum(1 / r for r in text) for text in texts if not any(np.isnan(text))]
        return statistics.fmean(scores) if scores else None

    found = []
    for training, evaluation in zip(folds.training, folds.evaluation, strict=True):
        chosen, best = None, -1.0
        for strength in range(len(ratings)):
            value = mean(strength, [int(i) for i in np.flatnonzero(training)])
            if value is not None and value > best + TIE:
                chosen, best = strength, value
        value = None if chosen is None else mean(chosen, [int(i) for i in np.flatnonzero(evaluation)])
        found += [] if value is None else [value]
    return statistics.fmean(found)


def resampled_by_loop(scores: list[float], resamples: int) -> list[float]:
    """Return means of as many scores drawn with replacement, resample by resample."""
    draw = rng(0, "benchmark of the bootstrap")
    return [statistics.fmean(scores[place] for place in draw.integers(0, len(scores), len(scores)).tolist()) for _ in range(resamples)]


def main() -> None:
    parser = argparse.ArgumentParser(description="Time of the scores of many labels.")
    parser.add_argument("--labels", type=int, default=500)
    parser.add_argument("--resamples", type=int, default=10_000, help="of the loop's bootstrap; the library's interval draws 9,999")
    arguments = parser.parse_args()
    ratings = made_up(arguments.labels)
    interval([0.1, 0.5, 0.9, 1.1] * 5)  # imports scipy
    aggregations: tuple[Aggregation, ...] = ("mean-of-harmonic-means", "harmonic-mean-of-means")
    print(f"{arguments.labels} labels, {STRENGTHS} strengths, {INSTRUCTIONS} instructions; seconds")
    for name, folds in (("cv 10 x 4", cross_validation_folds(INSTRUCTIONS, REPEATS, SPLITS)), ("axbench", halves(INSTRUCTIONS))):
        for aggregation in aggregations:
            start = time.perf_counter()
            scores = [score_ratings(one, folds, aggregation).overall for one in ratings]
            middle = time.perf_counter()
            interval(scores, bounds=(0, 2))
            end = time.perf_counter()
            print(f"{name:10} {aggregation:24} scores {middle - start:.3f}, interval {end - middle:.3f}, together {end - start:.3f}")
            if aggregation != aggregations[0]:
                continue
            some = slice(0, max(1, arguments.labels // SHARE_OF_LOOP))
            begun = time.perf_counter()
            looped = [by_loop(one, folds) for one in ratings[some]]
            scale = arguments.labels / len(looped)
            seconds = (time.perf_counter() - begun) * scale
            begun = time.perf_counter()
            resampled_by_loop(scores, max(1, arguments.resamples // SHARE_OF_LOOP))
            drawn = (time.perf_counter() - begun) * SHARE_OF_LOOP
            if not np.allclose(looped, scores[some], atol=SLACK):
                sys.exit("the loop finds other scores")
            print(
                f"{'':10} {'plain loop':24} scores {seconds:.1f}, bootstrap {drawn:.1f}, together {seconds + drawn:.1f}: "
                f"{(seconds + drawn) / (end - start):.0f} times as long"
            )


if __name__ == "__main__":
    main()
