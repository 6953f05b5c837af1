"""How well scores of texts separate those with a concept from those without: ranking, and a threshold that was chosen on other texts.

Two shares of positives are reported. *As found*: every text counts 1. *At 1:1* (``balanced``): negatives are weighted so that together they weigh as
much as the positives, in the choice of the threshold, too; no text is left out. AUROC and calibrated F1 are the same at both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.scoring.checks import FloatArray, ScoringError, check_binary, float_array
from harness.scoring.classification import auroc, calibrated_f1, f1, precision_recall

Measure = Literal["f1", "calibrated_f1"]
"""What a threshold maximises."""

PI0 = 1e-3
"""Reference prior of calibrated F1, unless another is given."""

_TIE = 1e-12


@dataclass(frozen=True)
class AtThreshold:
    """What predicting "positive" from ``threshold`` on gives. Counts are sums of weights; None where a ratio has no denominator.

    Attributes:
        threshold: texts with this score or a higher one are predicted positive.
        tp, fp, fn, tn: true positives, false positives, false negatives, true negatives.
        precision: tp / (tp + fp); None where nothing is predicted positive.
        recall: tp / (tp + fn).
        f1: 2·tp / (2·tp + fp + fn).
        calibrated_f1: see :func:`~harness.scoring.calibrated_f1`; weighting negatives does not change it.
    """

    threshold: float
    tp: float
    fp: float
    fn: float
    tn: float
    precision: float | None
    recall: float | None
    f1: float | None
    calibrated_f1: float | None


@dataclass(frozen=True, eq=False)
class Scored:
    """Scores of some texts and which of them have the concept.

    Attributes:
        scores: ``[texts]`` finite, higher is more.
        positive: ``[texts]`` bool.
    """

    scores: FloatArray
    positive: NDArray[np.bool_]

    def __post_init__(self) -> None:
        _checked(self.scores, self.positive, None)

    @property
    def lacking(self) -> str:
        """Return which class is empty, for a reason; empty where both are there."""
        n = int(self.positive.sum())
        return "" if 0 < n < len(self.positive) else "no positive" if not n else "no negative"


@dataclass(frozen=True)
class Detection:
    """How well one concept is detected.

    Attributes:
        values: the measures by name (:data:`MEASURES`); None where there is no number.
        reasons: why a measure is None, by its name.
        at: what each threshold gives on the reported texts: ``f1`` and ``calibrated_f1`` as found, ``f1_balanced`` at 1:1.
    """

    values: Mapping[str, float | None]
    reasons: Mapping[str, str] = field(default_factory=dict)
    at: Mapping[str, AtThreshold] = field(default_factory=dict)


MEASURES = (
    "auroc", "average_precision", "average_precision_balanced", "f1", "precision", "recall", "f1_balanced", "precision_balanced", "recall_balanced",
    "calibrated_f1", "auroc_hard_negatives", "hard_negatives_rejected",
)  # fmt: skip
"""What :func:`detection` reports. The last two are None, with a reason, where there are no hard negatives."""


def detection(threshold: Scored, report: Scored, hard: ArrayLike = (), pi0: float = PI0) -> Detection:
    """Return all measures of one concept.

    Args:
        threshold: texts on which thresholds are chosen.
        report: other texts, of which everything is reported.
        hard: scores of hard negatives among the reported texts, which are not in ``report``: ``[texts]``.
        pi0: reference prior of calibrated F1.

    Raises:
        ScoringError: scores that are not finite, shapes that differ, ``pi0`` out of bounds.
    """
    values: dict[str, float | None] = dict.fromkeys(MEASURES)
    reasons: dict[str, str] = {}
    at: dict[str, AtThreshold] = {}
    if report.lacking:
        return Detection(values, dict.fromkeys(MEASURES, f"{report.lacking} among the {len(report.positive)} reported texts"))
    balanced = balanced_weights(report.positive)
    values["auroc"] = auroc(report.scores, report.positive)
    values["average_precision"] = average_precision(report.scores, report.positive)
    values["average_precision_balanced"] = average_precision(report.scores, report.positive, balanced)
    if threshold.lacking:
        why = f"no threshold: {threshold.lacking} among the {len(threshold.positive)} texts that choose it"
        reasons.update(dict.fromkeys([name for name in MEASURES[3:] if name != "auroc_hard_negatives"], why))
    else:
        weights = {"f1": None, "calibrated_f1": None, "f1_balanced": balanced_weights(threshold.positive)}
        for name, own in weights.items():
            measure: Measure = "calibrated_f1" if name == "calibrated_f1" else "f1"
            chosen = best_threshold(threshold.scores, threshold.positive, own, measure, pi0)
            at[name] = classify_at(report.scores, report.positive, chosen, None if own is None else balanced, pi0)
        for suffix in ("", "_balanced"):
            found = at[f"f1{suffix}"]
            values |= {f"f1{suffix}": found.f1, f"precision{suffix}": found.precision, f"recall{suffix}": found.recall}
            if found.precision is None:
                reasons[f"precision{suffix}"] = f"no reported text reaches the threshold {found.threshold:g}"
        values["calibrated_f1"] = at["calibrated_f1"].calibrated_f1
    _hard_negatives(report, np.asarray(hard, dtype=np.float64), at, values, reasons)
    return Detection(values, reasons, at)


def _hard_negatives(
    report: Scored, hard: FloatArray, at: Mapping[str, AtThreshold], values: dict[str, float | None], reasons: dict[str, str]
) -> None:
    """Positives against hard negatives, and the share of these that the threshold of F1 as found rejects."""
    if not len(hard):
        reasons |= dict.fromkeys(MEASURES[-2:], "no hard negative among the reported texts")
        return
    _checked(hard, np.zeros(len(hard), dtype=bool), None)
    positives = report.scores[report.positive]
    values["auroc_hard_negatives"] = auroc(np.concatenate([positives, hard]), np.arange(len(positives) + len(hard)) < len(positives))
    if "f1" in at:
        values["hard_negatives_rejected"] = float((hard < at["f1"].threshold).mean())


def balanced_weights(positive: ArrayLike) -> FloatArray:
    """Return weights ``[texts]`` that make negatives weigh as much as positives together: 1 for a positive, positives / negatives for a negative.

    Raises:
        ScoringError: there is no positive or no negative.
    """
    truth = np.asarray(positive, dtype=bool)
    n = int(truth.sum())
    if not 0 < n < truth.size:
        raise ScoringError(f"{n} of {truth.size} texts are positive", given=n, allowed="texts of both classes, to weigh them")
    return np.where(truth, 1.0, n / (truth.size - n))


def average_precision(scores: ArrayLike, positive: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Return average precision: Σ (R_k − R_{k−1}) · P_k over the distinct scores, highest first, with precision and recall of all texts so far.

    Texts of equal score enter together, so their order does not matter. No interpolation. Of a constant score it is the (weighted) share of
    positives.

    Args:
        scores: ``[texts]`` finite.
        positive: ``[texts]`` bool or 0/1.
        weights: ``[texts]``, none below 0; None: 1 each.

    Returns:
        A float in [0, 1]; NaN where a class is empty or weighs nothing.

    Raises:
        ScoringError: shapes that differ, scores or weights that are not finite, a negative weight.
    """
    _, tp, fp = _curve(scores, positive, weights)
    if not len(tp) or not tp[-1] > 0 or not fp[-1] > 0:
        return float("nan")
    gained = np.diff(tp, prepend=0.0)
    predicted = tp + fp
    precision = np.divide(tp, predicted, out=np.zeros_like(tp), where=predicted > 0)
    return float(min(1.0, (gained * precision).sum() / tp[-1]))


def best_threshold(
    scores: ArrayLike, positive: ArrayLike, weights: ArrayLike | None = None, measure: Measure = "f1", pi0: float = PI0
) -> float:
    """Return the threshold with the largest F1 or calibrated F1, among the scores themselves.

    Of a tie (within 1e-12) it is the higher one, which predicts fewer.

    These candidates give every way of cutting the ranking but "nothing is positive", which is never best. A text is predicted positive where its
    score is at least the threshold.

    Args:
        scores, positive, weights: as in :func:`average_precision`.
        measure: what is maximised.
        pi0: reference prior of calibrated F1.

    Raises:
        ScoringError: as in :func:`average_precision`; a class is empty or weighs nothing.
    """
    candidates, tp, fp = _curve(scores, positive, weights)
    if not len(tp) or not tp[-1] > 0 or not fp[-1] > 0:
        counts = (float(tp[-1]) if len(tp) else 0.0, float(fp[-1]) if len(fp) else 0.0)
        message = f"the texts that choose the threshold are {counts[0]:g} positives and {counts[1]:g} negatives"
        raise ScoringError(message, given=counts, allowed="above 0 of both", hint="give texts of both")
    fn, tn = tp[-1] - tp, fp[-1] - fp
    values = f1(tp, fp, fn) if measure == "f1" else calibrated_f1(tp, fp, fn, tn, pi0=pi0)
    return float(candidates[int(np.argmax(values >= values.max() - _TIE))])


def youden_threshold(scores: ArrayLike, positive: ArrayLike) -> float:
    """Return the threshold with the largest Youden's J, recall minus false-positive rate, among the scores; of a tie (within 1e-12) the higher one.

    Arguments and errors as in :func:`best_threshold`.
    """
    candidates, tp, fp = _curve(scores, positive, None)
    if not len(tp) or not tp[-1] > 0 or not fp[-1] > 0:
        counts = (float(tp[-1]) if len(tp) else 0.0, float(fp[-1]) if len(fp) else 0.0)
        message = f"the texts that choose the threshold are {counts[0]:g} positives and {counts[1]:g} negatives"
        raise ScoringError(message, given=counts, allowed="above 0 of both", hint="give texts of both")
    values = tp / tp[-1] - fp / fp[-1]
    return float(candidates[int(np.argmax(values >= values.max() - _TIE))])


def classify_at(
    scores: ArrayLike, positive: ArrayLike, threshold: float, weights: ArrayLike | None = None, pi0: float = PI0
) -> AtThreshold:
    """Return what predicting positive from ``threshold`` on gives. Arguments and errors as in :func:`best_threshold`, but a class may be empty."""
    values, truth, weight = _checked(scores, positive, weights)
    predicted = values >= threshold
    tp, fp, fn, tn = (float(weight[part].sum()) for part in (truth & predicted, ~truth & predicted, truth & ~predicted, ~truth & ~predicted))
    precision, recall = precision_recall(tp, fp, fn)
    ratios = (precision, recall, f1(tp, fp, fn), calibrated_f1(tp, fp, fn, tn, pi0=pi0))
    return AtThreshold(float(threshold), tp, fp, fn, tn, *map(_number, ratios))


def trivial_values(prevalence: float, pi0: float = PI0) -> dict[str, float]:
    """Return what a constant score gets, by measure, where a share ``prevalence`` of the texts is positive: everything is predicted positive."""
    return {
        "auroc": 0.5,
        "average_precision": prevalence,
        "average_precision_balanced": 0.5,
        "f1": 2 * prevalence / (1 + prevalence),
        "precision": prevalence,
        "recall": 1.0,
        "f1_balanced": 2 / 3,
        "precision_balanced": 0.5,
        "recall_balanced": 1.0,
        "calibrated_f1": 2 * pi0 / (1 + pi0),
        "auroc_hard_negatives": 0.5,
        "hard_negatives_rejected": 0.0,
    }


def _curve(scores: ArrayLike, positive: ArrayLike, weights: ArrayLike | None) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the distinct scores, highest first, with the weights of positives and of negatives that score at least as high."""
    values, truth, weight = _checked(scores, positive, weights)
    order = np.argsort(-values, kind="stable")
    ranked = values[order]
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], len(ranked) > 0))
    tp, fp = (np.cumsum(weight[order] * part[order])[last] for part in (truth, ~truth))
    return ranked[last], tp, fp


def _checked(scores: ArrayLike, positive: ArrayLike, weights: ArrayLike | None) -> tuple[FloatArray, NDArray[np.bool_], FloatArray]:
    values, truth = np.asarray(scores, dtype=np.float64), np.asarray(positive)
    weight = np.ones(values.shape) if weights is None else float_array(weights, "weights", nan=False)
    if values.ndim != 1 or not values.shape == truth.shape == weight.shape:
        message = f"scores, labels and weights have the shapes {values.shape}, {truth.shape} and {weight.shape}"
        raise ScoringError(message, given=(values.shape, truth.shape, weight.shape), allowed="lists of the same length")
    broken = values[~np.isfinite(values)]
    if len(broken):
        message = f"{len(broken)} of {len(values)} scores are not finite"
        raise ScoringError(message, given=float(broken[0]), allowed="finite numbers", hint="leave out the texts without a score")
    check_binary(truth)
    if (weight < 0).any():
        raise ScoringError(f"a weight is {weight.min():g}", given=float(weight.min()), allowed="at least 0")
    return values, truth.astype(bool), weight


def _number(value: Any) -> float | None:
    return None if np.isnan(value) else float(value)
