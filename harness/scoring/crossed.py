"""Compares a group of trained things with a group of controls, seeds crossed with seeds, on the items that their values are made of.

Seed i of the one and seed i of the other have nothing in common, so they are no pair: each seed of the one is held against each of the other. What
varies by seed is seen in these differences; what varies by item is in an interval over items.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

import numpy as np

from harness.scoring.checks import FloatArray, ScoringError, open_share
from harness.scoring.ends import ROUNDING
from harness.scoring.intervals import MIN_CLUSTERS, interval

CrossedAnswer = Literal["yes", "no", "not shown", "not tested"]


@dataclass(frozen=True)
class Measured:
    """What one seed got; of both groups the larger is the better.

    Attributes:
        value: the number that is compared.
        items: what it is made of, by name; empty where nothing is known.
    """

    value: float
    items: Mapping[str, float]


@dataclass(frozen=True)
class SeedPair:
    """One seed of the first group against one of the second.

    Attributes:
        first, second: their places in their groups.
        difference: of the two values.
        low, high: interval over items of the mean of the items' difference, for this pair alone; None where there is none.
        n: items that it rests on; of unpaired ones, the fewer of the two.
    """

    first: int
    second: int
    difference: float
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class Crossed:
    """Whether the first group is better than the second.

    Attributes:
        answer: ``yes``: every pair's difference is above 0, and so is the interval. ``no``: every pair's difference, and the interval, lie below the
            smallest difference of interest (below 0 where there is none). ``not shown``: neither. ``not tested``: there is no interval.
        difference: of the mean values: the mean over all pairs of seeds.
        mean: over items, of the difference of the two groups' means over seeds. Equals ``difference`` where a value is the mean of its items.
        low, high: the interval of ``mean`` over items, the seeds as they are; None with the reason.
        pairs: every seed of the first group with every one of the second.
        n: items that the interval rests on: those that all seeds have; of unpaired ones, the fewer of all seeds of one group.
        method: of the interval.
        level: of the interval.
        smallest: the smallest difference of interest, or None.
        reason: why there is no interval; empty where there is one.
        warning: what a reader must know.
    """

    answer: CrossedAnswer
    difference: float
    mean: float | None
    low: float | None
    high: float | None
    pairs: tuple[SeedPair, ...]
    n: int
    method: str
    level: float
    smallest: float | None
    reason: str = ""
    warning: str = ""

    @property
    def n_ahead(self) -> int:
        """Return how many pairs of seeds have the first ahead."""
        return sum(pair.difference > 0 for pair in self.pairs)

    @property
    def shown_from(self) -> float | None:
        """Return the smallest mean difference that these items could have shown: half the interval's width; None without one."""
        return None if self.low is None or self.high is None else (self.high - self.low) / 2


def crossed(
    first: Sequence[Measured],
    second: Sequence[Measured],
    *,
    paired: bool,
    smallest: float | None = None,
    level: float = 0.95,
    pair_level: float = 0.95,
    seed: int = 0,
    resamples: int = 9999,
    item: str = "item",
) -> Crossed:
    """Return the first group held against the second.

    Args:
        first, second: their seeds, at least one each.
        paired: an item's name means the same thing for every seed, so that differences are taken item by item: the interval is that of
            :func:`harness.scoring.intervals.interval` (the hull of Student's t and a bootstrap over items). Else each seed has items of its own,
            and the interval is Welch's, with the variance of each seed's mean by itself.
        smallest: the smallest difference of interest, above 0.
        level: of the interval.
        pair_level: of the intervals of single pairs.
        seed: of the bootstrap.
        resamples: of the bootstrap; single pairs take a fifth of them.
        item: the singular of what items are.

    Raises:
        ScoringError: an empty group, a level outside (0, 1), ``smallest`` not above 0.
    """
    if not first or not second:
        raise ScoringError("a group has no seed", given=(len(first), len(second)), allowed="one or more seeds in each group")
    if smallest is not None and not smallest > 0:
        raise ScoringError(f"the smallest difference of interest is {smallest}", given=smallest, allowed="a number above 0")
    level, pair_level = open_share(level, "level"), open_share(pair_level, "pair_level")
    held = _paired if paired else _unpaired
    pairs = []
    for place, one in enumerate(first):
        for other_place, other in enumerate(second):
            found = held([one], [other], pair_level, seed, max(1, resamples // 5), item)
            pairs.append(SeedPair(place, other_place, one.value - other.value, found.low, found.high, found.n))
    whole = held(first, second, level, seed, resamples, item)
    return Crossed(
        answer=_answer([pair.difference for pair in pairs], whole.low, whole.high, smallest),
        difference=fmean(one.value for one in first) - fmean(other.value for other in second),
        mean=whole.mean,
        low=whole.low,
        high=whole.high,
        pairs=tuple(pairs),
        n=whole.n,
        method=whole.method,
        level=level,
        smallest=smallest,
        reason=whole.reason,
        warning=whole.warning,
    )


def _answer(differences: Sequence[float], low: float | None, high: float | None, smallest: float | None) -> CrossedAnswer:
    if low is None or high is None:
        return "not tested"
    limit = 0.0 if smallest is None else smallest
    if low > 0 and min(differences) > 0:
        return "yes"
    if high < limit and max(differences) < limit:
        return "no"
    return "not shown"


@dataclass(frozen=True)
class _Ends:
    mean: float | None
    low: float | None
    high: float | None
    n: int
    method: str = ""
    reason: str = ""
    warning: str = ""


def _paired(first: Sequence[Measured], second: Sequence[Measured], level: float, seed: int, resamples: int, item: str) -> _Ends:
    """Return the mean over the items that all seeds have, with the hull of t and a bootstrap over items."""
    everybody = [*first, *second]
    shared = sorted(set.intersection(*(set(one.items) for one in everybody)))
    if not shared:
        return _Ends(None, None, None, 0, reason=_no_items(everybody, item, f"the two share no {item}"))
    differences = [fmean(one.items[name] for one in first) - fmean(other.items[name] for other in second) for name in shared]
    found = interval(differences, level=level, seed=seed, resamples=resamples, item=item)
    left_out = len(set.union(*(set(one.items) for one in everybody))) - len(shared)
    notes = [found.warning] if found.warning and found.low is not None else []
    notes += [f"{left_out} {item}s left out that not all seeds have"] if left_out else []
    reason = "" if found.low is not None else found.warning or f"no interval over {item}s"
    method = f"{found.method} over {item}s, paired" if found.low is not None else ""
    return _Ends(found.estimate, found.low, found.high, len(shared), method, reason, "; ".join(notes))


def _unpaired(first: Sequence[Measured], second: Sequence[Measured], level: float, seed: int, resamples: int, item: str) -> _Ends:
    """Return the difference of the means over seeds of the means over items, with Welch's interval: each seed's items are its own."""
    sides = [[np.array(list(one.items.values()), dtype=np.float64) for one in side] for side in (first, second)]
    n = min(sum(map(len, side)) for side in sides)
    if not all(map(len, (values for side in sides for values in side))):
        return _Ends(None, None, None, n, reason=_no_items([*first, *second], item, f"a seed has no {item}"))
    mean = fmean(float(values.mean()) for values in sides[0]) - fmean(float(values.mean()) for values in sides[1])
    if min(len(values) for side in sides for values in side) < MIN_CLUSTERS:
        return _Ends(mean, None, None, n, reason=f"fewer than {MIN_CLUSTERS} {item}s in one seed")
    variances = [float(values.var(ddof=1)) / len(values) / len(side) ** 2 for side in sides for values in side]
    if sum(variances) <= ROUNDING * max(1.0, *(_largest(side) for side in sides)) ** 2:
        return _Ends(mean, None, None, n, reason=f"the {item}s do not vary")
    from scipy.special import stdtrit

    freedoms = [len(values) - 1 for side in sides for values in side]
    freedom = sum(variances) ** 2 / sum(variance**2 / own for variance, own in zip(variances, freedoms, strict=True))
    half = float(stdtrit(freedom, (1 + level) / 2) * np.sqrt(sum(variances)))
    return _Ends(mean, mean - half, mean + half, n, f"Welch's t over {item}s, not paired")


def _largest(side: Sequence[FloatArray]) -> float:
    return max(float(np.abs(values).max()) for values in side)


def _no_items(everybody: Sequence[Measured], item: str, otherwise: str) -> str:
    return otherwise if any(one.items for one in everybody) else "the metric gives no value for single items, so there is no interval over them"
