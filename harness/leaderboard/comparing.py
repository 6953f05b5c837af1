"""Compares the methods of a group: all pairs at once, and each with its controls; win rates against one of them.

Values are paired by item (a concept; for a dictionary a seed). Concepts that share a feature of any compared method or control are no independent
evidence and are kept together (:func:`harness.scoring.clusters_of`). Where a lower value is better, all values change their sign first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from harness.leaderboard.comparisons import AgainstControl, Comparison, WinRate
from harness.leaderboard.controls import Pairing
from harness.leaderboard.entry import Row, metric_value
from harness.leaderboard.grouping import item_noun
from harness.leaderboard.merging import MethodRun
from harness.leaderboard.subject import DictionarySubjectRef
from harness.scoring import clusters_of
from harness.scoring.simultaneous import MIN_CLUSTERS, compare_all, compare_pairs
from harness.scoring.verdict import verdict

if TYPE_CHECKING:
    from harness.scoring.checks import FloatArray, IntArray
    from harness.scoring.simultaneous import Comparisons, Pair

Item = tuple[str, str]
LEVEL = 0.95
"""Of all intervals of a group's methods together, and of all those against controls."""
STATISTICS = 20_000_000
"""So many statistics of pairs under sign patterns are computed at most, as long as there are ``LEAST_PATTERNS``: a board of 200 methods has
19,900 pairs."""
PATTERNS, LEAST_PATTERNS = 9999, 1999
MOST_METHODS = 60
"""Of more methods, groups are not listed: there may be a great many that overlap. Ranks are there for any number."""
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
    values = [_values(row, trivial) for row, _ in methods]
    items = sorted({item for own in values for item in own})
    features = _links(methods)
    row = methods[0][0]
    low, high = row.metrics[row.primary].bounds
    return Scores(
        np.array([[sign * own.get(item, np.nan) for item in items] for own in values], dtype=np.float64).reshape(len(methods), len(items)),
        clusters_of((item, sorted(features.get(item, ()))) for item in items),
        (low, high) if sign > 0 else (None if high is None else -high, None if low is None else -low),
        item_noun(row.kind),
    )


def _values(row: Row, trivial: bool) -> dict[Item, float]:
    """Return a row's values by item; of a dictionary by seed, without the parts that a seed's value is made of."""
    if not isinstance(row.subject, DictionarySubjectRef):
        return row.values(trivial)
    found = {item.id: item.values.get(row.primary) for item in row.items if ": " not in item.id}
    return {(item, ""): value for item, value in found.items() if value is not None}


def _links(methods: Sequence[tuple[Row, Sequence[MethodRun]]]) -> dict[Item, set[str]]:
    """Return the features that link items: those by which any method or control answers them.

    What a control borrows is no link: a feature by which a method answers *another* item, as labels that were permuted are. It would link all
    items to one, and it takes no evidence away: what the feature does by itself counts once for the method and once against it.
    """
    found: dict[Item, set[str]] = {}
    users: dict[str, set[Item]] = {}
    for row, runs in sorted(methods, key=lambda method: method[0].role == "control"):
        for item, own in _features(runs).items():
            if row.role == "control":
                own = {feature for feature in own if not users.get(feature, set()) - {item}}
            else:
                for feature in own:
                    users.setdefault(feature, set()).add(item)
            found.setdefault(item, set()).update(own)
    return found


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
        groups: largest sets of methods of which no two are apart; empty for more than ``MOST_METHODS``.
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
    n_pairs = len(places) * (len(places) - 1) // 2
    found = compare_all(
        scores.values, scores.clusters, level=LEVEL, resamples=_patterns(n_pairs), bounds=scores.bounds, item=scores.noun
    )
    comparisons = tuple(_comparison(pair, places) for pair in found.pairs)
    if not any(_enough(pair) for pair in found.pairs):
        return Ranked(comparisons, (None,) * len(places), (), tested=False, criterion=_why_untested(comparisons))
    cliques = found.groups() if len(places) <= MOST_METHODS else ()
    groups = tuple(tuple(places[method] for method in group) for group in cliques)
    return Ranked(comparisons, tuple(found.ranks()), groups, tested=True, criterion=_criterion(found, scores.noun))


def _patterns(n_pairs: int) -> int:
    """Return how many sign patterns are drawn: fewer where there are thousands of pairs."""
    return min(PATTERNS, max(LEAST_PATTERNS, STATISTICS // n_pairs))


def _enough(pair: Pair) -> bool:
    """Return whether two methods share enough independent items to be tested; where they agree on all of them, they need no test."""
    return pair.effective_clusters >= MIN_CLUSTERS - 1e-6


def _comparison(pair: Pair, places: Sequence[int]) -> Comparison:
    return Comparison(
        first=places[pair.first],
        second=places[pair.second],
        n_shared=pair.n,
        effective_clusters=pair.effective_clusters,
        difference=pair.difference,
        low=pair.low,
        high=pair.high,
        p_value=pair.p_value,
        apart=pair.apart,
        reason=pair.reason,
        warning=pair.warning,
    )


def _why_untested(comparisons: Sequence[Comparison]) -> str:
    return "; ".join(dict.fromkeys(pair.reason for pair in comparisons if pair.reason))


def _criterion(found: Comparisons, noun: str) -> str:
    n = sum(pair.tested for pair in found.pairs)
    together = "" if n < 2 else f", one of {n} that hold together,"
    alike = f"{noun}s that share a feature counted as one" if noun == "concept" else f"{noun} by {noun}"
    return f"apart: where the {100 * found.level:g} % interval of the paired difference{together} excludes 0 ({alike})"


# -------------------------------------------------------------------------------------------------------------- methods against controls


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
    found = compare_pairs(
        scores.values, pairs, scores.clusters, level=LEVEL, resamples=_patterns(len(pairs)), bounds=scores.bounds, item=scores.noun
    )
    verdicts: dict[int, list[AgainstControl]] = {}
    for pairing, pair in zip(pairings, found.pairs, strict=True):
        verdicts.setdefault(pairing.method, []).append(_against(pairing, pair, smallest))
    return {method: tuple(sorted(own, key=lambda one: not one.own)) for method, own in verdicts.items()}


def _against(pairing: Pairing, pair: Pair, smallest: float | None) -> AgainstControl:
    found = verdict(pair, smallest)
    return AgainstControl(
        control=pairing.control,
        name=pairing.name,
        own=pairing.own,
        answer=found.answer if _enough(pair) else "not tested",
        difference=pair.difference,
        low=pair.low,
        high=pair.high,
        p_value=pair.p_value,
        smallest=smallest,
        shown_from=found.shown_from,
        n_shared=pair.n,
        effective_clusters=pair.effective_clusters,
        reason=pair.reason,
        warning=pair.warning,
    )


def verdict_criterion(n: int, smallest: float | None) -> str:
    """Return when a method beats a control and when it does not, for ``n`` pairs of the two and a smallest difference of interest."""
    together = "" if n == 1 else f", one of {n} that hold together,"
    known = smallest is not None
    limit = f"{smallest:g}, the smallest difference of interest" if known else "0, since this metric has no smallest difference of interest"
    return f"beats: yes where the {100 * LEVEL:g} % interval of the lead{together} lies above 0, no where it lies below {limit}"


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
