"""Detection's measures against their definitions, scikit-learn and known values."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, f1_score, precision_score, recall_score, roc_auc_score, roc_curve

from harness.scoring import ScoringError, calibrated_f1
from harness.scoring.detection import (
    MEASURES,
    Scored,
    average_precision,
    balanced_weights,
    best_threshold,
    classify_at,
    detection,
    trivial_values,
    youden_threshold,
)

SCORES = st.sampled_from([-2.0, -0.5, 0.0, 0.25, 0.5, 1.0, 3.0])
TEXTS = st.lists(st.tuples(SCORES, st.booleans()), min_size=2, max_size=40)
WEIGHTED = st.lists(st.tuples(SCORES, st.booleans(), st.floats(0.01, 5)), min_size=2, max_size=40)


def arrays(texts: list[tuple[float, bool]]) -> tuple[np.ndarray, np.ndarray]:
    scores, truth = (np.array(column) for column in zip(*texts, strict=True))
    assume(0 < truth.sum() < len(truth))
    return scores, truth


def scored(texts: list[tuple[float, bool]]) -> Scored:
    return Scored(*arrays(texts))


# --------------------------------------------------------------------------------------------------------------- average precision


@given(WEIGHTED)
def test_average_precision_is_sklearns(texts: list[tuple[float, bool, float]]) -> None:
    scores, truth = arrays([(score, positive) for score, positive, _ in texts])
    weights = np.array([weight for *_, weight in texts])
    assert average_precision(scores, truth) == pytest.approx(average_precision_score(truth, scores), abs=1e-12)
    assert average_precision(scores, truth, weights) == pytest.approx(average_precision_score(truth, scores, sample_weight=weights), abs=1e-12)


@given(TEXTS)
def test_a_weight_is_so_many_copies(texts: list[tuple[float, bool]]) -> None:
    scores, truth = arrays(texts)
    copies = np.where(truth, 1, 3)
    again = average_precision(np.repeat(scores, copies), np.repeat(truth, copies))
    assert average_precision(scores, truth, copies) == pytest.approx(again, abs=1e-12)
    threshold = best_threshold(scores, truth, copies)
    assert threshold == best_threshold(np.repeat(scores, copies), np.repeat(truth, copies))


def test_average_precision_at_the_edges() -> None:
    assert math.isnan(average_precision([1, 2], [1, 1]))
    assert math.isnan(average_precision([1, 2], [0, 0]))
    assert math.isnan(average_precision([], []))
    assert average_precision([5, 5, 5, 5], [1, 0, 0, 0]) == 0.25
    assert average_precision([2, 1], [True, False]) == 1.0


# --------------------------------------------------------------------------------------------------------------------- thresholds


@given(WEIGHTED, st.sampled_from(["f1", "calibrated_f1"]), st.sampled_from([0.5, 0.1, 1e-3]))
def test_no_other_threshold_is_better_and_ties_go_to_the_highest(texts: list[tuple[float, bool, float]], measure: str, pi0: float) -> None:
    scores, truth = arrays([(score, positive) for score, positive, _ in texts])
    weights = np.array([weight for *_, weight in texts])

    def value(threshold: float) -> float:
        found = classify_at(scores, truth, threshold, weights, pi0)
        return found.f1 if measure == "f1" else found.calibrated_f1

    chosen = best_threshold(scores, truth, weights, measure, pi0)
    values = {float(score): value(score) for score in scores}
    best = max(values.values())
    assert values[chosen] == pytest.approx(best, abs=1e-12)
    assert all(other < best - 1e-13 for score, other in values.items() if score > chosen)


@settings(max_examples=50, deadline=None)
@given(WEIGHTED, SCORES)
def test_counts_and_ratios_at_a_threshold_are_sklearns(texts: list[tuple[float, bool, float]], threshold: float) -> None:
    scores, truth = arrays([(score, positive) for score, positive, _ in texts])
    weights, predicted = np.array([weight for *_, weight in texts]), scores >= threshold
    found = classify_at(scores, truth, threshold, weights)
    assert found.f1 == pytest.approx(f1_score(truth, predicted, sample_weight=weights), abs=1e-12)
    assert found.recall == pytest.approx(recall_score(truth, predicted, sample_weight=weights), abs=1e-12)
    if predicted.any():
        assert found.precision == pytest.approx(precision_score(truth, predicted, sample_weight=weights), abs=1e-12)
    else:
        assert found.precision is None
    assert found.tp + found.fp + found.fn + found.tn == pytest.approx(weights.sum())
    assert found.calibrated_f1 == pytest.approx(calibrated_f1(found.tp, found.fp, found.fn, found.tn), abs=1e-12)


def test_a_worked_example() -> None:
    """Four positives and eight negatives: as found two of the negatives cost more than a positive gained; at 1:1 they weigh one positive."""
    scores = [9, 8, 7, 6, 6, 5, 5, 5, 5, 4, 4, 4]
    truth = [1, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]
    assert best_threshold(scores, truth) == 7
    assert classify_at(scores, truth, 7).f1 == pytest.approx(6 / 7)
    weights = balanced_weights(truth)
    assert weights.tolist() == [1, 1, 1, 0.5, 0.5, 1, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]
    assert classify_at(scores, truth, 7, weights).f1 == pytest.approx(6 / 7)
    assert classify_at(scores, truth, 5, weights).f1 == pytest.approx(8 / (8 + 2.5))
    assert best_threshold(scores, truth, weights) == 7


@given(TEXTS)
def test_youdens_threshold_is_scikit_learns(texts: list[tuple[float, bool]]) -> None:
    scores, truth = arrays(texts)
    false, true, cuts = roc_curve(truth, scores, drop_intermediate=False)
    best = max(t - f for f, t in zip(false, true, strict=True))
    found = youden_threshold(scores, truth)
    at = classify_at(scores, truth, found)
    assert at.recall is not None
    assert at.recall - at.fp / (at.fp + at.tn) == pytest.approx(max(best, 0.0), abs=1e-9)
    assert found in scores
    later = [float(cut) for f, t, cut in zip(false, true, cuts, strict=True) if t - f >= best - 1e-13 and np.isfinite(cut)]
    assert best <= 0 or found == pytest.approx(max(later))


def test_youdens_threshold_needs_both_classes() -> None:
    for truth in ([0, 0], [1, 1]):
        with pytest.raises(ScoringError) as error:
            youden_threshold([1.0, 2.0], truth)
        assert error.value.allowed == "above 0 of both"


# --------------------------------------------------------------------------------------------------------------------- all together


@settings(max_examples=50, deadline=None)
@given(TEXTS, TEXTS, st.lists(SCORES, max_size=6), st.sampled_from([0.5, 1e-3]))
def test_all_measures_follow_from_scikit_learn(
    threshold: list[tuple[float, bool]], report: list[tuple[float, bool]], hard: list[float], pi0: float
) -> None:
    choosing, reported = scored(threshold), scored(report)
    found = detection(choosing, reported, hard, pi0)
    values, truth, scores = found.values, reported.positive, reported.scores
    weights = balanced_weights(truth)
    assert tuple(values) == MEASURES
    assert values["auroc"] == pytest.approx(roc_auc_score(truth, scores), abs=1e-12)
    assert values["auroc"] == pytest.approx(roc_auc_score(truth, scores, sample_weight=weights), abs=1e-9), "weights change nothing"
    assert values["average_precision_balanced"] == pytest.approx(average_precision_score(truth, scores, sample_weight=weights), abs=1e-12)
    cut = best_threshold(choosing.scores, choosing.positive)
    assert values["f1"] == pytest.approx(f1_score(truth, scores >= cut), abs=1e-12)
    cut_balanced = best_threshold(choosing.scores, choosing.positive, balanced_weights(choosing.positive))
    assert values["f1_balanced"] == pytest.approx(f1_score(truth, scores >= cut_balanced, sample_weight=weights), abs=1e-12)
    unweighted = detection(choosing, reported, hard, pi0).at["calibrated_f1"]
    assert classify_at(scores, truth, unweighted.threshold, weights, pi0).calibrated_f1 == pytest.approx(values["calibrated_f1"], abs=1e-12)
    assert {name for name, value in values.items() if value is None} == set(found.reasons)
    if hard:
        assert values["hard_negatives_rejected"] == np.mean(np.array(hard) < cut)
        both = np.concatenate([scores[truth], hard])
        assert values["auroc_hard_negatives"] == pytest.approx(roc_auc_score(np.arange(len(both)) < truth.sum(), both), abs=1e-12)


@given(TEXTS, TEXTS)
def test_only_the_order_of_scores_counts_for_the_report(threshold: list[tuple[float, bool]], report: list[tuple[float, bool]]) -> None:
    choosing, reported = scored(threshold), scored(report)
    stretched = [Scored(np.exp(part.scores), part.positive) for part in (choosing, reported)]
    assert detection(*stretched).values == detection(choosing, reported).values


@given(TEXTS, st.floats(-3, 3))
def test_a_constant_score_gets_the_trivial_values(report: list[tuple[float, bool]], constant: float) -> None:
    _, truth = arrays(report)
    same = Scored(np.full(len(truth), constant), truth)
    found = detection(same, same, [constant], pi0=0.01).values
    expected = trivial_values(float(truth.mean()), pi0=0.01)
    assert set(found) == set(expected)
    assert all(found[name] == pytest.approx(expected[name], abs=1e-12) for name in MEASURES)


def test_a_missing_class_is_no_number() -> None:
    both = Scored(np.array([1.0, 2.0]), np.array([False, True]))
    only = Scored(np.array([1.0, 2.0]), np.array([True, True]))
    none = detection(both, only)
    assert set(none.values.values()) == {None}
    assert none.reasons["auroc"] == "no negative among the 2 reported texts"
    some = detection(only, both)
    assert (some.values["auroc"], some.values["average_precision"], some.values["f1"]) == (1.0, 1.0, None)
    assert some.reasons["f1"] == "no threshold: no negative among the 2 texts that choose it"
    assert "auroc" not in some.reasons


def test_what_makes_no_sense_is_refused() -> None:
    fine = Scored(np.array([1.0, 2.0]), np.array([True, False]))
    for call, refused in (
        (lambda: Scored(np.array([1.0, np.inf]), np.array([True, False])), np.inf),
        (lambda: average_precision([1, 2, 3], [1, 0]), ((3,), (2,), (3,))),
        (lambda: average_precision([1, 2], [1, 2]), 2),
        (lambda: average_precision([1, 2], [1, 0], [-1, 1]), -1),
        (lambda: best_threshold([1, 2], [1, 1]), (2, 0)),
        (lambda: balanced_weights([1, 1]), 2),
        (lambda: detection(fine, fine, [np.nan]), np.nan),
    ):
        with pytest.raises(ScoringError) as error:
            call()
        assert error.value.given == pytest.approx(refused, nan_ok=True) if isinstance(refused, float) else error.value.given == refused
        assert error.value.allowed
