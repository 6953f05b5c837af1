"""Logistic regressions, many at a time: several penalties and several choices of rows over one small table of features.

A probe over k features is chosen among some penalties by validation, so dozens of regressions share one table. Newton's method solves all of
them together, to the optimum, in some ten steps each of which costs one product of the table with itself for each problem.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.scoring.checks import FloatArray, ScoringError, check_binary, float_array
from harness.scoring.kernels import compiled

Penalty = Literal["l1", "l2"]

_TOLERANCE = 1e-10
"""A problem is solved when the next step would lower its objective by less than this share of it."""
_STEPS = 200
_HALVINGS = 40
_ENOUGH = 1e-4
"""A step is taken when it lowers the objective by this share of what its slope promises."""


@dataclass(frozen=True, eq=False)
class Logistic:
    """Solved regressions, one a row.

    Attributes:
        coefficients: ``[problems, features]``.
        intercepts: ``[problems]``.
        converged: ``[problems]`` bool; False where the steps did not suffice.
    """

    coefficients: FloatArray
    intercepts: FloatArray
    converged: NDArray[np.bool_]

    def margins(self, x: ArrayLike) -> FloatArray:
        """Return the log odds of the positive class, ``[problems, rows]``, for ``x`` ``[rows, features]``."""
        return np.asarray(self.coefficients @ np.asarray(x, dtype=np.float64).T + self.intercepts[:, None])


def fit_logistic(x: ArrayLike, y: ArrayLike, c: ArrayLike, weights: ArrayLike | None = None, penalty: Penalty = "l2") -> Logistic:
    """Minimise C · Σ_i v_i · log(1 + exp(−s_i · (w·x_i + b))) + penalty(w) for each problem; s_i is 1 for a positive row and −1 for a negative one.

    The penalty is ½‖w‖² (``l2``) or ‖w‖₁ (``l1``), the intercept b is free, and C has scikit-learn's meaning. The minimum is that of the features as
    they are given: they are scaled on the way, and the penalty with them.

    Args:
        x: ``[rows, features]``.
        y: ``[rows]``, bool or 0/1.
        c: ``[problems]`` positive: the inverse strength of the penalty.
        weights: ``[problems, rows]`` from 0, v above; 0 leaves a row out. None: all rows count 1 in every problem.
        penalty: see above.

    Raises:
        ScoringError: shapes that do not fit, values that are not finite, a C that is not positive, a problem whose rows are of one class.
    """
    table, truth, strengths, v = _checked(x, y, c, weights)
    scale = np.sqrt(np.square(table).mean(axis=0))
    scale[scale == 0] = 1.0
    inside = np.concatenate([table / scale, np.ones((len(table), 1))], axis=1)
    problem = _Problem(inside, truth, strengths[:, None] * v, np.append(1 / scale, 0.0), penalty)
    w = np.zeros((len(strengths), inside.shape[1]))
    share = (v @ truth) / v.sum(axis=1)
    w[:, -1] = np.log(share / (1 - share))  # the minimum without features
    converged = _newton(problem, w)
    return Logistic(w[:, :-1] / scale, w[:, -1].copy(), converged)


# ------------------------------------------------------------------------------------------------------------------------- inside


@dataclass(frozen=True, eq=False)
class _Problem:
    """Problems over one table, scaled.

    Attributes:
        x: ``[rows, features + 1]``, the last column 1.
        y: ``[rows]`` float, 0 or 1.
        cv: ``[problems, rows]``, C · v.
        factor: ``[features + 1]``, what undoes the scaling of a weight in the penalty; 0 for the intercept.
        penalty: of which kind.
    """

    x: FloatArray
    y: FloatArray
    cv: FloatArray
    factor: FloatArray
    penalty: Penalty

    def objective(self, w: FloatArray, which: NDArray[np.intp]) -> FloatArray:
        """Return ``[which]``."""
        margins = w @ self.x.T
        loss = (self.cv[which] * (np.logaddexp(0, margins) - self.y * margins)).sum(axis=1)
        return np.asarray(loss + self.penalties(w))

    def penalties(self, w: FloatArray) -> FloatArray:
        own = np.abs(w * self.factor)
        return np.asarray(own.sum(axis=1) if self.penalty == "l1" else 0.5 * np.square(own).sum(axis=1))

    def slopes(self, w: FloatArray, which: NDArray[np.intp]) -> tuple[FloatArray, FloatArray]:
        """Return gradient ``[which, features + 1]`` and Hessian ``[which, features + 1, features + 1]`` of what is smooth."""
        p = _sigmoid(w @ self.x.T)
        cv = self.cv[which]
        gradient, curve = (cv * (p - self.y)) @ self.x, cv * p * (1 - p)
        hessian = np.stack([(self.x.T * row) @ self.x for row in curve])
        if self.penalty == "l2":
            gradient = gradient + w * self.factor**2
            hessian += np.diag(self.factor**2)
        # where all rows are far on their side the table says nothing of the intercept any more
        diagonal = np.einsum("aii->ai", hessian)
        hessian += np.eye(len(self.factor)) * (1e-12 * diagonal.max(axis=1) + 1e-300)[:, None, None]
        return gradient, hessian


def _newton(problem: _Problem, w: FloatArray) -> NDArray[np.bool_]:
    """Improve ``w`` in place until nothing is gained, and return for which problems that was reached."""
    left = np.arange(len(w))
    value = problem.objective(w, left)
    for _ in range(_STEPS):
        gradient, hessian = problem.slopes(w[left], left)
        step = np.linalg.solve(hessian, -gradient[..., None])[..., 0] if problem.penalty == "l2" else _l1_step(problem, w[left], gradient, hessian)
        promise = (gradient * step).sum(axis=1)
        if problem.penalty == "l1":
            promise += problem.penalties(w[left] + step) - problem.penalties(w[left])
        open_ = -promise > _TOLERANCE * np.abs(value)
        left, step, promise, value = left[open_], step[open_], promise[open_], value[open_]
        if not len(left):
            break
        length = np.ones(len(left))
        for _ in range(_HALVINGS):
            tried = problem.objective(w[left] + length[:, None] * step, left)
            short = ~(tried <= value + _ENOUGH * length * promise)
            if not short.any():
                break
            length[short] /= 2
        moved = tried <= value  # at the end of the precision of the objective no step lowers it
        w[left[moved]] += (length[:, None] * step)[moved]
        left, value = left[moved], tried[moved]
        if not len(left):
            break
    converged = np.ones(len(w), dtype=bool)
    converged[left] = False
    return converged


def _l1_step(problem: _Problem, w: FloatArray, gradient: FloatArray, hessian: FloatArray) -> FloatArray:
    """Return the step to the minimum of the quadratic model with the absolute values kept, by coordinate descent."""
    step = np.zeros_like(w)
    compiled(coordinate_descent)(w, gradient, hessian, problem.factor, step)
    return step


def _sigmoid(x: FloatArray) -> FloatArray:
    with np.errstate(over="ignore"):
        return np.asarray(1 / (1 + np.exp(-x)))


def coordinate_descent(w: FloatArray, gradient: FloatArray, hessian: FloatArray, factor: FloatArray, step: FloatArray) -> None:
    """Minimise g·d + ½ d·H·d + Σ_j factor_j · |w_j + d_j| over d for each problem; ``step`` is d, written in place."""
    problems, features = w.shape
    for a in range(problems):
        product = np.zeros(features)
        for _ in range(500):
            largest = 0.0
            for j in range(features):
                curve = hessian[a, j, j]
                if curve <= 0:
                    continue
                now = w[a, j] + step[a, j]
                free = now - (gradient[a, j] + product[j]) / curve
                bound = factor[j] / curve
                new = free - bound if free > bound else (free + bound if free < -bound else 0.0)
                change = new - now
                if change != 0.0:
                    step[a, j] += change
                    for i in range(features):
                        product[i] += hessian[a, i, j] * change
                    largest = max(largest, abs(change) * curve**0.5)
            if largest < 1e-9:
                break


def _checked(x: ArrayLike, y: ArrayLike, c: ArrayLike, weights: ArrayLike | None) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    table, truth = float_array(x, "features", nan=False), np.asarray(y)
    strengths = np.atleast_1d(float_array(c, "C", nan=False))
    if table.ndim != 2 or truth.shape != (len(table),):
        message = f"features have the shape {table.shape}, labels {truth.shape}"
        raise ScoringError(message, given=(table.shape, truth.shape), allowed="[rows, features] and [rows]")
    check_binary(truth)
    if not (strengths > 0).all():
        raise ScoringError(f"C is {strengths.min():g}", given=float(strengths.min()), allowed="positive numbers")
    v = np.ones((len(strengths), len(table))) if weights is None else float_array(weights, "weights", nan=False)
    if v.shape != (len(strengths), len(table)) or (v < 0).any():
        message = f"weights have the shape {v.shape}, the smallest is {v.min() if v.size else 'absent'}"
        raise ScoringError(message, given=v.shape, allowed=f"numbers from 0, {len(strengths)} problems x {len(table)} rows")
    truth = truth.astype(np.float64)
    if ((v @ truth) == 0).any() or ((v @ (1 - truth)) == 0).any():
        raise ScoringError("a problem has rows of one class alone", given="one class", allowed="rows of both classes")
    return table, truth, strengths, v
