"""Which strengths were chosen for each labeling of a method, from its stored ratings; texts are not read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from harness.evaluations.steering.concepts import Scored, score_labeling
from harness.scoring import NO_CHOICE, ProtocolScore, ScoringError
from harness.scoring import overall as overall_of
from harness.scoring.checks import FloatArray, IntArray
from harness.store import Record, RunStore
from harness.store.manifest import Manifest, MethodRecord
from harness.types import ASPECTS, Concept, Goal, Labeling, Rating


@dataclass(frozen=True)
class Choice:
    """The strengths chosen for one labeling.

    Attributes:
        on_all: by all instructions that choose; None where nothing is rated, or where all strengths score alike.
        without: by instruction, and by repeat of the cross-validation (of AxBench's protocol there is one): the strength that was chosen without
            this instruction, at which the instruction's text counts in the score; None where none could be chosen, or where the instruction
            does not report.
    """

    on_all: float | None = None
    without: Mapping[str, tuple[float | None, ...]] = field(default_factory=dict)


NONE = Choice()


def choices_of(method: MethodRecord, manifest: Manifest, store: RunStore, judge_key: str) -> dict[str, Choice]:
    """Return the choices of a method by labeling id; labelings without a rating are missing."""
    rated: dict[str, list[Record]] = {}
    for trial, ratings in store.rated(judge_key, method.id):
        rated.setdefault(trial.labeling_id, []).append(Record(trial, None, Rating(trial.id, "rated", *ratings)))
    return {labeling: _choice(records, method, manifest) for labeling, records in rated.items()}


def _choice(records: list[Record], method: MethodRecord, manifest: Manifest) -> Choice:
    """Return the choice by a labeling's rated trials; none where its instructions are too few to be cut into folds."""
    concept = records[0].trial.concept_id
    instructions = manifest.instructions_for(concept)
    known = [record for record in records if record.trial.strength in method.grid and record.trial.instruction_id in instructions]
    labeling = Labeling(Concept(concept, concept))
    try:
        scored = score_labeling(labeling, method.grid, instructions, known, manifest.protocol, manifest.seed)
    except ScoringError:
        return NONE
    assert scored.found is not None, "of one labeling, not of draws"
    strengths: dict[int, float | None] = {NO_CHOICE: None, **dict(enumerate(method.grid))}
    places = _choices(scored.found, len(method.grid))
    without = {name: tuple(strengths[int(place)] for place in row) for name, row in zip(instructions, places.T, strict=True)}
    return Choice(scored.result.strength, without)


def _choices(found: ProtocolScore, n_strengths: int) -> IntArray:
    """Return ``[repeats, instructions]``: the choice of that fold in which the instruction reports; ``NO_CHOICE`` where it does not.

    With a single strength nothing is chosen, and every text that reports counts.
    """
    folds = found.folds
    evaluation = folds.evaluation.reshape(*folds.shape, folds.n_instructions)
    chosen = found.chosen_per_fold if n_strengths > 1 else np.zeros_like(found.chosen_per_fold)
    choices: IntArray = np.where(evaluation.any(axis=1), np.take_along_axis(chosen, evaluation.argmax(axis=1), axis=1), NO_CHOICE)
    return choices


def instruction_scores(scored: Scored) -> FloatArray:
    """Return what each instruction adds to a concept's score, ``[instructions]``; NaN where it does not report, or is unrated.

    It is the score of its text, at the strength that was chosen without this instruction: the mean over the repeats of the
    cross-validation, and over draws.
    """
    drawn = []
    for part in scored.parts:
        assert part.ratings is not None, "of one labeling"
        assert part.found is not None, "of one labeling"
        values = overall_of(part.ratings, part.found.goal)
        chosen = _choices(part.found, len(values))
        drawn.append(np.where(chosen == NO_CHOICE, np.nan, np.take_along_axis(values, np.maximum(chosen, 0), axis=0)))
    known = np.concatenate(drawn)
    counts = (~np.isnan(known)).sum(axis=0)
    with np.errstate(invalid="ignore"):
        means: FloatArray = np.nansum(known, axis=0) / counts
    return means


def overall(rating: Rating | None, goal: Goal) -> float | None:
    """Return the score of a text, the harmonic mean of its three ratings as they count toward a goal; None where it is not rated."""
    return None if rating is None or rating.status != "rated" else _overall(goal, *(getattr(rating, aspect) for aspect in ASPECTS))


@lru_cache(maxsize=4096)
def _overall(goal: Goal, concept: float, instruction: float, fluency: float) -> float:
    """As :func:`harness.scoring.overall`; kept, since most judges give few different ratings."""
    return float(overall_of([concept, instruction, fluency], goal))
