"""How far two judges agree, rating by rating, and on which texts they disagree most. Pairs in which a rating is missing are left out and counted.

Kappa is quadratically weighted (Cohen 1968): 1 less the mean squared difference over the one that ratings paired at random would have, so it
also takes the half grades that several people's medians give. Bias is the second judge's mean less the first's. Intervals are percentiles of a
bootstrap over the groups of texts that are given (the concepts: the texts of one are alike, and a judge may be off on one concept as a whole), or
over the texts where none are.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.errors import JudgeError
from harness.scoring import ScoringError, overall
from harness.types import ASPECTS, Goal, Json, rng

FloatArray = NDArray[np.float64]

OVERALL = "overall"
"""The harmonic mean of the three ratings, beside them."""
RESAMPLES = 2000
_DEFINED = 0.95
"""Share of the resamples in which a figure must be defined, or it gets no interval."""
_CELLS = 2_000_000
_ROUNDING = 1e-12


class Rated(Protocol):
    """A rating of a text: :class:`harness.types.Rating`, or one whose parts may be missing on their own. None is a missing rating."""

    @property
    def item_id(self) -> str: ...
    @property
    def concept(self) -> float | None: ...
    @property
    def instruction(self) -> float | None: ...
    @property
    def fluency(self) -> float | None: ...


@dataclass(frozen=True)
class Figure:
    """A figure with the ends of its interval; None where it is not defined (no spread, no pair) or too often undefined in resamples.

    ``reason`` says why there is no value, or no interval; empty where there are both.
    """

    value: float | None
    low: float | None
    high: float | None
    reason: str = ""


@dataclass(frozen=True)
class AspectAgreement:
    """Agreement in one rating.

    Attributes:
        n: texts that both judges rated.
        n_missing: texts of which one or both ratings are missing.
        n_groups: groups that the texts rated by both belong to, which the intervals come from.
        exact: share of equal ratings.
        kappa: quadratically weighted kappa.
        spearman: rank correlation, ties at their mean rank.
        bias: mean of the second judge less that of the first.
    """

    n: int
    n_missing: int
    n_groups: int
    exact: Figure
    kappa: Figure
    spearman: Figure
    bias: Figure


@dataclass(frozen=True)
class Disagreement:
    """A text on which two judges disagree: the ratings in the order of :data:`ASPECTS`, and the sum of the absolute differences."""

    item_id: str
    first: tuple[float | None, ...]
    second: tuple[float | None, ...]
    distance: float


@dataclass(frozen=True)
class Agreement:
    """Agreement of two judges: by rating (and :data:`OVERALL`), and their disagreements, the largest first."""

    first: str
    second: str
    aspects: Mapping[str, AspectAgreement]
    disagreements: tuple[Disagreement, ...]
    level: float

    def as_json(self) -> dict[str, Json]:
        """Return the result as the command line shows it."""
        return dataclasses.asdict(self)


def compare(
    judges: Mapping[str, Iterable[Rated]],
    *,
    groups: Mapping[str, str] | None = None,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
    top: int = 20,
    goal: Goal = "express",
) -> list[Agreement]:
    """Return the agreement of each pair of judges, over the texts that either was given.

    Args:
        judges: each judge's ratings by its name, two judges at least; unrated and pending ones count as missing.
        groups: the group of each text by its id, e.g. its concept: what is resampled for the intervals. None: each text for itself.
        level: nominal coverage of the intervals.
        resamples: bootstrap resamples.
        seed: of the bootstrap.
        top: how many disagreements are kept.
        goal: what the texts were steered for: :data:`OVERALL` is their score.

    Raises:
        JudgeError: fewer than two judges, a judge that rated a text twice, or a pair without a single text in common.
    """
    if len(judges) < 2:
        message = f"agreement needs two judges, got {', '.join(judges) or 'none'}"
        raise JudgeError(message, given=tuple(judges), hint="name another judge or a file of ratings")
    tables = {name: _table(name, ratings) for name, ratings in judges.items()}
    pairs = itertools.combinations(tables, 2)
    return [_agreement(first, second, tables, groups, level, resamples, seed, top, goal) for first, second in pairs]


def agree(
    first: ArrayLike,
    second: ArrayLike,
    *,
    groups: Sequence[str] | None = None,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> AspectAgreement:
    """Return the agreement of two lists of ratings ``[n]``, text by text; NaN is a missing rating. ``groups`` ``[n]`` is what is resampled together.

    Raises:
        ScoringError: lists of different lengths or dimensions, an infinite rating, ``level`` or ``resamples`` out of bounds.
    """
    a, b = _ratings(first, "first"), _ratings(second, "second")
    if a.shape != b.shape or (groups is not None and len(groups) != len(a)):
        sizes = [len(a), len(b)] + ([len(groups)] if groups is not None else [])
        message = f"first, second and groups must be of the same texts, got {' and '.join(map(str, sizes))}"
        raise ScoringError(message, given=tuple(sizes), hint="pair them first")
    if not 0 < level < 1 or resamples < 1:
        message = f"level is {level} and resamples {resamples}"
        raise ScoringError(message, given=(level, resamples), allowed="a level above 0 and below 1, and at least 1 resample")
    both = ~(np.isnan(a) | np.isnan(b))
    x, y = a[both], b[both]
    _, group = np.unique(np.asarray(groups)[both] if groups is not None else np.arange(len(x)), return_inverse=True)
    n_groups = int(group.max()) + 1 if len(x) else 0
    pair = _Pair(x, y)
    values = pair.figures(np.ones((1, len(x))))[:, 0] if len(x) else np.full(4, np.nan)
    drawn = [pair.figures(weights[:, group]) for weights in _resamples(n_groups, len(x), resamples, seed)] if n_groups > 1 else []
    spread = np.concatenate(drawn, axis=1) if drawn else np.full((4, 1), np.nan)
    exact, kappa, spearman, bias = (_figure(value, row, level) for value, row in zip(values, spread, strict=True))
    return AspectAgreement(len(x), int((~both).sum()), n_groups, exact, kappa, spearman, bias)


def _agreement(
    first: str,
    second: str,
    tables: Mapping[str, Mapping[str, FloatArray]],
    groups: Mapping[str, str] | None,
    level: float,
    resamples: int,
    seed: int,
    top: int,
    goal: Goal,
) -> Agreement:
    ours, theirs = tables[first], tables[second]
    if not ours.keys() & theirs.keys():
        raise JudgeError(f"{first} and {second} have no text in common", given=(first, second), hint="rate the same texts with both")
    items = sorted(ours.keys() | theirs.keys())
    nothing = np.full(len(ASPECTS), np.nan)
    a = np.array([ours.get(item, nothing) for item in items])
    b = np.array([theirs.get(item, nothing) for item in items])
    columns: dict[str, tuple[FloatArray, FloatArray]] = {aspect: (a[:, place], b[:, place]) for place, aspect in enumerate(ASPECTS)}
    columns[OVERALL] = overall(a, goal), overall(b, goal)
    group = [groups.get(item, item) for item in items] if groups is not None else None
    found = {name: agree(x, y, groups=group, level=level, resamples=resamples, seed=seed) for name, (x, y) in columns.items()}
    distances = np.nan_to_num(np.abs(a - b)).sum(axis=1)
    order = sorted((place for place in range(len(items)) if distances[place] > 0), key=lambda place: (-distances[place], items[place]))
    worst = tuple(Disagreement(items[i], _without_nan(a[i]), _without_nan(b[i]), float(distances[i])) for i in order[:top])
    return Agreement(first, second, found, worst, level)


def _without_nan(ratings: FloatArray) -> tuple[float | None, ...]:
    return tuple(None if np.isnan(value) else float(value) for value in ratings)


def _table(name: str, ratings: Iterable[Rated]) -> dict[str, FloatArray]:
    """Return a judge's ratings ``[3]`` by item; NaN for what is unrated or pending."""
    table: dict[str, FloatArray] = {}
    for rating in ratings:
        if rating.item_id in table:
            message = f"{name} rated the text {rating.item_id!r} twice"
            raise JudgeError(message, given=rating.item_id, hint="leave one of the ratings out")
        table[rating.item_id] = np.array([rating.concept, rating.instruction, rating.fluency], dtype=np.float64)
    return table


def _ratings(values: ArrayLike, name: str) -> FloatArray:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or np.isinf(array).any():
        given = array.shape if array.ndim != 1 else float(array[np.isinf(array)][0])
        message = f"{name} {'has the shape' if array.ndim != 1 else 'holds'} {given}"
        raise ScoringError(message, given=given, allowed="a list of finite ratings (NaN where one is missing)")
    return array


def _resamples(n_groups: int, n: int, resamples: int, seed: int) -> Iterator[FloatArray]:
    """Yield how often each group is drawn, ``[rows, n_groups]``, in portions that fit into memory with ``n`` texts."""
    generator = rng(seed, "agreement bootstrap")
    step = max(1, _CELLS // max(n, n_groups))
    for start in range(0, resamples, step):
        yield generator.multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=min(step, resamples - start)).astype(np.float64)


class _Pair:
    """The ratings of two judges ``[n]``, and their figures under weights of the texts."""

    def __init__(self, a: FloatArray, b: FloatArray) -> None:
        self._a, self._b = a, b
        self._levels = [np.unique(values, return_inverse=True)[1] for values in (a, b)]

    def figures(self, weights: FloatArray) -> FloatArray:
        """Return ``[4, rows]``: exact agreement, kappa, Spearman, bias with each row of ``weights`` ``[rows, n]``; NaN where not defined."""
        total = weights.sum(axis=1)
        a, b = self._a, self._b
        mean_a, mean_b = weights @ a / total, weights @ b / total
        bias = mean_b - mean_a
        spread = weights @ a**2 / total - mean_a**2 + weights @ b**2 / total - mean_b**2
        by_chance = (
            np.where(spread > _ROUNDING, spread, 0.0) + bias**2
        )  # mean squared difference over all pairs of a text of a and a text of b
        with np.errstate(invalid="ignore", divide="ignore"):
            kappa = np.where(by_chance > 0, 1 - weights @ (a - b) ** 2 / total / by_chance, np.nan)
        return np.stack([weights @ (a == b).astype(np.float64) / total, kappa, self._spearman(weights, total), bias])

    def _spearman(self, weights: FloatArray, total: FloatArray) -> FloatArray:
        """Return the correlation of the ranks, ties at their mean rank: a text of weight 2 stands for two equal ones."""
        first, second = (_ranks(levels, weights) - (total[:, None] + 1) / 2 for levels in self._levels)
        products, squares, others = ((weights * x * y).sum(axis=1) for x, y in ((first, second), (first, first), (second, second)))
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where((squares > 0) & (others > 0), np.clip(products / np.sqrt(squares * others), -1, 1), np.nan)


def _ranks(levels: NDArray[np.int64], weights: FloatArray) -> FloatArray:
    """Return the mean rank of each text ``[rows, n]``; ``levels`` ``[n]`` are the places of the texts' values in their order."""
    n_levels = int(levels.max()) + 1
    tied = np.stack([weights[:, levels == level].sum(axis=1) for level in range(n_levels)], axis=1)
    return (np.cumsum(tied, axis=1) - (tied - 1) / 2)[:, levels]


def _figure(value: float, resampled: FloatArray, level: float) -> Figure:
    if np.isnan(value):
        return Figure(None, None, None, "no text is rated by both, or one rating is given to all")
    defined = resampled[~np.isnan(resampled)]
    if len(defined) < _DEFINED * len(resampled):
        return Figure(float(value), None, None, "too few groups of texts for an interval, or too little spread in them")
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return Figure(float(value), float(low), float(high))
