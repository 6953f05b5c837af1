"""A ranking as plain values: groups of rows that may be compared, and the places in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from harness.leaderboard.comparisons import AgainstControl, Comparison, WinRate
from harness.leaderboard.entry import Entry, MetricValue, Row
from harness.leaderboard.grouping import GroupKey
from harness.leaderboard.merging import MethodRun, Spread

Standing = Literal["ranked", "control", "unpaired", "unordered", "ineligible"]


@dataclass(frozen=True)
class Place:
    """A method or a control of a group.

    Attributes:
        name: the subject's, with what tells it from others of that name in the group.
        row: of its run; of several runs, their row together: each item's values are means over the runs.
        runs: its runs, oldest first, at least one, each with the row as its entry has it.
        spread: of the scores of its runs.
        standing: whether it takes a rank, and why not.
        rank: the best and the worst rank that it may have among the group's methods; None without one.
        reasons: why there is no rank.
        against: the verdicts of a method against its controls, its own random one first.
        win_rate: against the chosen method; None where none was chosen, and for that method.
    """

    name: str
    row: Row
    runs: tuple[MethodRun, ...]
    spread: Spread
    standing: Standing
    rank: tuple[int, int] | None = None
    reasons: tuple[str, ...] = ()
    against: tuple[AgainstControl, ...] = ()
    win_rate: WinRate | None = None

    @property
    def score(self) -> MetricValue:
        """Return what the group is sorted by."""
        return self.row.score

    @property
    def entry(self) -> Entry:
        """Return the entry of its newest run."""
        return self.runs[-1].entry

    @property
    def rank_text(self) -> str:
        """Return the rank as it is shown: ``2–4``, ``1``, or a dash."""
        if self.rank is None:
            return "–"
        best, worst = self.rank
        return f"{best}" if best == worst else f"{best}–{worst}"


@dataclass(frozen=True)
class Group:
    """Rows that may be compared.

    Attributes:
        places: the best first.
        offline: an offline judge rated; such numbers serve demonstrations and tests.
        unpaired: other groups of the family have other concepts; the two are not ranked against each other.
        higher_is_better: the metric's direction; None where it has none.
        varies: what differs between the methods although a ranking allows it, e.g. ``seed``.
        comparisons: every pair of the ranked methods, by their places.
        groups: the largest sets of places of which no two can be told apart, the best first; empty where nothing was tested,
            and of more than 60 methods.
        tested: whether any pair of methods could be tested.
        criterion: when two methods of this group count as apart, in a sentence; of a group that was not tested, why not.
        verdict_criterion: the same for methods against controls.
        smallest: the smallest difference of interest; None for a metric that has none.
        warnings: what a reader of comparisons and verdicts must know.
    """

    key: GroupKey
    places: tuple[Place, ...]
    offline: bool
    unpaired: bool
    higher_is_better: bool | None
    varies: tuple[str, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    groups: tuple[tuple[int, ...], ...] = ()
    tested: bool = False
    criterion: str = ""
    verdict_criterion: str = ""
    smallest: float | None = None
    warnings: tuple[str, ...] = ()

    @property
    def entries(self) -> tuple[Entry, ...]:
        """Return the entries behind the places, each once."""
        return tuple({run.entry.id: run.entry for place in self.places for run in place.runs}.values())

    def between(self, first: int, second: int) -> Comparison | None:
        """Return the comparison of two places, whichever stands first; None where they were not compared."""
        pair = {first, second}
        return next((found for found in self.comparisons if {found.first, found.second} == pair), None)
