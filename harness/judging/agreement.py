"""How far two judges agree, rating by rating, and on which texts they disagree most. Pairs in which a rating is missing are left out and counted.

Kappa is quadratically weighted (Cohen 1968): 1 less the mean squared difference over the one that ratings paired at random would have, so it
also takes the half grades that several people's medians give. Bias is the second judge's mean less the first's. Intervals are percentiles of a
bootstrap over the texts; where one concept has many texts they are too narrow, since its texts are alike.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.errors import JudgeError
from harness.judging.rubric import ASPECTS
from harness.scoring import ScoringError, harmonic_mean
from harness.types import Json, Rating, rng

FloatArray = NDArray[np.float64]

OVERALL = "overall"
"""The harmonic mean of the three ratings, beside them."""
RESAMPLES = 2000
_DEFINED = 0.95
"""Share of the resamples in which a figure must be defined, or it gets no interval."""
_CELLS = 2_000_000


@dataclass(frozen=True)
class Figure:
    """A figure with the ends of its interval; None where it is not defined (no spread, no pair) or too often undefined in resamples."""

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class AspectAgreement:
    """Agreement in one rating.

    Attributes:
        n: texts that both judges rated.
        n_missing: texts of which one or both ratings are missing.
        exact: share of equal ratings.
        kappa: quadratically weighted kappa.
        spearman: rank correlation, ties at their mean rank.
        bias: mean of the second judge less that of the first.
    """

    n: int
    n_missing: int
    exact: Figure
    kappa: Figure
    spearman: Figure
    bias: Figure


@dataclass(frozen=True)
class Disagreement:
    """A text on which two judges disagree: the ratings in the order of :data:`ASPECTS`, and the sum of the absolute differences."""

    item_id: str
    first: tuple[float, ...]
    second: tuple[float, ...]
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
        """For the command line."""
        return dataclasses.asdict(self)


def compare(
    judges: Mapping[str, Iterable[Rating]], *, level: float = 0.95, resamples: int = RESAMPLES, seed: int = 0, top: int = 20
) -> list[Agreement]:
    """Agreement of each pair of judges, over the texts that either was given.

    Args:
        judges: each judge's ratings by its name, two judges at least; unrated and pending ones count as missing.
        level: nominal coverage of the intervals.
        resamples: bootstrap resamples.
        seed: of the bootstrap.
        top: how many disagreements are kept.

    Raises:
        JudgeError: fewer than two judges, a judge that rated a text twice, or a pair without a single text in common.
    """
    if len(judges) < 2:
        raise JudgeError(f"agreement needs two judges, got {', '.join(judges) or 'none'}; name another judge or a file of ratings")
    tables = {name: _table(name, ratings) for name, ratings in judges.items()}
    pairs = itertools.combinations(tables, 2)
    return [_agreement(first, second, tables, level, resamples, seed, top) for first, second in pairs]


def agree(first: ArrayLike, second: ArrayLike, *, level: float = 0.95, resamples: int = RESAMPLES, seed: int = 0) -> AspectAgreement:
    """Agreement of two lists of ratings ``[n]``, text by text; NaN is a missing rating.

    Raises:
        ScoringError: lists of different lengths or dimensions, an infinite rating, ``level`` or ``resamples`` out of bounds.
    """
    a, b = _ratings(first, "first"), _ratings(second, "second")
    if a.shape != b.shape:
        raise ScoringError(f"first and second must rate the same texts, got {len(a)} and {len(b)} ratings; pair them first")
    if not 0 < level < 1 or resamples < 1:
        raise ScoringError(f"level must lie between 0 and 1 and resamples be at least 1, got {level} and {resamples}")
    both = ~(np.isnan(a) | np.isnan(b))
    x, y = a[both], b[both]
    values = _figures(x[None], y[None])[:, 0] if len(x) else np.full(4, np.nan)
    draws = [_figures(x[drawn], y[drawn]) for drawn in _draws(len(x), resamples, seed)] if len(x) > 1 else []
    spread = np.concatenate(draws, axis=1) if draws else np.full((4, 1), np.nan)
    exact, kappa, spearman, bias = (_figure(value, row, level) for value, row in zip(values, spread, strict=True))
    return AspectAgreement(len(x), int((~both).sum()), exact, kappa, spearman, bias)


def _agreement(
    first: str, second: str, tables: Mapping[str, Mapping[str, FloatArray]], level: float, resamples: int, seed: int, top: int
) -> Agreement:
    ours, theirs = tables[first], tables[second]
    if not ours.keys() & theirs.keys():
        raise JudgeError(f"{first} and {second} have no text in common; rate the same texts with both")
    items = sorted(ours.keys() | theirs.keys())
    nothing = np.full(len(ASPECTS), np.nan)
    a = np.array([ours.get(item, nothing) for item in items])
    b = np.array([theirs.get(item, nothing) for item in items])
    columns: dict[str, tuple[FloatArray, FloatArray]] = {aspect: (a[:, place], b[:, place]) for place, aspect in enumerate(ASPECTS)}
    columns[OVERALL] = harmonic_mean(a), harmonic_mean(b)
    found = {name: agree(x, y, level=level, resamples=resamples, seed=seed) for name, (x, y) in columns.items()}
    distances = np.nan_to_num(np.abs(a - b)).sum(axis=1)
    order = sorted((place for place in range(len(items)) if distances[place] > 0), key=lambda place: (-distances[place], items[place]))
    worst = tuple(Disagreement(items[i], tuple(a[i].tolist()), tuple(b[i].tolist()), float(distances[i])) for i in order[:top])
    return Agreement(first, second, found, worst, level)


def _table(name: str, ratings: Iterable[Rating]) -> dict[str, FloatArray]:
    """A judge's ratings ``[3]`` by item; NaN for what is unrated or pending."""
    table: dict[str, FloatArray] = {}
    for rating in ratings:
        if rating.item_id in table:
            raise JudgeError(f"{name} rated the text {rating.item_id!r} twice; leave one of the ratings out")
        table[rating.item_id] = np.array([rating.concept, rating.instruction, rating.fluency], dtype=np.float64)
    return table


def _ratings(values: ArrayLike, name: str) -> FloatArray:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or np.isinf(array).any():
        raise ScoringError(f"{name} must be a list of finite ratings (NaN where one is missing), got shape {array.shape}")
    return array


def _draws(n: int, resamples: int, seed: int) -> Iterable[NDArray[np.int64]]:
    """Resamples of ``n`` texts as indices ``[rows, n]``, in portions that fit into memory."""
    generator = rng(seed, "agreement bootstrap")
    step = max(1, _CELLS // n)
    for start in range(0, resamples, step):
        yield generator.integers(0, n, size=(min(step, resamples - start), n))


def _figures(a: FloatArray, b: FloatArray) -> FloatArray:
    """``[4, rows]``: exact agreement, kappa, Spearman, bias of each row of ``a`` and ``b`` ``[rows, n]``; NaN where not defined."""
    bias = b.mean(axis=1) - a.mean(axis=1)
    by_chance = a.var(axis=1) + b.var(axis=1) + bias**2  # mean squared difference over all pairs of a text of a and a text of b
    with np.errstate(invalid="ignore", divide="ignore"):
        kappa = np.where(by_chance > 0, 1 - ((a - b) ** 2).mean(axis=1) / by_chance, np.nan)
    return np.stack([(a == b).mean(axis=1), kappa, _correlation(_ranks(a), _ranks(b)), bias])


def _ranks(values: FloatArray) -> FloatArray:
    from scipy.stats import rankdata

    return np.asarray(rankdata(values, axis=1), dtype=np.float64)


def _correlation(a: FloatArray, b: FloatArray) -> FloatArray:
    a, b = a - a.mean(axis=1, keepdims=True), b - b.mean(axis=1, keepdims=True)
    scale = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(scale > 0, np.clip((a * b).sum(axis=1) / scale, -1, 1), np.nan)


def _figure(value: float, resampled: FloatArray, level: float) -> Figure:
    if np.isnan(value):
        return Figure(None, None, None)
    defined = resampled[~np.isnan(resampled)]
    if len(defined) < _DEFINED * len(resampled):
        return Figure(float(value), None, None)
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return Figure(float(value), float(low), float(high))
