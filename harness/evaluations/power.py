"""What the differences of a run's methods and controls vary by: how many concepts and instructions a comparison like this needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from harness.errors import OptionError
from harness.evaluations.entry import make_entry
from harness.evaluations.steering.concepts import Scored
from harness.evaluations.steering.score import scored_labelings
from harness.leaderboard.entry import Row, full_name
from harness.scoring import clusters_of, harmonic_mean
from harness.scoring.checks import FloatArray
from harness.scoring.power import Spread, level_of_one, spread
from harness.scoring.simultaneous import Pair, compare_pairs
from harness.store import JudgeRecord, RunStore
from harness.store.manifest import Manifest
from harness.types import EvaluationKind

Item = tuple[str, str]


@dataclass(frozen=True)
class PowerPair:
    """A method and a control of one run.

    Attributes:
        kind: of evaluation.
        method, control: the names of their rows.
        metric: the primary metric.
        pair: their difference with its simultaneous interval, over all methods and controls of the run's kind.
        spread: what the difference varies by.
    """

    kind: EvaluationKind
    method: str
    control: str
    metric: str
    pair: Pair
    spread: Spread


def power_pairs(manifest: Manifest, store: RunStore, judge: JudgeRecord | None) -> list[PowerPair]:
    """Return every method beside every control of its kind, dictionaries left out: there what varies is the training.

    Raises OptionError where the run has no method with a control, or too few concepts that both have.
    """
    entry = make_entry(manifest, store, judge)
    found: list[PowerPair] = []
    for kind in ("steering", "detection"):
        rows = [row for row in entry.rows if row.kind == kind and row.score.value is not None]
        methods, controls = ([row for row in rows if row.role == role] for role in ("method", "control"))
        if methods and controls:
            noise = {} if kind == "detection" or judge is None else _instructions(manifest, store, judge)
            found += _pairs(kind, methods, controls, manifest.task.mode == "fixed", noise)
    if not found:
        allowed, hint = "a run with a method and a control that share at least two concepts", "run `harness eval` with controls"
        raise OptionError("there is nothing to compare in this run", given=manifest.run_digest, allowed=allowed, hint=hint)
    return found


def _pairs(
    kind: EvaluationKind, methods: list[Row], controls: list[Row], trivial: bool, noise: Mapping[str, Mapping[str, FloatArray]]
) -> list[PowerPair]:
    rows = [*methods, *controls]
    values = [row.values(trivial) for row in rows]
    items = sorted({item for own in values for item in own})
    better = methods[0].metrics[methods[0].primary].higher_is_better is not False
    table = np.array([[own.get(item, np.nan) for item in items] for own in values]) * (1 if better else -1)
    clusters = clusters_of((item, _features(item, rows)) for item in items)
    places = [(i, len(methods) + j) for i in range(len(methods)) for j in range(len(controls))]
    bounds = methods[0].metrics[methods[0].primary].bounds
    compared = compare_pairs(table, places, clusters, bounds=bounds if better else (None, None))
    found = []
    for pair in compared.pairs:
        differences = table[pair.first] - table[pair.second]
        if (~np.isnan(differences)).sum() < 2:
            continue
        first, second = rows[pair.first], rows[pair.second]
        within, counts = _within(noise.get(first.subject.id, {}), noise.get(second.subject.id, {}), items)
        level = 0.95 if compared.critical is None or not pair.tested else level_of_one(compared.critical, pair.effective_clusters)
        about = spread(differences, within, counts, clusters, level)
        found.append(PowerPair(kind, full_name(first, rows), full_name(second, rows), first.primary, pair, about))
    return found


def _features(item: Item, rows: Iterable[Row]) -> list[str]:
    return sorted({feature for row in rows for one in row.items if (one.id, one.text) == item for feature in one.features})


def _instructions(manifest: Manifest, store: RunStore, judge: JudgeRecord) -> dict[str, dict[str, FloatArray]]:
    """Return the overall score of each instruction at the chosen strength, by subject and concept."""
    from harness.evaluations.steering.score import subject_of

    return {
        subject_of(method).id: {one.labeling.concept.id: _at_chosen(one) for one in scored_labelings(manifest, store, judge, method)}
        for method in manifest.methods_of("steering")
    }


def _at_chosen(scored: Scored) -> FloatArray:
    """``[instructions]``: the mean over draws; NaN where nothing is rated."""
    drawn = []
    for part in scored.parts:
        if part.ratings is not None and part.found is not None:
            drawn.append(np.asarray(harmonic_mean(part.ratings))[part.found.chosen or 0])
    return np.mean(drawn, axis=0) if drawn else np.array([])


def _within(first: Mapping[str, FloatArray], second: Mapping[str, FloatArray], items: list[Item]) -> tuple[list[float], list[float]]:
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
