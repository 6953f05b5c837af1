"""A control's texts at the strengths that a method chose: what instruction and fluency such strengths cost any features."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from harness.evaluations.steering.concepts import Scored
from harness.evaluations.steering.rows import POINTS
from harness.leaderboard.entry import Reading, SteeringSubject, metric_value
from harness.scoring import NO_CHOICE, clusters_of, score_at
from harness.scoring.checks import IntArray
from harness.types import ASPECTS


def reading(control: Sequence[Scored], grid: Sequence[float], method: Sequence[Scored], subject: SteeringSubject, seed: int) -> Reading:
    """The control's ratings, in each fold of each concept at the strength that the method chose there.

    Args:
        control: the control's concepts.
        grid: the control's strengths.
        method: the method's concepts, scored on the same folds.
        subject: the method.
        seed: of the bootstrap.
    """
    theirs = _numbered(method)
    shared = [(ours, theirs[key]) for key, ours in _numbered(control).items() if key in theirs]
    found = [(ours, values) for ours, other in shared if (values := _values(ours, grid, other, subject.grid)) is not None]
    clusters = clusters_of((ours.labeling.concept.id, ours.labeling.features) for ours, _ in found) if found else None
    empty = "no concept has its strengths in the control's grid" if shared else "no concept was answered by both"
    metrics = {
        part: metric_value([values[part] for _, values in found], clusters, bounds=POINTS, higher_is_better=True, seed=seed, empty=empty)
        for part in ASPECTS
    }
    return Reading(at_strengths_of=subject.name, method=subject.id, metrics=metrics, n_items=len(shared), n_read=len(found))


def _numbered(scored: Sequence[Scored]) -> dict[tuple[str, int], Scored]:
    """By concept and, in chosen mode, where it may come several times, its how manieth time it is."""
    seen: Counter[str] = Counter()
    found = {}
    for one in scored:
        concept = one.labeling.concept.id
        found[concept, seen[concept]] = one
        seen[concept] += 1
    return found


def _values(ours: Scored, grid: Sequence[float], other: Scored, other_grid: Sequence[float]) -> Mapping[str, float | None] | None:
    """The mean over the control's draws; None where a strength that was chosen is not in its grid."""
    if other.found is None:
        return None
    chosen = _in_grid(other.found.chosen_per_fold, other_grid, grid)
    if chosen is None:
        return None
    values: dict[str, float | None] = {}
    for place, part in enumerate(ASPECTS):
        scores = np.array([score_at(draw.ratings[..., place], chosen, other.found.folds) for draw in ours.parts if draw.ratings is not None])
        known = scores[~np.isnan(scores)]
        values[part] = min(2.0, max(0.0, float(known.mean()))) if known.size else None
    return values


def _in_grid(chosen: IntArray, of: Sequence[float], grid: Sequence[float]) -> IntArray | None:
    """Places in one grid as places of the same strengths in another; None where one is missing there."""
    if any(of[place] not in grid for place in np.unique(chosen[chosen != NO_CHOICE])):
        return None
    places = [grid.index(strength) if strength in grid else NO_CHOICE for strength in of]
    return np.where(chosen == NO_CHOICE, NO_CHOICE, np.array(places, dtype=np.int64)[np.maximum(chosen, 0)])
