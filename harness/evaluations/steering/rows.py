"""A method's row of an entry, from its labelings and their rated texts: plain values in, a row out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from harness.evaluations.steering.concepts import PRIMARY, TIED, Scored, within_scale
from harness.leaderboard.entry import (
    STEERING_METRICS,
    Bounds,
    ItemResult,
    MetricValue,
    Reading,
    Row,
    Sample,
    SteeringSubject,
    metric_value,
)
from harness.leaderboard.side_effects import SideEffects
from harness.scoring import clusters_of, counted, overall
from harness.store import Record
from harness.store.manifest import Protocol
from harness.types import ASPECTS, Abstention, ControlKind, Goal, Role, rng

SAMPLES = 3
POINTS = (0.0, 2.0)
"""The scale of AxBench's ratings and of all means of them."""
TITLES: Mapping[Goal, Mapping[str, str]] = {"express": {}, "suppress": {PRIMARY: "suppression score", "concept": "concept (lower is better)"}}
"""What numbers are called where their names do not say what they are."""


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


def steering_row(
    subject: SteeringSubject,
    role: Role,
    answered: Answered,
    protocol: Protocol,
    seed: int,
    samples: Sequence[Sample] = (),
    controls: Sequence[str] = (),
    control: ControlKind | None = None,
    readings: Sequence[Reading] = (),
    side_effects: SideEffects | None = None,
) -> Row:
    """Return the row of one method.

    Args:
        subject: the method.
        role: whether it is a control.
        answered: its labelings and abstentions.
        protocol: the share of unrated texts above which the row is not ranked.
        seed: of the bootstrap.
        samples: texts to look at.
        controls: of a control, the labelers that it stands for.
        control: as which control it may be run.
        readings: of a control, its texts at the strengths of methods.
        side_effects: what steering cost beside, where it was measured.
    """
    scored, fixed = answered.scored, answered.concepts is not None
    n_answered = len({s.labeling.concept.id for s in scored})
    n_items = len(answered.concepts) if answered.concepts is not None else n_answered
    n_texts = sum(s.result.n for s in scored)
    n_unrated, n_pending = sum(s.result.n_unrated for s in scored), sum(s.n_pending for s in scored)
    abstained = [_abstained(abstention) for abstention in answered.abstained] if fixed else []
    metrics = _metrics(scored, seed, protocol.goal)
    ranked = _ranked(scored, abstained, seed, protocol.goal) if fixed else None
    reasons = _ineligible(protocol, n_texts, n_unrated, n_pending, metrics[PRIMARY], ranked)
    return Row(
        kind="steering",
        role=role,
        subject=subject,
        primary=PRIMARY,
        metrics=metrics,
        ranked=ranked,
        bounds=_bounds(scored, len(abstained), (metrics[PRIMARY] if ranked is None else ranked).value),
        n_items=n_items,
        n_answered=n_answered,
        coverage=n_answered / n_items if n_items else None,
        n_texts=n_texts,
        n_unrated=n_unrated,
        n_pending=n_pending,
        eligible=not reasons,
        reasons=reasons,
        items=(*(s.result for s in scored), *abstained),
        warnings=strength_warnings(scored, subject.grid),
        samples=tuple(samples),
        controls=tuple(controls),
        control=control,
        readings=tuple(readings),
        side_effects=side_effects,
    )


def _abstained(answer: Abstention) -> ItemResult:
    return ItemResult(
        id=answer.concept.id, text=answer.concept.text, answered=False, values=dict.fromkeys(STEERING_METRICS), reason=answer.reason
    )


def _metrics(scored: Sequence[Scored], seed: int, goal: Goal) -> dict[str, MetricValue]:
    """Means over labelings; those that share a concept or a feature are resampled together. The concept's is as it was rated."""
    clusters = clusters_of((s.labeling.concept.id, s.labeling.features) for s in scored) if scored else None
    return {
        name: metric_value(
            [s.result.values[name] for s in scored],
            clusters,
            title=TITLES[goal].get(name, ""),
            bounds=POINTS,
            higher_is_better=(goal, name) != ("suppress", "concept"),
            trivial=0.0 if name == PRIMARY else None,
            seed=seed,
        )
        for name in STEERING_METRICS
    }


def _ranked(scored: Sequence[Scored], abstained: Sequence[ItemResult], seed: int, goal: Goal) -> MetricValue:
    """Return the score that ranks in fixed mode: an abstention counts 0. A concept that could not be scored leaves the ranking without a number."""
    values = [s.result.values[PRIMARY] for s in scored] + [0.0] * len(abstained)
    pairs = [(s.labeling.concept.id, s.labeling.features) for s in scored] + [(item.id, ()) for item in abstained]
    title = TITLES[goal].get(PRIMARY, "")
    if None in values:
        reason = "a concept has no score, since its texts could not be rated"
        return MetricValue(value=None, reason=reason, title=title, bounds=POINTS, higher_is_better=True, trivial=0.0)
    clusters = clusters_of(pairs) if pairs else None
    return metric_value(values, clusters, title=title, bounds=POINTS, higher_is_better=True, trivial=0.0, seed=seed)


def _bounds(scored: Sequence[Scored], n_abstained: int, value: float | None) -> Bounds:
    """Of the score that the row is judged by: in fixed mode an abstention counts 0, whatever the unrated texts are worth."""
    if not scored:
        return Bounds(low=None, high=None, reason="no concept was answered")
    low, high = (float(np.sum([s.bounds[end] for s in scored])) / (len(scored) + n_abstained) for end in (0, 1))
    low, high = within_scale(low, value, high)
    return Bounds(low=low, high=high)


def strength_warnings(scored: Sequence[Scored], grid: Sequence[float]) -> tuple[str, ...]:
    """Where the strengths that cross-validation chose say less than they seem to: all tie, or the choice lies at an end of the grid."""
    found = [part.found for one in scored for part in one.parts if part.found is not None and part.found.chosen is not None]
    places = [None if one.tied else one.chosen for one in found]
    return strength_lines(places, grid, any(one.draws for one in scored))


def strength_lines(places: Sequence[int | None], grid: Sequence[float], draws: bool = False) -> tuple[str, ...]:
    """Return the warnings of :func:`strength_warnings`.

    Args:
        places: of the strength that was chosen for each concept, or draw of one, in the grid; None where all strengths score alike.
        grid: the strengths.
        draws: they are of draws.
    """
    if len(grid) < 2 or not places:
        return ()
    what = "draws of concepts" if draws else "concepts"
    n_tied = sum(place is None for place in places)
    ties = f"{TIED} for {n_tied} of {len(places)} {what}: none is chosen there, and the ratings shown are those of the smallest"
    ends = [
        f"the {name} strength ({grid[end]:g}) for {n}"
        for name, end in (("smallest", 0), ("largest", len(grid) - 1))
        if (n := sum(place == end for place in places))
    ]
    edge = f"the strength chosen is at the end of the grid, {' and '.join(ends)} of {len(places)} {what}: a wider grid could change the score"
    return (*([ties] if n_tied else ()), *([edge] if ends else ()))


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
    scored: Sequence[Scored],
    records: Mapping[str, Sequence[Record]],
    instructions: Mapping[str, str],
    method_id: str,
    seed: int,
    goal: Goal = "express",
) -> tuple[Sample, ...]:
    """Return the best, the median and the worst text among those at their concepts' chosen strengths; three at random where none has a rating.

    Where all strengths score alike, the texts of all of them count.

    Args:
        scored: a method's labelings with the strengths that were chosen.
        records: the method's trials by the labeling's id.
        instructions: texts of the instructions by id.
        method_id: which method draws; among equal texts chance decides.
        seed: the run's.
        goal: what steering is for.
    """
    pool = [
        (row.labeling.concept.text, record, _ratings(record, goal))
        for row in (part for one in scored for part in one.parts)
        for record in records.get(row.labeling.id, ())
        if record.generation and (row.tied or record.trial.strength == row.result.strength)
    ]
    pool = [pool[int(place)] for place in rng(seed, "samples", method_id).permutation(len(pool))]
    rated = sorted((text for text in pool if text[2]), key=lambda text: _merit(text[2], goal), reverse=True)
    places: dict[int, Literal["best", "median", "worst"]] = {len(rated) // 2: "median", len(rated) - 1: "worst", 0: "best"}
    chosen = [(rated[place], name) for place, name in sorted(places.items())] if rated else [(text, None) for text in pool[:SAMPLES]]
    return tuple(_sample(concept, record, ratings, instructions, place) for (concept, record, ratings), place in chosen)


def _merit(ratings: Mapping[str, float], goal: Goal) -> tuple[float, float]:
    """By what texts are ordered: their scores, among equals what their ratings count."""
    return ratings["overall"], sum([ratings["overall"], *counted([ratings[part] for part in ASPECTS], goal).tolist()])


def _ratings(record: Record, goal: Goal) -> dict[str, float]:
    """Return a text's ratings by name, its score as ``overall``; empty where it is unrated."""
    if record.rating is None or record.rating.status != "rated":
        return {}
    parts: dict[str, float] = {part: float(getattr(record.rating, part)) for part in ASPECTS}
    return {"overall": float(overall([list(parts.values())], goal)[0]), **parts}


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
        ratings={part: ratings[part] for part in ASPECTS} if ratings else None,
    )
