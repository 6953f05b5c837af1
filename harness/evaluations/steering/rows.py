"""A method's row of an entry, from its labelings and their rated texts: plain values in, a row out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from harness.leaderboard.entry import (
    STEERING_METRICS,
    Bounds,
    ItemResult,
    MetricValue,
    Row,
    Sample,
    SteeringSubject,
    metric_value,
)
from harness.scoring import clusters_of, cross_validate, harmonic_mean, rating_bounds
from harness.store import Record
from harness.store.manifest import Protocol
from harness.types import Abstention, Labeling, Role, rng

SAMPLES = 3
POINTS = (0.0, 2.0)
"""The scale of AxBench's ratings and of all means of them."""
PRIMARY, *PARTS = STEERING_METRICS


@dataclass(frozen=True)
class Scored:
    """A labeling's scores, and its bounds with unrated texts at 0 and at 2."""

    labeling: Labeling
    result: ItemResult
    bounds: tuple[float, float]
    n_pending: int


@dataclass(frozen=True)
class Answered:
    """What a method's row is made of.

    Attributes:
        scored: the labelings with their scores.
        abstained: concepts without an answer.
        concepts: ids of the task's concepts in fixed mode; None in chosen mode.
    """

    scored: Sequence[Scored]
    abstained: Sequence[Abstention]
    concepts: Sequence[str] | None


def score_labeling(
    labeling: Labeling, strengths: Sequence[float], instructions: Sequence[str], records: Iterable[Record], protocol: Protocol, seed: int
) -> Scored:
    """Return cross-validation over strengths for one labeling; a text without a rating is NaN there, never a number.

    Args:
        labeling: what was steered to.
        strengths: the method's grid, ascending.
        instructions: ids of the concept's instructions, in the order in which they were drawn.
        records: the labeling's trials with one judge's ratings.
        protocol: repeats and folds.
        seed: of the folds.
    """
    records = list(records)
    ratings = np.full((len(strengths), len(instructions), len(PARTS)), np.nan)
    n_pending = n_unrated = 0
    for record in records:
        place = strengths.index(record.trial.strength), instructions.index(record.trial.instruction_id)
        if record.rating is not None and record.rating.status == "rated":
            ratings[place] = [getattr(record.rating, part) for part in PARTS]
        elif record.rating is not None and record.rating.status == "pending":
            n_pending += 1
        else:
            n_unrated += 1
    overall = harmonic_mean(ratings)
    found = cross_validate(overall, protocol.repeats, protocol.splits, seed)
    bounds = rating_bounds(overall, protocol.repeats, protocol.splits, seed)
    values = [found.score, *(found.held_out(ratings[..., part]) for part in range(len(PARTS)))]
    points = [None if np.isnan(value) else min(2.0, max(0.0, float(value))) for value in values]
    chosen = None if found.chosen is None else strengths[found.chosen]
    missing = f"{n_unrated} unrated and {n_pending} pending of {len(records)} texts leave no score" if None in (*points, chosen) else ""
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
    return Scored(labeling, result, (bounds.low, bounds.high), n_pending)


def steering_row(
    subject: SteeringSubject, role: Role, answered: Answered, protocol: Protocol, seed: int, samples: Sequence[Sample] = ()
) -> Row:
    """Return the row of one method.

    Args:
        subject: the method.
        role: whether it is a control.
        answered: its labelings and abstentions.
        protocol: the share of unrated texts above which the row is not ranked.
        seed: of the bootstrap.
        samples: texts to look at.
    """
    scored, fixed = answered.scored, answered.concepts is not None
    n_answered = len({s.labeling.concept.id for s in scored})
    n_items = len(answered.concepts) if answered.concepts is not None else n_answered
    n_texts = sum(s.result.n for s in scored)
    n_unrated, n_pending = sum(s.result.n_unrated for s in scored), sum(s.n_pending for s in scored)
    abstained = [_abstained(abstention) for abstention in answered.abstained] if fixed else []
    metrics = _metrics(scored, seed)
    ranked = _ranked(scored, abstained, seed) if fixed else None
    reasons = _ineligible(protocol, n_texts, n_unrated, n_pending, metrics[PRIMARY], ranked)
    return Row(
        kind="steering",
        role=role,
        subject=subject,
        primary=PRIMARY,
        metrics=metrics,
        ranked=ranked,
        bounds=_bounds(scored),
        n_items=n_items,
        n_answered=n_answered,
        coverage=n_answered / n_items if n_items else None,
        n_texts=n_texts,
        n_unrated=n_unrated,
        n_pending=n_pending,
        eligible=not reasons,
        reasons=reasons,
        items=(*(s.result for s in scored), *abstained),
        samples=tuple(samples),
    )


def _abstained(answer: Abstention) -> ItemResult:
    return ItemResult(
        id=answer.concept.id, text=answer.concept.text, answered=False, values=dict.fromkeys(STEERING_METRICS), reason=answer.reason
    )


def _metrics(scored: Sequence[Scored], seed: int) -> dict[str, MetricValue]:
    """Means over labelings; those that share a concept or a feature are resampled together."""
    clusters = clusters_of((s.labeling.concept.id, s.labeling.features) for s in scored) if scored else None
    return {
        name: metric_value(
            [s.result.values[name] for s in scored],
            clusters,
            bounds=POINTS,
            higher_is_better=True,
            trivial=0.0 if name == PRIMARY else None,
            seed=seed,
        )
        for name in STEERING_METRICS
    }


def _ranked(scored: Sequence[Scored], abstained: Sequence[ItemResult], seed: int) -> MetricValue:
    """Return the score that ranks in fixed mode: an abstention counts 0. A concept that could not be scored leaves the ranking without a number."""
    values = [s.result.values[PRIMARY] for s in scored] + [0.0] * len(abstained)
    pairs = [(s.labeling.concept.id, s.labeling.features) for s in scored] + [(item.id, ()) for item in abstained]
    if None in values:
        reason = "a concept has no score, since its texts could not be rated"
        return MetricValue(value=None, reason=reason, bounds=POINTS, higher_is_better=True, trivial=0.0)
    return metric_value(values, clusters_of(pairs) if pairs else None, bounds=POINTS, higher_is_better=True, trivial=0.0, seed=seed)


def _bounds(scored: Sequence[Scored]) -> Bounds:
    if not scored:
        return Bounds(low=None, high=None, reason="no concept was answered")
    low, high = (float(np.mean([s.bounds[end] for s in scored])) for end in (0, 1))
    return Bounds(low=min(2.0, max(0.0, low)), high=min(2.0, max(0.0, high)))


def _ineligible(
    protocol: Protocol, n_texts: int, n_unrated: int, n_pending: int, overall: MetricValue, ranked: MetricValue | None
) -> tuple[str, ...]:
    reasons = []
    if n_pending:
        reasons.append(f"{n_pending} ratings are pending; run the same command again to collect them")
    if n_texts and n_unrated / n_texts > protocol.max_unrated:
        reasons.append(f"{n_unrated} of {n_texts} texts are unrated, more than the task's share of {protocol.max_unrated:g}")
    if overall.value is None:
        reasons.append(f"no overall score: {overall.reason}")
    elif ranked is not None and ranked.value is None:
        reasons.append(f"no ranked score: {ranked.reason}")
    return tuple(reasons)


def samples_of(
    scored: Sequence[Scored], records: Mapping[str, Sequence[Record]], instructions: Mapping[str, str], method_id: str, seed: int
) -> tuple[Sample, ...]:
    """Return the best, the median and the worst text among those at their concepts' chosen strengths; three at random where none has a rating.

    Args:
        scored: a method's labelings with the strengths that were chosen.
        records: the method's trials by the labeling's id.
        instructions: texts of the instructions by id.
        method_id: which method draws; among equal texts chance decides.
        seed: the run's.
    """
    pool = [
        (row.labeling.concept.text, record, _ratings(record))
        for row in scored
        for record in records.get(row.labeling.id, ())
        if record.generation and record.trial.strength == row.result.strength
    ]
    pool = [pool[int(place)] for place in rng(seed, "samples", method_id).permutation(len(pool))]
    rated = sorted((text for text in pool if text[2]), key=lambda text: (text[2]["overall"], sum(text[2].values())), reverse=True)
    places: dict[int, Literal["best", "median", "worst"]] = {len(rated) // 2: "median", len(rated) - 1: "worst", 0: "best"}
    chosen = [(rated[place], name) for place, name in sorted(places.items())] if rated else [(text, None) for text in pool[:SAMPLES]]
    return tuple(_sample(concept, record, ratings, instructions, place) for (concept, record, ratings), place in chosen)


def _ratings(record: Record) -> dict[str, float]:
    """Return a text's ratings by name, their harmonic mean as ``overall``; empty where it is unrated."""
    if record.rating is None or record.rating.status != "rated":
        return {}
    parts = {part: float(getattr(record.rating, part)) for part in PARTS}
    return {"overall": float(harmonic_mean([list(parts.values())])[0]), **parts}


def _sample(
    concept: str, record: Record, ratings: dict[str, float], instructions: Mapping[str, str], place: Literal["best", "median", "worst"] | None
) -> Sample:
    assert record.generation is not None
    return Sample(
        concept_text=concept,
        instruction=instructions[record.trial.instruction_id],
        strength=record.trial.strength,
        text=record.generation.text,
        overall=ratings.get("overall"),
        place=place,
        ratings={part: ratings[part] for part in PARTS} if ratings else None,
    )
