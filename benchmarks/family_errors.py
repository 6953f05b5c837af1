"""How often are methods told apart that are alike, and how often those that are not? Prints the tables of docs/scoring.md.

    python benchmarks/family_errors.py [--samples 1000] [--resamples 999] [--only alike far shapes verdicts power …]

Seeded: the same arguments print the same tables. Scores are like those of real runs: 0 to 2, many zeros, what is hard for one method is hard for
the others; those of the verdicts are made from ratings 0, 1, 2 at four strengths and eight instructions, where each feature has a best strength of
its own, and are cross-validated as a run's are.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from harness.scoring import cross_validate, harmonic_mean
from harness.scoring.comparison import holm, paired_difference
from harness.scoring.simultaneous import Comparisons, compare_all, compare_pairs
from harness.scoring.verdict import verdict
from harness.types import rng

Floats = NDArray[np.float64]
ALPHA = 0.05
SMALLEST = 0.05
LEVELS, DRAWS = 40, 150
GRID, INSTRUCTIONS = 4, 8


def alike(generator: np.random.Generator, n_methods: int, n_concepts: int, zeros: float = 0.4) -> Floats:
    """``[methods, concepts]`` of methods of one population; half of the variance is the concept's."""
    hard, gift = generator.random(n_concepts), generator.beta(1.6, 6.4, n_concepts)
    own = generator.beta(1.6, 6.4, (n_methods, n_concepts))
    fails = (hard + 0.5 * generator.random((n_methods, n_concepts))) / 1.5 > 1 - zeros
    return np.where(fails, 0.0, gift + own)


def with_ends(table: Floats, generator: np.random.Generator) -> Floats:
    """The table with a method far ahead and one at 0 below it."""
    far = 2 * generator.beta(8, 2, table.shape[1])
    return np.vstack([table, far, np.zeros(table.shape[1])])


def false_pairs(found: Comparisons, n_alike: int) -> bool:
    """Whether any two of the first ``n_alike`` methods are told apart."""
    return any(pair.apart for pair in found.pairs if pair.first < n_alike and pair.second < n_alike)


def rival_tests(table: Floats, resamples: int) -> tuple[list[tuple[int, int]], Floats]:
    """Each pair's own p-value, for the corrections that are compared; Holm's needs small ones, and so ten times the patterns."""
    pairs = [(i, j) for i in range(len(table)) for j in range(i + 1, len(table))]
    return pairs, np.array([paired_difference(table[i], table[j], method="t", resamples=10 * resamples).p_value for i, j in pairs])


def table_alike(samples: int, resamples: int) -> None:
    print("\nalike methods, 24 concepts: share of runs in which any two are told apart; and power for one that is better by .15")
    print(f"{'methods':>8} {'all pairs raw':>14} {'Holm':>6} {'max-T':>6} {'power Holm':>11} {'power max-T':>12}")
    for n_methods in (5, 10):
        counts = np.zeros(5)
        few = max(samples // 10, 1)  # each pair's own permutations are what takes the time
        for sample in range(samples):
            generator = rng(sample, "alike", str(n_methods))
            table = alike(generator, n_methods, 24)
            better = table.copy()
            better[0] += 0.15
            counts[2] += false_pairs(compare_all(table, resamples=resamples, bounds=(0, 4)), n_methods)
            counts[4] += np.mean([p.apart for p in compare_all(better, resamples=resamples, bounds=(0, 4)).pairs if p.first == 0])
            if sample < few:
                _, p_values = rival_tests(table, resamples)
                counts[0] += (p_values <= ALPHA).any()
                counts[1] += (holm(p_values) <= ALPHA).any()
                pairs, p_values = rival_tests(better, resamples)
                counts[3] += np.mean([p <= ALPHA for (i, _), p in zip(pairs, holm(p_values), strict=True) if i == 0])
        raw, by_holm, by_max, power_holm, power_max = counts / [few, few, samples, few, samples]
        print(f"{n_methods:>8} {raw:>14.3f} {by_holm:>6.3f} {by_max:>6.3f} {power_holm:>11.3f} {power_max:>12.3f}")


def table_far(samples: int, resamples: int) -> None:
    print("\none method far ahead and one at 0 beside alike ones: any two of the alike told apart; power for one of them that is better by .15;")
    print("runs in which every interval holds its true difference")
    print(f"{'concepts':>8} {'alike':>6} {'errors':>7} {'power':>6} {'coverage':>9}")
    for n_concepts in (12, 24, 100):
        for n_methods in (3, 8):
            errors = power = covered = 0.0
            for sample in range(samples):
                generator = rng(sample, "far", f"{n_methods} {n_concepts}")
                table = with_ends(alike(generator, n_methods, n_concepts), generator)
                found = compare_all(table, resamples=resamples, bounds=(0, 2))
                errors += false_pairs(found, n_methods)
                covered += holds(found, n_methods)
                table[0] += 0.15
                raised = compare_all(table, resamples=resamples, bounds=(0, 3))
                power += np.mean([pair.apart for pair in raised.pairs if pair.first == 0 and pair.second < n_methods])
            print(f"{n_concepts:>8} {n_methods:>6} {errors / samples:>7.3f} {power / samples:>6.3f} {covered / samples:>9.3f}")


@cache
def means() -> tuple[float, float]:
    """The true means of an alike method and of the one far ahead, from a large sample."""
    table = with_ends(alike(rng(0, "means"), 1, 2_000_000), rng(1, "means"))
    return float(table[0].mean()), float(table[1].mean())


def holds(found: Comparisons, n_alike: int) -> bool:
    middle, far = means()
    truth = [middle] * n_alike + [far, 0.0]
    return all(pair.low is None or pair.high is None or pair.low <= truth[pair.first] - truth[pair.second] <= pair.high for pair in found.pairs)


def shapes(generator: np.random.Generator, n: int, kind: str) -> Floats:
    """Two methods of one mean, .2: the differences are symmetric, or the one is rarely very good and the other evenly fair."""
    if kind == "alike":
        return 2 * generator.beta(1.6, 14.4, (2, n))
    fair = 0.2 + 0.02 * generator.standard_normal(n)
    if kind == "skewed":
        return np.vstack([2 * generator.beta(0.5, 4.5, n), fair])
    return np.vstack([np.where(generator.random(n) < 0.1, 2.0, 0.0), fair])  # rare


def table_shapes(samples: int, resamples: int) -> None:
    print("\ntwo methods of one mean and unlike shapes: told apart, and the share of those that carry the warning")
    print(f"{'shapes':>8} {'concepts':>8} {'apart':>6} {'warned':>7}")
    for kind in ("alike", "skewed", "rare"):
        for n in (12, 24, 48, 100, 300):
            apart = warned = 0
            for sample in range(samples):
                (pair,) = compare_all(shapes(rng(sample, kind, str(n)), n, kind), resamples=resamples, bounds=(0, 2)).pairs
                apart += pair.apart
                warned += pair.apart and bool(pair.warning)
            print(f"{kind:>8} {n:>8} {apart / samples:>6.3f} {warned / apart if apart else float('nan'):>7.2f}")


# ------------------------------------------------------------------------------------------------------------ scores from ratings


def concept_score(generator: np.random.Generator, easy: float, seed: int) -> float:
    """Cross-validated score of one feature for one concept: its best strength is its own, and beyond it texts break."""
    best = generator.integers(0, GRID)
    reach = np.exp(-0.5 * ((np.arange(GRID) - best) / 1.2) ** 2)[:, None] * easy
    broken = np.clip((np.arange(GRID) - best)[:, None] * 0.3, 0, 1)
    shape = (GRID, INSTRUCTIONS)
    ratings = np.stack(
        [
            generator.binomial(2, np.broadcast_to(reach * 0.9, shape)),
            generator.binomial(2, np.broadcast_to(0.8 * (1 - broken), shape)),
            generator.binomial(2, np.broadcast_to(0.9 * (1 - broken), shape)),
        ],
        axis=-1,
    )
    return cross_validate(np.asarray(harmonic_mean(ratings)), seed=seed).score


@cache
def pool(effect: float) -> Floats:
    """``[ease, draws]`` concept scores at each ease; ``effect`` raises the chance to express the concept. 0: as easy as for the control."""
    ease = np.linspace(0.0, 0.6, LEVELS) + effect
    return np.array([[concept_score(rng(draw, "pool", f"{effect} {i}"), float(e), draw) for draw in range(DRAWS)] for i, e in enumerate(ease)])


def drawn(generator: np.random.Generator, ease: NDArray[np.int64], effect: float, n_draws: int) -> Floats:
    """One method's concept scores, each the mean of draws."""
    return pool(effect)[ease[:, None], generator.integers(0, DRAWS, (len(ease), n_draws))].mean(axis=1)


def ease_of(generator: np.random.Generator, n: int) -> NDArray[np.int64]:
    """Half of the concepts cannot be expressed at all (their scores are ties at 0)."""
    return np.where(generator.random(n) < 0.5, 0, generator.integers(0, LEVELS, n)).astype(np.int64)


def table_verdicts(samples: int, resamples: int) -> None:
    for effect in (0.0, 0.15):
        gain = float(np.mean(pool(effect)[:, :]) - np.mean(pool(0.0)))
        about = "no better than random: false yes" if not effect else f"better (by {gain:.2f} on average over all eases): yes"
        print(f"\nverdicts on methods that are {about}, of 1 and of 4 methods (any of them); not shown and no beside")
        print(f"{'concepts':>8} {'draws':>6} {'1: yes':>7} {'no':>6} {'4: any yes':>11} {'untested':>9}")
        for n in (8, 12, 24, 100):
            for n_draws in (1, 4):
                counts = np.zeros(4)
                for sample in range(samples):
                    generator = rng(sample, "verdicts", f"{n} {n_draws} {effect}")
                    ease = ease_of(generator, n)
                    table = np.vstack([drawn(generator, ease, 0.0, n_draws), *[drawn(generator, ease, effect, 1) for _ in range(4)]])
                    one = compare_pairs(table, [(1, 0)], resamples=resamples, bounds=(0, 2))
                    four = compare_pairs(table, [(m, 0) for m in range(1, 5)], resamples=resamples, bounds=(0, 2))
                    answer = verdict(one.pairs[0], SMALLEST).answer
                    counts += [
                        answer == "yes",
                        answer == "no",
                        any(verdict(pair, SMALLEST).answer == "yes" for pair in four.pairs),
                        not one.pairs[0].tested,
                    ]
                yes, no, any_yes, untested = counts / samples
                print(f"{n:>8} {n_draws:>6} {yes:>7.3f} {no:>6.3f} {any_yes:>11.3f} {untested:>9.3f}")


TABLES: dict[str, Callable[[int, int], None]] = {
    "alike": table_alike,
    "far": table_far,
    "shapes": table_shapes,
    "verdicts": table_verdicts,
}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--resamples", type=int, default=999)
    parser.add_argument("--only", nargs="+", choices=list(TABLES), default=list(TABLES))
    chosen = parser.parse_args(arguments)
    for name in chosen.only:
        TABLES[name](chosen.samples, chosen.resamples)


if __name__ == "__main__":
    main()
