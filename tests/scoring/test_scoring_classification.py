"""Calibrated F1, F1, precision, recall and AUROC against their definitions, scikit-learn and known values."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score, precision_score, recall_score, roc_auc_score

from harness.errors import HarnessError
from harness.scoring import ScoringError, auroc, calibrated_f1, f1, precision_recall, warn_small_negatives

counts = st.integers(0, 10_000)
shares = st.floats(1e-6, 0.999)


@given(tp=counts, fp=counts, fn=counts, tn=counts, pi0=shares)
def test_calibrated_f1_is_its_formula(tp: int, fp: int, fn: int, tn: int, pi0: float) -> None:
    value = calibrated_f1(tp, fp, fn, tn, pi0=pi0)
    positives, negatives = tp + fn, fp + tn
    if positives == 0 or negatives == 0:
        assert math.isnan(value)
        return
    pi = positives / (positives + negatives)
    c = pi * (1 - pi0) / (pi0 * (1 - pi))
    assert value == pytest.approx(2 * tp / (2 * tp + c * fp + fn), rel=1e-9)
    assert 0 <= value <= 1


@given(recall=st.integers(0, 8), rate=st.integers(0, 64), support=st.sampled_from([8, 80, 800, 8_000]), pi0=shares)
def test_calibrated_f1_ignores_the_support_of_the_label(recall: int, rate: int, support: int, pi0: float) -> None:
    """Equal recall (eighths) and false-positive rate (64ths) give an equal value at any share of positives."""
    tp, fn = support * recall / 8, support * (8 - recall) / 8
    fp, tn = 6_400 * rate / 64, 6_400 * (64 - rate) / 64
    at_support = calibrated_f1(tp, fp, fn, tn, pi0=pi0)
    at_one_half = calibrated_f1(recall, rate, 8 - recall, 64 - rate, pi0=pi0)
    assert at_support == pytest.approx(at_one_half, rel=1e-12)


@given(tp=counts, fp=counts, fn=counts, tn=counts)
def test_calibrating_to_the_observed_share_changes_nothing(tp: int, fp: int, fn: int, tn: int) -> None:
    if tp + fn and fp + tn:
        observed = (tp + fn) / (tp + fp + fn + tn)
        assert calibrated_f1(tp, fp, fn, tn, pi0=observed) == pytest.approx(f1(tp, fp, fn), rel=1e-9)


def test_worked_example_with_two_thousand_texts() -> None:
    """2,000 texts, 50 of them positive (any support from 11 to 89 gives these figures), recall .8."""
    false_positives = np.array([0, 1, 3, 10])
    values = calibrated_f1(40, false_positives, 10, 1950 - false_positives, pi0=1e-3)
    assert values.round(2).tolist() == [0.89, 0.69, 0.48, 0.23]
    assert calibrated_f1(40, false_positives, 10, 1950 - false_positives).tolist() == values.tolist()  # 1e-3 is the default


def test_calibrated_f1_at_the_edges() -> None:
    assert math.isnan(calibrated_f1(0, 5, 0, 5))  # no positives: recall is undefined
    assert math.isnan(calibrated_f1(3, 0, 2, 0))  # no negatives: the false-positive rate is undefined
    assert calibrated_f1(0, 0, 5, 5) == 0.0  # positives, none of them found
    assert calibrated_f1(5, 0, 0, 5) == 1.0
    assert isinstance(calibrated_f1(5, 0, 0, 5), float)


def test_counts_broadcast() -> None:
    tp = np.arange(4)
    values = calibrated_f1(tp[:, None], np.arange(3), 4 - tp[:, None], 10)
    assert values.shape == (4, 3)
    assert values[2, 1] == calibrated_f1(2, 1, 2, 10)
    assert f1(tp, 1, [[1], [2]]).shape == (2, 4)
    assert calibrated_f1([], 1, 1, 1).shape == (0,)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=50))
def test_f1_precision_recall_agree_with_sklearn(pairs: list[tuple[bool, bool]]) -> None:
    truth, predicted = np.array(pairs).T
    tp, fp, fn = int((truth & predicted).sum()), int((~truth & predicted).sum()), int((truth & ~predicted).sum())
    precision, recall = precision_recall(tp, fp, fn)
    assert precision == pytest.approx(precision_score(truth, predicted, zero_division=np.nan), nan_ok=True)
    assert recall == pytest.approx(recall_score(truth, predicted, zero_division=np.nan), nan_ok=True)
    if truth.any():
        assert f1(tp, fp, fn) == pytest.approx(f1_score(truth, predicted))
    else:
        assert math.isnan(f1(tp, fp, fn))


@pytest.mark.parametrize("pi0", [0, 1, -0.1, 1.5, float("nan")])
def test_pi0_must_be_a_share(pi0: float) -> None:
    for call in (lambda: calibrated_f1(1, 1, 1, 1, pi0=pi0), lambda: warn_small_negatives(10, pi0)):
        with pytest.raises(ScoringError) as error:
            call()
        assert error.value.given is pi0
        assert error.value.allowed == "above 0 and below 1"
        assert "pi0" in error.value.message


def test_impossible_counts_are_refused() -> None:
    with pytest.raises(ScoringError) as negative:
        calibrated_f1(1, -1, 1, 1)
    assert (negative.value.given, negative.value.allowed) == (-1, "at least 0")
    assert "fp" in negative.value.message
    with pytest.raises(ScoringError) as undefined:
        f1(1, 1, float("nan"))
    assert math.isnan(undefined.value.given)  # type: ignore[arg-type]
    assert "fn" in undefined.value.message
    assert undefined.value.hint
    with pytest.raises(ScoringError) as infinite:
        calibrated_f1(1, 1, 1, float("inf"))
    assert infinite.value.given == math.inf
    assert "tn" in infinite.value.message
    with pytest.raises(ScoringError) as shapes:
        f1([1, 2], [1, 2, 3], 1)
    assert shapes.value.given == ((2,), (3,), ())
    assert all(part in shapes.value.message for part in ("tp (2,)", "fp (3,)"))
    with pytest.raises(ScoringError) as words:
        f1(["many"], 1, 1)
    assert words.value.given == ["many"]
    assert "numbers" in str(words.value.allowed)
    assert "tp" in words.value.message
    assert issubclass(ScoringError, HarnessError)
    assert issubclass(ScoringError, ValueError)


def test_warning_of_few_negatives_says_what_one_false_positive_costs() -> None:
    message = warn_small_negatives(1950)
    assert message is not None
    assert "1,950 negatives are few for π0 = 0.001" in message
    assert f"to {calibrated_f1(50, 1, 0, 1949):.2f}" in message
    assert "10,000 negatives" in message
    assert warn_small_negatives(9_999) is not None
    assert warn_small_negatives(10_000) is None
    assert warn_small_negatives(100, pi0=0.1) is None
    assert "undefined without negatives" in (warn_small_negatives(0) or "")


def auroc_by_pairs(scores: list[float], labels: list[bool]) -> float:
    """The share of (positive, negative) pairs in the right order, ties half."""
    positives = [score for score, label in zip(scores, labels, strict=True) if label]
    negatives = [score for score, label in zip(scores, labels, strict=True) if not label]
    wins = sum((p > n) + (p == n) / 2 for p in positives for n in negatives)
    return wins / (len(positives) * len(negatives))


@given(st.lists(st.tuples(st.integers(-4, 4), st.booleans()), min_size=2, max_size=40))
def test_auroc_is_the_share_of_ordered_pairs(items: list[tuple[int, bool]]) -> None:
    scores, labels = [float(score) for score, _ in items], [label for _, label in items]
    if all(labels) or not any(labels):
        assert math.isnan(auroc(scores, labels))
        return
    assert auroc(scores, labels) == auroc_by_pairs(scores, labels)  # equal, not approximately: it is exact
    assert auroc(scores, labels) == pytest.approx(roc_auc_score(labels, scores))


def test_auroc_of_many_ties_agrees_with_sklearn() -> None:
    generator = np.random.default_rng(0)
    labels = generator.random(5_000) < 0.1
    scores = np.round(generator.normal(size=5_000) + labels, 1)
    assert auroc(scores, labels) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)


def test_auroc_takes_infinities_and_refuses_nan() -> None:
    assert auroc([-np.inf, 0.0, np.inf], [0, 0, 1]) == 1.0
    assert auroc([np.inf, np.inf], [0, 1]) == 0.5
    with pytest.raises(ScoringError) as error:
        auroc([0.0, np.nan], [0, 1])
    assert math.isnan(error.value.given)  # type: ignore[arg-type]
    assert "1 NaN" in error.value.message
    with pytest.raises(ScoringError) as error:
        auroc([0.0, 1.0], [0, 2])
    assert error.value.given == 2
    assert error.value.hint
    with pytest.raises(ScoringError) as error:
        auroc([0.0, 1.0], [0, 1, 1])
    assert error.value.given == ((2,), (3,))
    assert error.value.allowed
