"""Many pairs of methods compared at once, on the concepts that they share: one test gives the intervals, the verdicts and the groups.

The test is the studentised sign-flip max-T. Each pair has the statistic t = mean difference / its cluster-robust standard error (CR2). Under the
hypothesis that a pair's differences are symmetric about 0, turning the sign of a whole cluster changes nothing; so one random sign per cluster
is drawn, *for all pairs at once*, each pair is studentised anew, and the largest |t| of all pairs is what an observed |t| is held against. That
keeps the family-wise error (the chance of at least one false "apart") at 1 − level, and uses that pairs which share a method go together
(Westfall and Young 1993; Romano and Wolf 2005). Signs are turned within a pair: methods that lie far from the rest, as ``none`` and ``prompt`` do
on a board, cost the others nothing, as they would if methods were permuted within a concept.

Stepping down: after the farthest pairs are told apart, the rest is held against the largest |t| of the rest alone.

Intervals: mean ± (the quantile of the largest |t*| over all pairs) × standard error: all of them hold at once. Where only the step-down tells a
pair apart, the end of that interval that would lie beyond 0 is 0 (Guilbaud 2008 gives the same for one-sided step-downs). So a pair is apart
exactly if 0 is not inside of its interval.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, TypedDict

from numpy.typing import ArrayLike

from harness.scoring.checks import IntArray, ScoringError, at_least, float_array, open_share
from harness.scoring.clusters import cluster_codes
from harness.scoring.differences import Differences, differences_of
from harness.scoring.ends import ROUNDING
from harness.scoring.intervals import Limits
from harness.scoring.sign_flips import max_t

if TYPE_CHECKING:
    from typing_extensions import Unpack

MIN_CLUSTERS = 12
"""Fewer effective clusters than this and a pair is not tested: 2^-11 of the sign patterns are too coarse, and unlike shapes mislead too often."""

FEW_FOR_SHAPE = 60
"""Below so many effective clusters, differences of a skewed shape make the test reject alike means too often (simulated: docs/scoring.md)."""


@dataclass(frozen=True)
class Pair:
    """Two methods on the concepts that both have.

    Attributes:
        first, second: places of the methods.
        n: concepts that both have.
        effective_clusters: independent ones among them (:func:`harness.scoring.interval`).
        difference: mean of first − second; None without a shared concept.
        low, high: its simultaneous interval; None where the pair was not tested.
        half_width: critical value × standard error: a difference of this size or more would have been told apart; None where not tested.
        p_value: adjusted for all pairs, stepped down; None where not tested.
        apart: the two are told apart at the level.
        reason: why the pair was not tested; empty where it was.
        warning: why the pair may be told apart too easily: shapes differ and items are few; empty where that is not so.
    """

    first: int
    second: int
    n: int
    effective_clusters: float
    difference: float | None
    low: float | None = None
    high: float | None = None
    half_width: float | None = None
    p_value: float | None = None
    apart: bool = False
    reason: str = ""
    warning: str = ""

    @property
    def tested(self) -> bool:
        """Return whether the pair has an interval and a p-value."""
        return not self.reason

    def turned(self) -> Pair:
        """Return the pair with the second method first."""
        low, high = (None, None) if self.low is None or self.high is None else (-self.high, -self.low)
        difference = None if self.difference is None else -self.difference
        values = {**self.__dict__, "first": self.second, "second": self.first, "difference": difference, "low": low, "high": high}
        return Pair(**values)


@dataclass(frozen=True)
class Comparisons:
    """Pairs of methods under one simultaneous test.

    Attributes:
        pairs: in the order asked for.
        n_methods: how many methods there are; ranks and groups are over these.
        level: of all intervals together.
        critical: how many standard errors an interval reaches to either side; None where no pair was tested.
        n_flips: sign patterns.
        exact: all patterns were gone through, not a random sample of them.
    """

    pairs: tuple[Pair, ...]
    n_methods: int
    level: float
    critical: float | None
    n_flips: int
    exact: bool

    def between(self, first: int, second: int) -> Pair | None:
        """Return the pair of two methods, seen from ``first``; None where the two were not compared."""
        for pair in self.pairs:
            if (pair.first, pair.second) == (first, second):
                return pair
            if (pair.second, pair.first) == (first, second):
                return pair.turned()
        return None

    def ranks(self) -> tuple[tuple[int, int], ...]:
        """Return each method's best and worst rank: 1 + those that are ahead of it, and all methods − those that it is ahead of.

        Only what is told apart counts. A pair that was not tested sets nobody ahead.
        """
        ahead, behind = [0] * self.n_methods, [0] * self.n_methods
        for pair in self.pairs:
            if pair.apart:
                winner, loser = (pair.first, pair.second) if (pair.difference or 0) > 0 else (pair.second, pair.first)
                behind[winner] += 1
                ahead[loser] += 1
        return tuple((1 + over, self.n_methods - under) for over, under in zip(ahead, behind, strict=True))

    def groups(self) -> tuple[tuple[int, ...], ...]:
        """Return the largest sets of methods of which no two are told apart, each in the order of the methods; a method may be in several.

        Raises ScoringError where not every pair was compared.
        """
        together = _together(self.pairs, self.n_methods)
        found: list[tuple[int, ...]] = []
        _cliques(set(), set(range(self.n_methods)), set(), together, found)
        return tuple(sorted(found))


class Terms(TypedDict, total=False):
    """What a comparison may be asked for beside scores and clusters; :func:`compare_pairs` says what each is."""

    level: float
    resamples: int
    seed: int
    bounds: Limits
    item: str


def compare_all(scores: ArrayLike, clusters: Sequence[Hashable] | IntArray | None = None, **terms: Unpack[Terms]) -> Comparisons:
    """Compare every pair of methods, on the terms of :func:`compare_pairs`."""
    table = float_array(scores, "scores", ndim=2)
    return compare_pairs(table, list(combinations(range(len(table)), 2)), clusters, **terms)


def compare_pairs(
    scores: ArrayLike,
    pairs: Sequence[tuple[int, int]],
    clusters: Sequence[Hashable] | IntArray | None = None,
    *,
    level: float = 0.95,
    resamples: int = 9999,
    seed: int = 0,
    bounds: Limits = (None, None),
    item: str = "concept",
) -> Comparisons:
    """Compare pairs of methods at once, with the family-wise error of all of them held at 1 − ``level``.

    What is tested is that a pair's differences are *symmetric* about 0. Two methods with equal means and differences of a skewed shape break
    that, and with few concepts such a pair is told apart too often; a pair for which that may be so carries a ``warning``.

    Args:
        scores: ``[methods, items]``; NaN where a method has no score.
        pairs: places of the methods, each pair once.
        clusters: ``[items]`` of :func:`harness.scoring.clusters_of` over the features of *all* compared methods; None: each item stands alone.
        level: of all intervals together, strictly between 0 and 1.
        resamples: random sign patterns; where there are fewer patterns than that, all are gone through. Of more than four thousand pairs fewer are
            drawn, which costs an adjusted p-value of .05 an error of at most .007.
        seed: draws the patterns. The order of methods and pairs changes nothing; items should come in a fixed order (sorted by id), since a
            pattern turns the clusters in the order of their first items.
        bounds: the scale of the scores; no end of an interval lies outside the length of the scale.
        item: the singular of what the items are, for reasons and warnings.

    Raises:
        ScoringError: a pair of other places or of one method, a pair twice, clusters of another length, a level out of bounds.
    """
    table = float_array(scores, "scores", ndim=2)
    n_methods, n_items = table.shape
    codes = cluster_codes(clusters, n_items)
    level, resamples = open_share(level, "level"), at_least(resamples, 99, "resamples")
    _check_pairs(pairs, n_methods)
    found = differences_of(table, pairs, codes)
    tested = [place for place, one in enumerate(found) if one.effective >= MIN_CLUSTERS - ROUNDING and not one.alike]
    stepped = max_t([found[place] for place in tested], level, resamples, seed) if tested else None
    results = [_untested(pair, one, item) for pair, one in zip(pairs, found, strict=True)]
    if stepped is not None:
        for place, p_value in zip(tested, stepped.p_values, strict=True):
            results[place] = _tested(pairs[place], found[place], stepped.critical, float(p_value), level, bounds, item)
    n_flips, exact = (stepped.n_flips, stepped.exact) if stepped else (0, False)
    return Comparisons(tuple(results), n_methods, level, stepped.critical if stepped else None, n_flips, exact)


def _untested(pair: tuple[int, int], one: Differences, item: str) -> Pair:
    noun = f"{item}s" if one.n != 1 else item
    if one.effective >= MIN_CLUSTERS - ROUNDING and one.alike:
        reason = f"both have the same score on all {one.n} {noun}"
        return Pair(*pair, one.n, one.effective, one.mean, reason=reason)
    independent = "" if one.effective == one.n else f", worth {one.effective:.1f} independent ones"
    reason = f"{one.n} shared {noun}{independent}: {MIN_CLUSTERS} are needed" if one.n else f"no {item} is shared"
    return Pair(*pair, one.n, one.effective, one.mean if one.n else None, reason=reason)


def _tested(pair: tuple[int, int], one: Differences, critical: float, p_value: float, level: float, bounds: Limits, item: str) -> Pair:
    half = critical * one.deviation
    low, high = one.mean - half, one.mean + half
    apart = p_value <= 1 - level + ROUNDING and one.t > 0
    if apart:  # told apart on a later step alone: 0 is refused, and nothing else is known of that end
        low, high = (max(low, 0.0), high) if one.mean > 0 else (low, min(high, 0.0))
    else:
        low, high = min(low, 0.0), max(high, 0.0)
    least, most = bounds
    if least is not None and most is not None:
        low, high = max(low, least - most), min(high, most - least)
    warning = ""
    if apart and one.unlike and one.effective < FEW_FOR_SHAPE:
        warning = (
            f"{one.unlike} and {item}s are few ({one.effective:.0f} independent): the test is of symmetric differences, and such methods are "
            "told apart too often"
        )
    return Pair(*pair, one.n, one.effective, one.mean, low, high, half, p_value, apart, warning=warning)


def _check_pairs(pairs: Sequence[tuple[int, int]], n_methods: int) -> None:
    seen: set[frozenset[int]] = set()
    for first, second in pairs:
        if first == second or not (0 <= first < n_methods and 0 <= second < n_methods):
            raise ScoringError(f"a pair is {(first, second)}", given=(first, second), allowed=f"two places from 0 to {n_methods - 1}")
        if frozenset((first, second)) in seen:
            raise ScoringError(f"the pair {(first, second)} is given twice", given=(first, second), allowed="each pair once")
        seen.add(frozenset((first, second)))


def _together(pairs: Sequence[Pair], n_methods: int) -> list[set[int]]:
    """Return for each method those that it is not told apart from."""
    together: list[set[int]] = [set() for _ in range(n_methods)]
    for pair in pairs:
        if not pair.apart:
            together[pair.first].add(pair.second)
            together[pair.second].add(pair.first)
    if len(pairs) < n_methods * (n_methods - 1) // 2:
        raise ScoringError(f"{len(pairs)} pairs are compared", given=len(pairs), allowed="every pair", hint="use compare_all for groups")
    return together


def _cliques(chosen: set[int], left: set[int], done: set[int], together: list[set[int]], found: list[tuple[int, ...]]) -> None:
    """Find the largest sets of methods that are all together (Bron and Kerbosch 1973, with a pivot)."""
    if not left and not done:
        found.append(tuple(sorted(chosen)))
        return
    pivot = max(left | done, key=lambda method: (len(together[method] & left), -method))
    for method in sorted(left - together[pivot]):
        _cliques(chosen | {method}, left & together[method], done & together[method], together, found)
        left = left - {method}
        done = done | {method}