"""Is a method better than its control? Yes, no, or not shown, by the simultaneous interval of their difference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from harness.scoring.checks import ScoringError
from harness.scoring.simultaneous import Pair

Answer = Literal["yes", "no", "not shown"]


@dataclass(frozen=True)
class Verdict:
    """Whether the first method of a pair is better than the second.

    Attributes:
        answer: ``yes``: the interval lies above 0. ``no``: it lies wholly below the smallest difference of interest, so that whatever
            advantage there may be is too small to matter. ``not shown``: neither.
        pair: the difference (method − control) with its simultaneous interval.
        smallest: the smallest difference of interest; None where the metric has none, and there is no ``no`` then but by a method that is behind.
        shown_from: the smallest difference that this run could have shown: what the mean would have to reach for a ``yes``, given the spread
            that it has. None where the pair was not tested.
    """

    answer: Answer
    pair: Pair
    smallest: float | None
    shown_from: float | None

    @property
    def behind(self) -> bool:
        """Return whether the method is shown to be worse than its control."""
        return self.pair.apart and (self.pair.difference or 0.0) < 0


def verdict(pair: Pair, smallest: float | None) -> Verdict:
    """Return the verdict on a pair whose first is the method, its second the control; scores of which more is better.

    Args:
        pair: of :func:`harness.scoring.simultaneous.compare_pairs`, all verdicts of one ranking in one call.
        smallest: the smallest difference of interest, above 0; None where there is none.

    Raises:
        ScoringError: ``smallest`` is not above 0.
    """
    if smallest is not None and not smallest > 0:
        raise ScoringError(f"the smallest difference of interest is {smallest}", given=smallest, allowed="a number above 0")
    if pair.low is None or pair.high is None or pair.difference is None:
        return Verdict("not shown", pair, smallest, None)
    if pair.apart and pair.difference > 0:
        answer: Answer = "yes"
    elif pair.high < (0.0 if smallest is None else smallest) or (pair.apart and pair.difference < 0):
        answer = "no"
    else:
        answer = "not shown"
    return Verdict(answer, pair, smallest, pair.half_width)
