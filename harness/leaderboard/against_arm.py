"""What an entry says of a dictionary against one of its controls under a metric: seeds crossed with seeds, an interval over items."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from harness.leaderboard.values import is_empty
from harness.store.manifest import Count, Part, Text


class SeedDifference(Part):
    """One seed of the dictionary against one of the control: how far it is ahead, so that more is better whatever the metric's direction."""

    seed: str
    """Of the dictionary; empty where it has none."""
    control_seed: str
    """Of the control: of its training, or of its draw."""
    difference: float
    """Of the two values."""
    low: float | None = None
    high: float | None = None
    """The 95 % interval over items of this pair alone; null where there is none."""


class AgainstArm(Part):
    """Whether the dictionary beats one of its controls (docs/sanity.md)."""

    arm: Text
    """The control."""
    answer: Literal["yes", "no", "not shown", "not tested"]
    """``yes``: each seed of the dictionary is ahead of each of the control, and the interval lies above 0. ``no``: no pair of seeds is ahead by the
    smallest difference of interest, and the interval lies below it. ``not tested``: there is no interval."""
    difference: float
    """How far the dictionary is ahead, mean over all pairs of seeds; where the metric has no direction, dictionary − control."""
    mean: float | None = None
    """The mean over items of their differences; null where there are none. Not ``difference`` where the metric's value is no plain mean of them."""
    low: float | None = None
    high: float | None = None
    """The interval of ``mean`` over items."""
    level: Annotated[float, Field(gt=0, lt=1)]
    """Of the interval; so high that the intervals of all controls of this metric hold together at 95 %."""
    interval_method: str = Field("", exclude_if=is_empty)
    n_items: Count
    """Items that the interval rests on."""
    smallest: float | None = None
    """The smallest difference of interest; null where the metric has none."""
    pairs: tuple[SeedDifference, ...]
    reason: str = Field("", exclude_if=is_empty)
    """Why there is no interval."""
    warning: str = Field("", exclude_if=is_empty)
    """What a reader must know."""

    @model_validator(mode="after")
    def _complete(self) -> AgainstArm:
        if (self.low is None) != (self.high is None):
            raise ValueError("an interval has both ends or none")
        if (self.low is None) != (self.answer == "not tested") or (self.low is None and not self.reason):
            raise ValueError("a verdict needs an interval; without one the answer is 'not tested', with the reason")
        if not self.pairs:
            raise ValueError("a dictionary is held against its control by at least one pair of seeds")
        return self

    @property
    def n_ahead(self) -> int:
        """Return how many pairs of seeds have the dictionary ahead."""
        return sum(pair.difference > 0 for pair in self.pairs)
