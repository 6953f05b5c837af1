"""The numbers of an entry: a metric with its interval, what one item got, and the builder that makes the one from the other.

A number that does not exist is null with the reason beside it. No number and no end of an interval lies outside its metric's bounds.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence, Sized
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, JsonValue, model_validator

from harness.store.manifest import Count, Part, Text

if TYPE_CHECKING:
    from harness.scoring.checks import IntArray
    from harness.scoring.intervals import IntervalMethod

Limits = tuple[float | None, float | None]
"""The least and the greatest value that a metric can take; null where it has no such limit."""

TOLERANCE = 1e-6
"""How far two numbers that should be equal may differ: they went through other orders of summation."""

_ROUNDING = 1e-9

Points = Annotated[float, Field(ge=0, le=2)]
"""A rating, or a mean of ratings: 0 to 2."""


def is_empty(value: Sized) -> bool:
    """Return whether a value holds nothing: a field that came after the first entries is left out then, so the digests of older entries hold."""
    return not len(value)


class MetricValue(Part):
    """One number about a row, a mean over items with its interval, and what it takes to read it."""

    value: float | None
    """Mean over the items (concepts; for a dictionary's metric: seeds); null where there is none."""
    low: float | None = None
    high: float | None = None
    """The ends of the interval, clipped to the bounds."""
    interval_method: str = ""
    """How the interval was made, with its level, e.g. ``t and bca, 95 %``."""
    reason: str = ""
    """Why the value or its interval is missing."""
    title: str = ""
    """What it is, for the head of a table, where its name does not say it: ``explained variance`` of a metric ``reconstruction``."""
    unit: str = ""
    """``share``, ``features``, ``nats``, …; empty for a score."""
    bounds: Limits = (None, None)
    """The metric's scale, e.g. 0 to 2 for a steering score."""
    higher_is_better: bool | None = None
    """Null for a metric in which neither direction is better."""
    trivial: float | None = None
    """What the empty answer gets: 0 for a steering score, .5 for AUROC, the prevalence for average precision."""
    random: float | None = None
    """What the random control gets, where it is known."""
    warning: str = Field("", exclude_if=is_empty)
    """What a reader of the interval must know (too few concepts to trust its ends, values left out); left out where there is nothing."""

    @model_validator(mode="after")
    def _complete(self) -> MetricValue:
        if (self.low is None) != (self.high is None):
            raise ValueError("an interval has both ends or none")
        if self.low is not None and self.high is not None:
            if self.value is None:
                raise ValueError("an interval needs a value")
            if self.low > self.high:
                raise ValueError(f"the interval's ends are out of order: {self.low} > {self.high}")
            if not self.interval_method:
                raise ValueError("an interval needs its interval_method")
        elif not self.reason:
            raise ValueError("a missing value or interval needs a reason")
        lowest, highest = self.bounds
        if lowest is not None and highest is not None and lowest >= highest:
            raise ValueError(f"the metric's bounds are out of order: {lowest} and {highest}")
        for name in ("value", "low", "high", "trivial", "random"):
            if not inside(getattr(self, name), self.bounds):
                raise ValueError(f"{name} is {getattr(self, name)}, outside of the metric's bounds {lowest} and {highest}")
        return self


class Bounds(Part):
    """Whatever its unrated texts had been rated, the score that a steering row is judged by would lie between these."""

    low: Points | None
    high: Points | None
    reason: str = ""

    @model_validator(mode="after")
    def _complete(self) -> Bounds:
        if (self.low is None or self.high is None) and not self.reason:
            raise ValueError("a missing bound needs a reason")
        if self.low is not None and self.high is not None and self.low > self.high + TOLERANCE:
            raise ValueError(f"the bounds are out of order: {self.low} > {self.high}")
        return self


class ItemResult(Part):
    """What one item got: a concept (steering, detection), or a dictionary in one measurement (of a seed)."""

    id: Text
    text: str
    """The concept as a judge and a prompt see it, or the part's name."""
    features: tuple[str, ...] = ()
    """``dictionary/index``; several for a method that combines."""
    answered: bool = True
    """False: the labeler abstained; the reason says why."""
    values: dict[Text, float | None] = Field(default_factory=dict)
    """By the name of the metric."""
    trivial: dict[Text, float] = Field(default_factory=dict)
    """What the empty answer gets here, by metric, where that differs from item to item (average precision: the prevalence)."""
    strength: float | None = None
    """Steering: the strength that was chosen (``cv``: on all instructions, ``axbench``: on the first half).

    Null, with the reason, where all strengths score alike or draws differ.
    """
    n: Count = 0
    """Texts: trials of a steering method, texts that a detector scored."""
    n_unrated: Count = 0
    details: dict[str, JsonValue] = Field(default_factory=dict)
    """What else is worth knowing, e.g. a detector's threshold and counts, or the draws that ``values`` are the mean of."""
    digest: str = Field("", exclude_if=is_empty)
    """Of the weights of the dictionary that was measured, where the run trained or drew it; left out elsewhere, and in older entries."""
    per_item: dict[Text, float | None] = Field(default_factory=dict, exclude_if=is_empty)
    """Of a dictionary's measurement: what the primary metric's value is made of, by name; left out where the metric gives nothing of the kind.

    Older entries have an item of its own for each instead, whose id begins with the measurement's: ``seed 1: layer 3``.
    """
    reason: str = ""
    """Why a number is missing."""

    @model_validator(mode="after")
    def _explained(self) -> ItemResult:
        if (not self.answered or None in self.values.values()) and not self.reason:
            raise ValueError("a missing number needs a reason")
        if not self.answered and (self.strength is not None or any(value is not None for value in self.values.values())):
            raise ValueError("an item that was not answered has no numbers")
        if self.n_unrated > self.n:
            raise ValueError(f"n_unrated is {self.n_unrated} of {self.n} texts")
        return self


class Reading(Part):
    """What a control's texts are like at the strengths that another method chose: for reading, never ranked or compared.

    A control held to a method's strengths would score worse by construction, so there is no overall score here.
    """

    at_strengths_of: Text
    """The method's name."""
    method: Text
    """Digest of the method's names and options, the id of its row's subject."""
    metrics: dict[Text, MetricValue]
    """Concept, instruction and fluency, over the concepts that could be read: in each fold at the strength that the method chose there."""
    n_items: Count
    """Concepts that both answered."""
    n_read: Count
    """Those of them whose strengths, as the method chose them, are all in the control's grid."""


class Sample(Part):
    """A text to look at."""

    concept_text: str
    instruction: str
    strength: float
    text: str
    overall: Points | None = None
    place: Literal["best", "median", "worst"] | None = None
    """Among the method's rated texts at the chosen strengths; null in older entries, and where nothing is rated."""
    ratings: dict[str, Points] | None = None
    """Of concept, instruction and fluency; null as ``place`` is."""


def inside(number: float | None, bounds: Limits) -> bool:
    """Return whether a number is within its bounds; a number that does not exist is."""
    low, high = bounds
    return number is None or ((low is None or number >= low) and (high is None or number <= high))


def clip(number: float, bounds: Limits) -> float:
    """Return the number, or the nearer bound where it lies outside."""
    low, high = bounds
    number = number if low is None else max(low, number)
    return number if high is None else min(high, number)


def metric_value(
    values: Sequence[float | None],
    clusters: Sequence[Hashable] | IntArray | None = None,
    *,
    title: str = "",
    unit: str = "",
    bounds: Limits = (None, None),
    higher_is_better: bool | None = None,
    trivial: float | None = None,
    random: float | None = None,
    seed: int = 0,
    item: str = "concept",
    empty: str = "no concept was answered",
    method: IntervalMethod = "auto",
) -> MetricValue:
    """Return the mean of ``values`` with its interval, as every kind of evaluation reports a metric.

    Args:
        values: one an item; None (or NaN) where an item has none: it is left out, and the reason counts it.
        clusters: which values belong together (:func:`harness.scoring.clusters_of`); None: each stands alone.
        title, unit, bounds, higher_is_better, trivial, random: as in :class:`MetricValue`.
        seed: of the bootstrap.
        item: what ``values`` has one of, in words of the reason (``2 concepts: no interval``).
        empty: the reason where ``values`` holds nothing.
        method: of the interval, as :func:`harness.scoring.interval` takes it.

    Returns:
        The ends lie within ``bounds``. What :func:`harness.scoring.interval` warns of is the ``warning`` beside an interval, and the reason why
        there is none.

    Raises:
        ValueError: a mean outside of ``bounds``.
        ScoringError: clusters and values of different lengths.
    """
    from harness.scoring import interval

    scale = {"title": title, "unit": unit, "bounds": bounds, "higher_is_better": higher_is_better, "trivial": trivial, "random": random}
    if not len(values):
        return MetricValue.model_validate({"value": None, "reason": empty, **scale})
    numbers = [float("nan") if value is None else value for value in values]
    found = interval(numbers, clusters, method, seed=seed, bounds=bounds, item=item)
    mean = found.estimate
    if mean is not None and abs(clip(mean, bounds) - mean) <= _ROUNDING:  # a mean of ones may round to more than 1
        mean = clip(mean, bounds)
    return MetricValue.model_validate(
        {
            "value": mean,
            "low": found.low,
            "high": found.high,
            "interval_method": "" if found.low is None else f"{found.method}, {100 * found.level:g} %",
            "reason": "" if found.low is not None else found.warning or "",
            "warning": "" if found.low is None else found.warning or "",
            **scale,
        }
    )
