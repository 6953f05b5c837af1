"""Compares the methods of a group: all pairs at once, and each with its controls; win rates against one of them.

Values are paired by item (a concept; for a dictionary a seed). Concepts that share a feature of any compared method are no independent
evidence and are kept together (:func:`harness.scoring.clusters_of`). Where a lower value is better, all values change their sign first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from harness.leaderboard.comparisons import AgainstControl, Comparison, WinRate
from harness.leaderboard.entry import Row, metric_value
from harness.leaderboard.grouping import item_noun
from harness.leaderboard.merging import MethodRun
from harness.leaderboard.subject import DictionarySubjectRef
from harness.scoring import clusters_of
from harness.scoring.simultaneous import compare_all, compare_pairs
from harness.scoring.verdict import verdict

if TYPE_CHECKING:
    from harness.scoring.checks import FloatArray, IntArray
    from harness.scoring.simultaneous import Comparisons, Pair

Item = tuple[str, ...]
TIE = 1e-6
"""Values that differ by less count half in a win rate, as in AxBench."""


@dataclass(frozen=True)
class Scores:
    """The values of several methods on the items of any of them.

    Attributes:
        values: float64 ``[methods, items]``, NaN where a method has none; the larger the better.
        clusters: int64 ``[items]``.
        bounds: of the values.
        noun: what an item is.
    """

    values: FloatArray
    clusters: IntArray
    bounds: tuple[float | None, float | None]
    noun: str


def scores_of(methods: Sequence[tuple[Row, Sequence[MethodRun]]], sign: int, trivial: bool) -> Scores:
    """Return the values of ``methods`` (each a row with the runs behind it), paired by item.

    Args:
        methods: at least one, all of one kind and metric.
        sign: -1 where lower is better.
        trivial: an abstention counts as the metric's trivial value; else it is left out.
    """
    values = [values_by_item(row, trivial) for row, _ in methods]
    items = list(dict.fromkeys(item for own in values for item in own))
    features: dict[Item, set[str]] = {item: set() for item in items}
    for _, runs in methods:
        for item, own in _features(runs).items():
            features.get(item, set()).update(own)
    row = methods[0][0]
    low, high = row.metrics[row.primary].bounds
    return Scores(
        np.array([[sign * own.get(item, np.nan) for item in items] for own in values], dtype=np.float64).reshape(len(methods), len(items)),
        clusters_of((item, sorted(features[item])) for item in items),
        (low, high) if sign > 0 else (None if high is None else -high, None if low is None else -low),
        item_noun(row.kind),
    )


def values_by_item(row: Row, trivial: bool) -> dict[Item, float]:
    """Return a row's values by item; of a dictionary by seed, without the parts that a seed's value is made of."""
    if not isinstance(row.subject, DictionarySubjectRef):
        return {item: value for item, value in row.values(trivial).items()}
    found = {item.id: item.values.get(row.primary) for item in row.items if ": " not in item.id}
    return {(item,): value for item, value in found.items() if value is not None}


def _features(runs: Sequence[MethodRun]) -> dict[Item, set[str]]:
    """Return the features by which a method answers each item, named by the dictionaries' weights rather than by their names in a task."""
    found: dict[Item, set[str]] = {}
    for run in runs:
        weights = {part.name: part.digest or part.source for part in run.entry.dictionaries}
        for item in run.row.items:
            for feature in item.features:
                name, _, index = feature.rpartition("/")
                found.setdefault((item.id, item.text), set()).add(f"{weights.get(name, name)}/{index}")
    return found


# --------------------------------------------------------------------------------------------------------------- methods against methods


@dataclass(frozen=True)
class Ranked:
    """All pairs of methods, compared at once; places as they were given.

    Attributes:
        comparisons: of every pair, the first before the second in the order given.
        ranks: best and worst rank of each method; None where no pair could be tested.
        groups: largest sets of methods of which no two are apart.
        criterion: when two are apart, or why nothing was tested.
    """

    comparisons: tuple[Comparison, ...]
    ranks: tuple[tuple[int, int] | None, ...]
    groups: tuple[tuple[int, ...], ...]
    tested: bool
    criterion: str


def compare_methods(scores: Scores, places: Sequence[int]) -> Ranked:
    """Return every pair of methods compared; ``places`` are their numbers in the group, in the order of ``scores``."""
    if len(places) < 2:
        return Ranked((), ((1, 1),) * len(places), (), tested=False, criterion="")
    found = compare_all(scores.values, scores.clusters, bounds=scores.bounds)
    comparisons = tuple(_comparison(pair, places, scores.noun) for pair in found.pairs)
    if not any(pair.low is not None for pair in comparisons):
        return Ranked(comparisons, (None,) * len(places), (), tested=False, criterion=_why_untested(comparisons))
    groups = tuple(tuple(places[method] for method in group) for group in found.groups())
    return Ranked(comparisons, tuple(found.ranks()), groups, tested=True, criterion=_criterion(found, scores.noun))


def _comparison(pair: Pair, places: Sequence[int], noun: str) -> Comparison:
    tested = pair.low is not None and np.isfinite(pair.low)
    return Comparison(
        first=places[pair.first],
        second=places[pair.second],
        n_shared=pair.n,
        effective_clusters=pair.effective_clusters,
        difference=_number(pair.difference),
        low=_number(pair.low) if tested else None,
        high=_number(pair.high) if tested else None,
        p_value=_number(pair.p_value) if tested else None,
        apart=bool(pair.apart),
        reason=pair.reason or ("" if pair.n else f"no {noun} is shared"),
        warning=pair.warning,
    )


def _number(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else float(value)


def _why_untested(comparisons: Sequence[Comparison]) -> str:
    reasons = list(dict.fromkeys(pair.reason for pair in comparisons if pair.reason))
    return f"no two methods were tested against each other: {'; '.join(reasons)}"


def _criterion(found: Comparisons, noun: str) -> str:
    n = sum(not pair.reason for pair in found.pairs)
    pairs = "the interval of their paired difference" if n == 1 else f"the interval of their paired difference, one of {n} that hold together,"
    return f"apart: {pairs} excludes 0 ({100 * found.level:g} %, {noun}s that share a feature counted together)"


# -------------------------------------------------------------------------------------------------------------- methods against controls


@dataclass(frozen=True)
class Pairing:
    """A method and a control of it, by their numbers in the group.

    Attributes:
        name: what the control is called in a sentence.
        own: whether it is the method's own random control.
    """

    method: int
    control: int
    name: str
    own: bool


def compare_with_controls(
    scores: Scores, order: Sequence[int], pairings: Sequence[Pairing], smallest: float | None
) -> dict[int, tuple[AgainstControl, ...]]:
    """Return the verdicts by method, all of them corrected together, each method's own controls first.

    Args:
        scores: of methods and controls.
        order: their numbers in the group, in the order of ``scores``.
        pairings: who is compared with whom.
        smallest: the smallest difference of interest.
    """
    if not pairings:
        return {}
    at = {number: place for place, number in enumerate(order)}
    pairs = [(at[pairing.method], at[pairing.control]) for pairing in pairings]
    found = compare_pairs(scores.values, pairs, scores.clusters, bounds=scores.bounds)
    verdicts: dict[int, list[AgainstControl]] = {}
    for pairing, pair in zip(pairings, found.pairs, strict=True):
        verdicts.setdefault(pairing.method, []).append(_against(pairing, pair, smallest, scores.noun))
    return {method: tuple(sorted(own, key=lambda one: not one.own)) for method, own in verdicts.items()}


def _against(pairing: Pairing, pair: Pair, smallest: float | None, noun: str) -> AgainstControl:
    told = _comparison(pair, range(1 << 30), noun)
    answer = verdict(pair, smallest or 0.0)
    return AgainstControl(
        control=pairing.control,
        name=pairing.name,
        own=pairing.own,
        answer="not tested" if told.low is None else answer.answer,
        difference=told.difference,
        low=told.low,
        high=told.high,
        p_value=told.p_value,
        smallest=smallest,
        shown_from=_number(answer.shown_from) if told.low is not None else None,
        n_shared=told.n_shared,
        effective_clusters=told.effective_clusters,
        reason=told.reason,
        warning=told.warning,
    )


# -------------------------------------------------------------------------------------------------------------------------- win rates


def win_rate(scores: Scores, method: int, other: int, against: int) -> WinRate:
    """Return the share of items on which a method is above the other one, ties half.

    Args:
        scores: of both.
        method, other: their rows of ``scores``.
        against: the other one's number in the group.
    """
    differences = scores.values[method] - scores.values[other]
    defined = ~np.isnan(differences)
    differences, clusters = differences[defined], scores.clusters[defined]
    points = np.where(np.abs(differences) < TIE, 0.5, differences > 0).astype(np.float64)
    if not points.size:
        return WinRate(against, None, None, None, 0, 0, 0, 0)
    found = metric_value(points.tolist(), clusters, bounds=(0.0, 1.0), item=scores.noun)
    wins, ties = int((points == 1).sum()), int((points == 0.5).sum())
    return WinRate(against, found.value, found.low, found.high, wins, ties, len(points) - wins - ties, len(points))
