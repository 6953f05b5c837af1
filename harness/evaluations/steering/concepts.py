"""A concept's scores, from its rated texts: cross-validation over strengths, and the mean over draws."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from harness.leaderboard.entry import STEERING_METRICS, ItemResult
from harness.scoring import Folds, ProtocolScore, cross_validation_folds, halves, no_choice, score_ratings
from harness.scoring.checks import FloatArray
from harness.store import Record
from harness.store.manifest import Protocol
from harness.types import ASPECTS, Labeling

PRIMARY = STEERING_METRICS[0]
TIED = "all strengths score alike"


@dataclass(frozen=True, eq=False)
class Scored:
    """A labeling's scores, or the mean over the draws of a concept.

    Attributes:
        labeling: what was steered to; of draws all their features.
        result: the scores.
        bounds: the least and the greatest overall score that ratings of the unrated texts could give.
        n_pending: ratings that are still to come.
        ratings: ``[strengths, instructions, 3]``, NaN = unrated; None for the mean of draws.
        found: the score with its choices; None for the mean of draws.
        draws: what a mean of draws is made of.
    """

    labeling: Labeling
    result: ItemResult
    bounds: tuple[float, float]
    n_pending: int
    ratings: FloatArray | None = None
    found: ProtocolScore | None = None
    draws: tuple[Scored, ...] = ()

    @property
    def tied(self) -> bool:
        """Whether all strengths score alike, so that none is chosen."""
        return self.found is not None and self.found.tied

    @property
    def parts(self) -> tuple[Scored, ...]:
        """The draws, or this one alone."""
        return self.draws or (self,)


def score_labeling(
    labeling: Labeling, strengths: Sequence[float], instructions: Sequence[str], records: Iterable[Record], protocol: Protocol, seed: int
) -> Scored:
    """Return the scores of one labeling by a protocol; a text without a rating is NaN there, never a number.

    Args:
        labeling: what was steered to.
        strengths: the method's grid, the weakest first.
        instructions: ids of the concept's instructions, in the order in which they were drawn.
        records: the labeling's trials with one judge's ratings.
        protocol: which of the instructions choose the strength and which report on it, and how three ratings become one score.
        seed: of the folds of a cross-validation.
    """
    records = list(records)
    ratings = np.full((len(strengths), len(instructions), len(ASPECTS)), np.nan)
    n_pending = n_unrated = 0
    for record in records:
        place = strengths.index(record.trial.strength), instructions.index(record.trial.instruction_id)
        if record.rating is not None and record.rating.status == "rated":
            ratings[place] = [getattr(record.rating, part) for part in ASPECTS]
        elif record.rating is not None and record.rating.status == "pending":
            n_pending += 1
        else:
            n_unrated += 1
    found = score_ratings(ratings, folds_of(protocol, len(strengths), len(instructions), seed), protocol.aggregation, protocol.goal)
    values = [found.overall, *found.aspects]
    points = [None if np.isnan(value) else min(2.0, max(0.0, float(value))) for value in values]
    chosen = None if found.chosen is None or found.tied else strengths[found.chosen]
    missing = f"{n_unrated} unrated and {n_pending} pending of {len(records)} texts leave no score" if None in points or found.chosen is None else ""
    if found.tied and not missing:
        missing = f"{TIED} ({found.overall:.3g}): none is chosen, and the ratings are those of the smallest"
    result = ItemResult(
        id=labeling.concept.id,
        text=labeling.concept.text,
        features=tuple(str(feature) for feature in labeling.features),
        values=dict(zip(STEERING_METRICS, points, strict=True)),
        strength=chosen,
        n=len(records),
        n_unrated=n_unrated,
        reason=missing,
    )
    return Scored(labeling, result, within_scale(found.low, points[0], found.high), n_pending, ratings, found)


def folds_of(protocol: Protocol, n_strengths: int, n_instructions: int, seed: int) -> Folds:
    """Return which of a concept's instructions choose the strength and which report on it.

    Raises ScoringError where there are too few of them.
    """
    if protocol.name == "axbench":
        return halves(n_instructions)
    if n_strengths == 1:
        return no_choice(n_instructions)
    return cross_validation_folds(n_instructions, protocol.repeats, protocol.splits, seed)


def within_scale(low: float, value: float | None, high: float) -> tuple[float, float]:
    """Bounds on the scale, which hold the value even where it was summed in another order."""
    low, high = (min(2.0, max(0.0, end)) for end in (low, high))
    return (low, high) if value is None else (min(low, value), max(high, value))


def mean_of_draws(draws: Sequence[Scored]) -> Scored:
    """The draws of one concept as one: every number is the mean over them, and each stays to be seen."""
    first = draws[0].labeling
    features = tuple(dict.fromkeys(feature for draw in draws for feature in draw.labeling.features))
    values: dict[str, float | None] = {}
    for name in STEERING_METRICS:
        known = [value for draw in draws if (value := draw.result.values[name]) is not None]
        values[name] = float(np.mean(known)) if known else None
    strengths = {draw.result.strength for draw in draws}
    agreed = strengths.pop() if len(strengths) == 1 else None
    shown = ", ".join("a tie" if draw.result.strength is None else f"{draw.result.strength:g}" for draw in draws)
    missing = [draw.result.reason for draw in draws if None in draw.result.values.values()]
    reasons = [*missing[:1], *([f"strengths by draw: {shown}"] if agreed is None else [])]
    result = ItemResult(
        id=first.concept.id,
        text=first.concept.text,
        features=tuple(map(str, features)),
        values=values,
        strength=agreed,
        n=sum(draw.result.n for draw in draws),
        n_unrated=sum(draw.result.n_unrated for draw in draws),
        details={
            "draws": [
                {"features": list(draw.result.features), "values": dict(draw.result.values), "strength": draw.result.strength} for draw in draws
            ]
        },
        reason="; ".join(reasons),
    )
    low, high = (float(np.mean([draw.bounds[end] for draw in draws])) for end in (0, 1))
    bounds = within_scale(low, values[PRIMARY], high)
    return Scored(Labeling(first.concept, features), result, bounds, sum(draw.n_pending for draw in draws), draws=tuple(draws))
