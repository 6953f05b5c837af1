"""Batched logistic regressions: scikit-learn finds the same minima, and every minimum has the slopes that a minimum has."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.scoring import ScoringError
from harness.scoring.logistic import Logistic, coordinate_descent, fit_logistic

CS = (1e3, 10.0, 1.0, 0.1, 1e-3)


def made(seed: int, rows: int = 80, features: int = 4, spread: float = 30.0) -> tuple[Any, Any]:
    """Activations, many of them 0 and of unlike sizes, and labels that depend on them a little."""
    draw = np.random.default_rng(seed)
    x = np.maximum(draw.normal(size=(rows, features)), 0) * np.exp(draw.uniform(-np.log(spread), np.log(spread), features))
    y = x @ (draw.normal(size=features) / (x.std(axis=0) + 1)) + draw.normal(size=rows) > 0.3
    y[:2] = [True, False]
    return x, y


def smooth(x: Any, y: Any, fitted: Logistic, c: Any, weights: Any = None) -> tuple[Any, Any]:
    """Slopes of the loss alone in the coefficients and the intercept."""
    p = 1 / (1 + np.exp(-fitted.margins(x)))
    pull = np.asarray(c)[:, None] * (p - y) * (1 if weights is None else weights)
    return pull @ x, pull.sum(axis=1)


@given(st.integers(0, 10**6), st.integers(1, 6))
def test_the_slope_of_the_ridge_is_zero(seed: int, features: int) -> None:
    x, y = made(seed, features=features)
    weights = np.random.default_rng(seed).integers(0, 3, (len(CS), len(y))).astype(float)
    weights[:, :2] = 1
    fitted = fit_logistic(x, y, CS, weights)
    slopes, level = smooth(x, y, fitted, CS, weights)
    size = np.asarray(CS)[:, None] * np.abs(x).sum(axis=0) + 1
    assert fitted.converged.all()
    assert (np.abs(slopes + fitted.coefficients) <= 1e-4 * size).all()
    assert (np.abs(level) <= 1e-4 * (np.asarray(CS) * len(y))).all()


@given(st.integers(0, 10**6))
def test_the_slope_of_the_lasso_lies_where_it_must(seed: int) -> None:
    """−C · slope is the sign of a coefficient that is not 0, and within ±1 for one that is."""
    x, y = made(seed, features=3, spread=4)
    fitted = fit_logistic(x, y, CS, penalty="l1")
    slopes, level = smooth(x, y, fitted, CS)
    slack = 1e-4 * (np.asarray(CS)[:, None] * np.abs(x).sum(axis=0) + 1)
    zero = fitted.coefficients == 0
    assert (np.abs(slopes) <= 1 + slack)[zero].all()
    assert (np.abs(slopes + np.sign(fitted.coefficients)) <= slack)[~zero].all()
    assert (np.abs(level) <= 1e-4 * (np.asarray(CS) * len(y))).all()


@pytest.mark.parametrize("features", [1, 5])
def test_scikit_learn_finds_the_same(features: int) -> None:
    from sklearn.linear_model import LogisticRegression

    x, y = made(7, rows=200, features=features, spread=5)
    fitted = fit_logistic(x, y, CS)
    for place, c in enumerate(CS):
        theirs = LogisticRegression(C=c, tol=1e-10, max_iter=10_000).fit(x, y)
        assert fitted.coefficients[place] == pytest.approx(theirs.coef_[0], abs=1e-4, rel=1e-4)
        assert fitted.intercepts[place] == pytest.approx(theirs.intercept_[0], abs=1e-4, rel=1e-4)


def test_weights_leave_rows_out() -> None:
    x, y = made(3)
    kept = np.ones((1, len(y)))
    kept[0, 40:] = 0
    assert fit_logistic(x, y, 1.0, kept).coefficients == pytest.approx(fit_logistic(x[:40], y[:40], 1.0).coefficients, abs=1e-6)


def test_classes_that_a_feature_separates() -> None:
    """Without a penalty there would be no minimum; with one as weak as is used there is."""
    x = np.arange(20.0)[:, None]
    for penalty in ("l1", "l2"):
        fitted = fit_logistic(x, x[:, 0] > 9, (1e5, 1e-5), penalty=penalty)  # type: ignore[arg-type]
        assert fitted.converged.all()
        assert ((fitted.margins(x)[0] > 0) == (x[:, 0] > 9)).all()


def test_a_strong_lasso_keeps_the_share_alone() -> None:
    x, y = made(5)
    fitted = fit_logistic(x, y, 1e-6, penalty="l1")
    assert (fitted.coefficients == 0).all()
    assert fitted.intercepts[0] == pytest.approx(np.log(y.mean() / (1 - y.mean())), abs=1e-4)


def test_the_loop_is_plain_python_too() -> None:
    """One problem of one feature: min ½ h d² + g d + |w + d|."""
    step = np.zeros((1, 1))
    coordinate_descent(np.array([[0.0]]), np.array([[-3.0]]), np.array([[[2.0]]]), np.array([1.0]), step)
    assert step[0, 0] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("x", "y", "c", "weights"),
    [
        ([[1.0], [2.0]], [0, 1], 0.0, None),
        ([[1.0], [2.0]], [0, 0], 1.0, None),
        ([[1.0], [2.0]], [0, 1], 1.0, [[1.0, 0.0]]),
        ([[1.0], [float("nan")]], [0, 1], 1.0, None),
        ([[1.0], [2.0], [3.0]], [0, 1], 1.0, None),
    ],
)
def test_what_has_no_minimum_is_refused(x: Any, y: Any, c: Any, weights: Any) -> None:
    with pytest.raises(ScoringError):
        fit_logistic(x, y, c, weights)
