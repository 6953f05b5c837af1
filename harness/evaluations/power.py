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
from harness.scoring import counted, harmonic_mean
from harness.scoring.checks import FloatArray
from harness.scoring.power import Spread, level_of_one, spread
from harness.scoring.simultaneous import Pair
from harness.store import JudgeRecord, RunStore
from harness.store.manifest import Manifest, Protocol
from harness.types import Aggregation, EvaluationKind


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
        protocol: how scores are made of ratings, in words; empty where nothing is rated.
    """

    kind: EvaluationKind
    method: str
    control: str
    name: str
    metric: str
    pair: Pair
    spread: Spread
    protocol: str = ""


def power_pairs(manifest: Manifest, store: RunStore, judge: JudgeRecord | None, protocol: Protocol | None = None) -> list[PowerPair]:
    """Return the pairs of method and control that the leaderboard tests, dictionaries left out: there what varies is the training.

    A method is set against the controls that are its own or everybody's (:func:`harness.leaderboard.controls.pairings_of`), all of a ranking in
    one family, with the clusters of the leaderboard.

    Args:
        manifest: what the run is.
        store: the run, open; reading is enough.
        judge: whose ratings are read; None for a run without texts.
        protocol: how scores are made of them; None takes the manifest's.

    Raises OptionError where the run has no method with a control, or too few concepts that both have.
    """
    if protocol is not None:
        manifest = manifest.model_copy(update={"protocol": protocol})
    found: list[PowerPair] = []
    for group in rank([make_entry(manifest, store, judge)]):
        if group.key.kind in ("steering", "detection") and group.higher_is_better is not None:
            noise = {} if group.key.kind == "detection" or judge is None else _instructions(manifest, store, judge)
            found += _pairs(group, noise)
    if not found:
        allowed, hint = "a run with a method and a control that share at least two concepts", "run `harness eval` with controls"
        raise OptionError("there is nothing to compare in this run", given=manifest.run_digest, allowed=allowed, hint=hint)
    return found


def _pairs(group: Group, noise: Mapping[str, Mapping[str, _Noise]]) -> Iterator[PowerPair]:
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
        yield PowerPair(group.key.kind, first.name, second.name, pairing.name, group.key.metric, pair, about, group.key.protocol)


@dataclass(frozen=True)
class _Noise:
    """What one concept's score varies by over its instructions.

    Attributes:
        values: ``[reporting instructions]``, whose mean is the score, or nearly so; NaN where nothing is rated.
        n_instructions: that the concept has, those that only choose included.
    """

    values: FloatArray
    n_instructions: int


_NONE = _Noise(np.array([]), 0)


def _instructions(manifest: Manifest, store: RunStore, judge: JudgeRecord) -> dict[str, dict[str, _Noise]]:
    """Return what each concept's score varies by, at the chosen strength, by subject and concept."""
    aggregation = manifest.protocol.aggregation
    return {
        subject_of(method).id: {one.labeling.concept.id: _at_chosen(one, aggregation) for one in scored_labelings(manifest, store, judge, method)}
        for method in manifest.methods_of("steering")
    }


def _at_chosen(scored: Scored, aggregation: Aggregation) -> _Noise:
    """The mean over draws."""
    parts = [
        (counted(part.ratings[part.found.chosen or 0], part.found.goal), part.found.folds)
        for part in scored.parts
        if part.ratings is not None and part.found is not None
    ]
    if not parts:
        return _NONE
    return _Noise(np.mean([_shares(ratings[folds.reporting], aggregation) for ratings, folds in parts], axis=0), parts[0][1].n_instructions)


def _shares(ratings: FloatArray, aggregation: Aggregation) -> FloatArray:
    """Return what each instruction gives to a concept's score, from its ratings as they count, ``[instructions, 3]``: values whose mean that is.

    The harmonic mean of means is no mean over instructions: there it is the jackknife's pseudo-values, n · score − (n − 1) · score without the
    instruction (Tukey 1958), whose variance over n is that of the score.
    """
    if aggregation == "mean-of-harmonic-means":
        return np.asarray(harmonic_mean(ratings))
    known = ~np.isnan(ratings).any(axis=1)
    found, own, n = np.full(len(ratings), np.nan), ratings[known], int(known.sum())
    if n > 1:
        without = np.asarray(harmonic_mean((own.sum(axis=0) - own) / (n - 1)))
        found[known] = n * harmonic_mean(own.mean(axis=0)) - (n - 1) * without
    return found


def _within(first: Mapping[str, _Noise], second: Mapping[str, _Noise], items: Sequence[Item]) -> tuple[list[float], list[float]]:
    """Return the variance of the difference over instructions, and their number, for each concept; 0 and 0 where there are none.

    Where only some of a concept's instructions report (``axbench``: half), the score varies as a mean over those: the variance is raised so that
    over the number of all it gives that.
    """
    variances, counts = [], []
    for concept, _ in items:
        a, b = first.get(concept, _NONE), second.get(concept, _NONE)
        n_reporting = max(len(a.values), len(b.values))
        if not n_reporting:
            variances.append(0.0)
            counts.append(0.0)
            continue
        alike = len(a.values) == len(b.values)
        difference = a.values - b.values if alike else a.values if len(a.values) else b.values  # an abstention is 0 on every instruction
        known = difference[~np.isnan(difference)]
        count = max(a.n_instructions, b.n_instructions)
        variances.append(float(known.var(ddof=1)) * count / n_reporting if len(known) > 1 else float("nan"))
        counts.append(float(count))
    return variances, counts
