"""ROC curves and histograms of scores, of a run that detects."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from harness.evaluations.detection.records import REPORT, Truth, unpack
from harness.evaluations.detection.rows import DETECT, item_id
from harness.leaderboard.site.details import ConceptScores, Detected, Point
from harness.leaderboard.site.selection import spread_out
from harness.run.label import labelings_of
from harness.store import RunStore
from harness.store.manifest import Manifest, MethodRecord
from harness.store.values import Outcome

N_BINS = 24
N_POINTS = 41
"""Points of a ROC curve."""
_RATES = np.linspace(0.0, 1.0, N_POINTS)


def detected(manifest: Manifest, store: RunStore, most: int) -> tuple[Detected, ...]:
    """Return the curves of each detection method; those of single concepts for at most ``most`` of them, evenly among all in their order."""
    methods = manifest.methods_of("detection")
    if not methods:
        return ()
    truths = {item.id: item.value for item in store.items("detection")}
    outcomes = {outcome.item_id: outcome for outcome in store.outcomes(DETECT, kind="detection", status="done")}
    found = (_detected(manifest, store, method, truths, outcomes, most) for method in methods)
    return tuple(one for one in found if one.roc)


def _detected(
    manifest: Manifest, store: RunStore, method: MethodRecord, truths: Mapping[str, object], outcomes: Mapping[str, Outcome], most: int
) -> Detected:
    rates: list[NDArray[np.float64]] = []
    names: dict[str, str] = {}
    for labeling in labelings_of(method, manifest, store):
        name = item_id(method.id, labeling.id)
        scores = _scores(name, truths, outcomes)
        if scores is not None:
            rates.append(_roc(*scores))
            names.setdefault(labeling.concept.id, name)  # of several draws the first
    mean = _points(np.mean(rates, axis=0)) if rates else ()
    shown = {concept: _concept(names[concept], truths, outcomes) for concept in spread_out(list(names), most)}
    return Detected(method.id, mean, shown)


def _scores(
    name: str, truths: Mapping[str, object], outcomes: Mapping[str, Outcome]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]] | None:
    """Return scores and truth of the reported texts, hard negatives left out; None where there are none of either class."""
    outcome, truth = outcomes.get(name), truths.get(name)
    if outcome is None or not isinstance(truth, Mapping) or REPORT not in outcome.value:
        return None
    masks = Truth.from_json(truth)
    plain = ~masks.report_hard
    scores, positive = np.asarray(unpack(outcome.value[REPORT]), dtype=np.float64)[plain], masks.report[plain]
    return (scores, positive) if 0 < int(positive.sum()) < len(positive) else None


def _roc(scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the true positive rate at each of the false positive rates of :data:`_RATES`."""
    from sklearn.metrics import roc_curve

    false, true, _ = roc_curve(positive, scores)
    return np.asarray(np.interp(_RATES, false, true))


def _points(true: NDArray[np.float64]) -> tuple[Point, ...]:
    return ((0.0, 0.0), *((round(float(x), 4), round(float(y), 4)) for x, y in zip(_RATES, true, strict=True)))


def _concept(name: str, truths: Mapping[str, object], outcomes: Mapping[str, Outcome]) -> ConceptScores:
    found = _scores(name, truths, outcomes)
    assert found is not None
    scores, positive = found
    edges = np.histogram_bin_edges(scores, N_BINS)
    counts = [tuple(int(count) for count in np.histogram(scores[which], edges)[0]) for which in (positive, ~positive)]
    return ConceptScores(_points(_roc(scores, positive)), tuple(float(f"{edge:.4g}") for edge in edges), *counts)
