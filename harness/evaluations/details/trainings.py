"""Curves of the trainings of a run: mean and range over concepts."""

from __future__ import annotations

import numpy as np

from harness.leaderboard.site.details import LossCurve, Training
from harness.run.trainings import Curves, Loss, summary_of, trainings
from harness.store import RunStore


def trained(store: RunStore) -> tuple[Training, ...]:
    """Return how each plugin's trainings went, those with a loss."""
    texts = {concept.id: concept.text for concept in store.concepts()}
    found = []
    for name, curves in trainings(store).items():
        steps: tuple[float, ...] = max((tuple(curve["step"]) for curve in curves.values()), key=lambda own: own[-1:], default=())
        if steps and steps[-1]:
            shares = np.array(steps) / steps[-1]
            diverged = tuple(texts.get(concept, concept) for concept in summary_of(curves).diverged)
            found.append(Training(name, len(curves), diverged, steps, _over(curves, "loss", shares), _over(curves, "held_out", shares)))
    return tuple(found)


def _over(curves: Curves, name: Loss, shares: np.ndarray[tuple[int], np.dtype[np.float64]]) -> LossCurve:
    """Return a loss at shares of the trainings; between two points of a curve as on a line, beside its ends none."""
    rows = np.full((len(curves), len(shares)), np.nan)
    for row, curve in zip(rows, curves.values(), strict=True):
        points = [(step, value) for step, value in zip(curve["step"], curve[name], strict=True) if value is not None]
        if points:
            places, values = np.array(points, dtype=np.float64).T
            row[:] = np.interp(shares, places / curve.get("steps", curve["step"][-1]), values, left=np.nan, right=np.nan)
    known = (~np.isnan(rows)).any(axis=0)

    def column(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> tuple[float | None, ...]:
        left = iter(values.tolist())
        return tuple(next(left) if there else None for there in known)

    return LossCurve(*(column(reduce(rows[:, known], axis=0)) for reduce in (np.nanmean, np.nanmin, np.nanmax)))
