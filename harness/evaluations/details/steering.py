"""Strength curves, counts of ratings and texts side by side, of a run that steers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np

from harness.leaderboard.site.details import BINS, ConceptTexts, Curve, Ratings, Text
from harness.leaderboard.site.selection import spread_out
from harness.scoring import overall as overall_of
from harness.store import Record, RunStore
from harness.store.manifest import Manifest, MethodRecord
from harness.types import ASPECTS, Goal, Rating

NAMES = ("overall", *ASPECTS)


def curves(manifest: Manifest, store: RunStore, judge_key: str | None) -> tuple[Curve, ...]:
    """Return a curve for each steering method, by one judge's ratings."""
    return tuple(_curve(method, store.records(judge_key, method.id), manifest.protocol.goal) for method in manifest.methods_of("steering"))


def _curve(method: MethodRecord, records: Iterable[Record], goal: Goal) -> Curve:
    found: dict[str, dict[float, list[tuple[float, ...]]]] = {}
    counts = {name: np.zeros(len(BINS), dtype=int) for name in NAMES}
    n_unrated = n_pending = 0
    for record in records:
        by_strength = found.setdefault(record.trial.concept_id, {})
        rating = record.rating
        if rating is None or rating.status != "rated":
            n_pending += rating is not None and rating.status == "pending"
            n_unrated += rating is not None and rating.status == "unrated"
            continue
        values = rated(rating, goal)
        by_strength.setdefault(record.trial.strength, []).append(values)
        for name, value in zip(NAMES, values, strict=True):
            counts[name][_bin(value)] += 1
    concepts = {concept: tuple(_mean(own.get(strength, ())) for strength in method.grid) for concept, own in found.items()}
    over_all = tuple(_mean([rows[place] for rows in concepts.values()]) for place in range(len(method.grid)))
    shown = {name: tuple(int(count) for count in column) for name, column in counts.items()}
    return Curve(method.id, method.grid, method.strength_unit, over_all, concepts, shown, n_unrated, n_pending)


def rated(rating: Rating, goal: Goal) -> tuple[float, float, float, float]:
    """Return the overall score of a rated text, and its three ratings as they were given."""
    parts = [float(getattr(rating, part)) for part in ASPECTS]
    return (float(overall_of(parts, goal)), parts[0], parts[1], parts[2])


def _bin(value: float) -> int:
    return min(len(BINS) - 1, max(0, round(value / (BINS[1] - BINS[0]))))


def _mean(rows: Sequence[Sequence[float | None]]) -> Ratings:
    """Return the mean of each column over the rows that have it."""
    columns = [[value for row in rows if (value := row[place]) is not None] for place in range(len(NAMES))]
    overall, concept, instruction, fluency = (fmean(column) if column else None for column in columns)
    return overall, concept, instruction, fluency


# -------------------------------------------------------------------------------------------------------------------------- texts


def texts(manifest: Manifest, store: RunStore, judge_key: str | None, most: int) -> tuple[tuple[ConceptTexts, ...], int]:
    """Return the texts of each concept on its first instruction, and of how many concepts there are texts.

    Of more than ``most`` concepts, those are taken that lie evenly among all in their order.
    """
    methods = manifest.methods_of("steering")
    if not methods:
        return (), 0
    first: dict[str, str] = {}
    words: dict[str, str] = {concept.id: concept.text for concept in store.concepts()}
    labelings: dict[tuple[str, str], str] = {}
    for trial in store.trials():
        if trial.concept_id not in first:
            first[trial.concept_id] = next(iter(manifest.instructions_for(trial.concept_id)), trial.instruction_id)
        labelings.setdefault((trial.method_id, trial.concept_id), trial.labeling_id)
    for labeler in manifest.labelers:
        words |= {answer.concept.id: answer.concept.text for answer in store.labelings(labeler.key) or ()}
    chosen = spread_out(list(first), most)
    found: dict[str, dict[str, list[Text]]] = {concept: {} for concept in chosen}
    for record in store.records(judge_key):
        trial = record.trial
        wanted = trial.concept_id in found and trial.instruction_id == first[trial.concept_id] and trial.draw == 0
        if wanted and record.generation is not None and labelings[trial.method_id, trial.concept_id] == trial.labeling_id:
            found[trial.concept_id].setdefault(trial.method_id, []).append(_text(record, manifest.protocol.goal))
    instructions = {instruction.id: instruction.text for instruction in store.instructions()}
    plain = [method.id for method in methods if method.labeler is None and method.grid == (0.0,)]
    neutral = manifest.protocol.goal == "express"  # else strength 0 may remove what stands for the concept
    sign = 1 if neutral else -1  # in the order of the grid
    return tuple(
        ConceptTexts(
            concept,
            words.get(concept, concept),
            instructions.get(first[concept], first[concept]),
            _unsteered(own, plain, neutral),
            {name: tuple(sorted(rows, key=lambda row: sign * row.strength)) for name, rows in own.items() if name not in plain},
        )
        for concept, own in found.items()
    ), len(first)


def _unsteered(own: Mapping[str, Sequence[Text]], plain: Sequence[str], neutral: bool) -> Text | None:
    """Return the text of a method that steers nothing; else, where that is ``neutral``, one at strength 0."""
    rows = [row for name in plain for row in own.get(name, ())]
    rows += [row for other in own.values() for row in other if neutral and row.strength == 0]
    return rows[0] if rows else None


def _text(record: Record, goal: Goal) -> Text:
    assert record.generation is not None
    rating = record.rating
    if rating is None:
        return Text(record.trial.strength, record.generation.text)
    said = "; ".join(part for part in (rating.reason, *_said(rating.details)) if part)
    if rating.status != "rated":
        return Text(record.trial.strength, record.generation.text, said=f"{rating.status}: {said}")
    overall, concept, instruction, fluency = rated(rating, goal)
    return Text(record.trial.strength, record.generation.text, overall, (concept, instruction, fluency), said)


def _said(details: Mapping[str, Any]) -> list[str]:
    """What a judge said beside its ratings: its words, or the figures that it rates by."""
    return [f"{name}: {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}" for name, value in details.items()]
