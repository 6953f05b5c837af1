"""What the differences of a run's methods and controls vary by: how many concepts and instructions a comparison like this needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.errors import OptionError
from harness.evaluations.entry import make_entry
from harness.evaluations.steering.concepts import Scored
from harness.evaluations.steering.score import scored_labelings, subject_of
from harness.leaderboard.comparing import LEVEL, control_pairs
from harness.leaderboard.controls import pairings_of
from harness.leaderboard.paired import Item
from harness.leaderboard.places import Group
from harness.leaderboard.ranking import compared_in, rank, scores_in
from harness.scoring import overall
from harness.scoring.checks import FloatArray
from harness.scoring.power import Spread, level_of_one, spread
from harness.scoring.simultaneous import Pair
from harness.store import JudgeRecord, RunStore
from harness.store.manifest import Manifest
from harness.types import EvaluationKind


@dataclass(frozen=True)
class PowerPair:
    """A method and a control of one run.

    Attributes:
        kind: of evaluation.
        method, control: the names of their rows.
        name: what the control is called beside the method, as on the leaderboard.
        metric: the primary metric.
        pair: their difference with its simultaneous interval, over all methods and controls of a ranking.
        spread: what the difference varies by.
    """

    kind: EvaluationKind
    method: str
    control: str
    name: str
    metric: str
    pair: Pair
    spread: Spread


def power_pairs(manifest: Manifest, store: RunStore, judge: JudgeRecord | None) -> list[PowerPair]:
    """Return the pairs of method and control that the leaderboard tests, dictionaries left out: there what varies is the training.

    A method is set against the controls that are its own or everybody's (:func:`harness.leaderboard.controls.pairings_of`), all of a ranking in
    one family, with the clusters of the leaderboard.

    Raises OptionError where the run has no method with a control, or too few concepts that both have.
    """
    found: list[PowerPair] = []
    for group in rank([make_entry(manifest, store, judge)]):
        if group.key.kind in ("steering", "detection") and group.higher_is_better is not None:
            noise = {} if group.key.kind == "detection" or judge is None else _instructions(manifest, store, judge)
            found += _pairs(group, noise)
    if not found:
        allowed, hint = "a run with a method and a control that share at least two concepts", "run `harness eval` with controls"
        raise OptionError("there is nothing to compare in this run", given=manifest.run_digest, allowed=allowed, hint=hint)
    return found


def _pairs(group: Group, noise: Mapping[str, Mapping[str, FloatArray]]) -> Iterator[PowerPair]:
    pairings = pairings_of(group.places)
    if not pairings:
        return
    order = compared_in(pairings)
    scores = scores_in(group, order)
    compared = control_pairs(scores, order, pairings)
    for pairing, pair in zip(pairings, compared.pairs, strict=True):
        differences = scores.values[pair.first] - scores.values[pair.second]
        if (~np.isnan(differences)).sum() < 2:
            continue
        first, second = group.places[pairing.method], group.places[pairing.control]
        within, counts = _within(noise.get(first.row.subject.id, {}), noise.get(second.row.subject.id, {}), scores.items)
        level = LEVEL if compared.critical is None or not pair.tested else level_of_one(compared.critical, pair.effective_clusters)
        about = spread(differences, within, counts, scores.clusters, level)
        yield PowerPair(group.key.kind, first.name, second.name, pairing.name, group.key.metric, pair, about)


def _instructions(manifest: Manifest, store: RunStore, judge: JudgeRecord) -> dict[str, dict[str, FloatArray]]:
    """Return the overall score of each instruction at the chosen strength, by subject and concept."""
    return {
        subject_of(method).id: {one.labeling.concept.id: _at_chosen(one) for one in scored_labelings(manifest, store, judge, method)}
        for method in manifest.methods_of("steering")
    }


def _at_chosen(scored: Scored) -> FloatArray:
    """``[instructions]``: the mean over draws; NaN where nothing is rated."""
    drawn = []
    for part in scored.parts:
        if part.ratings is not None and part.found is not None:
            drawn.append(np.asarray(overall(part.ratings, part.found.goal))[part.found.chosen or 0])
    return np.mean(drawn, axis=0) if drawn else np.array([])


def _within(first: Mapping[str, FloatArray], second: Mapping[str, FloatArray], items: Sequence[Item]) -> tuple[list[float], list[float]]:
    """Return the variance of the difference over instructions, and their number, for each concept; 0 and 0 where there are none."""
    variances, counts = [], []
    for concept, _ in items:
        a, b = first.get(concept, np.array([])), second.get(concept, np.array([]))
        if not len(a) and not len(b):
            variances.append(0.0)
            counts.append(0.0)
            continue
        difference = a - b if len(a) == len(b) else a if len(a) else b  # an abstention is 0 on every instruction
        known = difference[~np.isnan(difference)]
        variances.append(float(known.var(ddof=1)) if len(known) > 1 else float("nan"))
        counts.append(float(max(len(a), len(b))))
    return variances, counts
