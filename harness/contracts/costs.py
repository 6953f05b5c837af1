"""What a plugin that costs money offers beside its kind's contract."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from harness.types import Concept, JudgeItem

if TYPE_CHECKING:
    from harness.chat.cost import Estimate
    from harness.chat.values import Usage


@dataclass(frozen=True)
class Work:
    """What a plugin that costs money would be asked to do.

    Attributes:
        items: texts to rate (a judge).
        concepts: concepts to prepare (a labeler, a steerer, a detector).
        measurements: dictionaries to measure, times the metric's own seeds (a metric).
    """

    items: Sequence[JudgeItem] = ()
    concepts: Sequence[Concept] = ()
    measurements: int = 0


@runtime_checkable
class Metered(Protocol):
    """What may cost money says afterwards how much it was."""

    @property
    def usage(self) -> Usage:
        """Tokens that were paid for so far; replies from a cache are not among them."""
        ...

    @property
    def cost(self) -> float | None:
        """Dollars so far; None where a price is not known."""
        ...

    @property
    def hits(self) -> int:
        """Replies that came from a cache."""
        ...

    @property
    def unanswered(self) -> int:
        """Requests that were given up unanswered, which a server may bill, too."""
        ...


@runtime_checkable
class Priced(Metered, Protocol):
    """A plugin that may cost money: it says before how much at most, and afterwards how much it was."""

    def estimate(self, work: Work) -> Estimate:
        """An upper bound of calls, tokens and dollars for ``work``; sends nothing. No calls for what it has already."""
        ...
