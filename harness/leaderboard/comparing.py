"""Compares the methods of a group: all pairs at once, and each with its controls; win rates against one of them.

Values are paired by item, and items that are no independent evidence are kept together (:mod:`harness.leaderboard.paired`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from harness.leaderboard.comparisons import AgainstControl, Comparison, WinRate
from harness.leaderboard.controls import Pairing
from harness.leaderboard.entry import metric_value
from harness.leaderboard.paired import Scores
from harness.scoring.simultaneous import MIN_CLUSTERS, compare_all, compare_pairs
from harness.scoring.verdict import verdict

if TYPE_CHECKING:
    from harness.scoring.simultaneous import Comparisons, Pair

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
    what = f"the {100 * found.level:g} % interval of the paired difference{together}"
    return f"apart: where {what} excludes 0, or touches it where only stepping down tells the two apart ({alike})"


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
    found = control_pairs(scores, order, pairings)
    verdicts: dict[int, list[AgainstControl]] = {}
    for pairing, pair in zip(pairings, found.pairs, strict=True):
        verdicts.setdefault(pairing.method, []).append(_against(pairing, pair, smallest))
    return {method: tuple(sorted(own, key=lambda one: not one.own)) for method, own in verdicts.items()}


def control_pairs(scores: Scores, order: Sequence[int], pairings: Sequence[Pairing]) -> Comparisons:
    """Return every method set against its controls, all of them in one family; arguments as of :func:`compare_with_controls`."""
    at = {number: place for place, number in enumerate(order)}
    pairs = [(at[pairing.method], at[pairing.control]) for pairing in pairings]
    return compare_pairs(
        scores.values, pairs, scores.clusters, level=LEVEL, resamples=_patterns(len(pairs)), bounds=scores.bounds, item=scores.noun
    )


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
        kind=pairing.kind,
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
