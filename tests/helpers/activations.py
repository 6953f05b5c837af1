"""Activations on disk as training reads them, made of a few directions at a time: training without a model."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from harness.sae.training.activations import Harvest
from harness.types import rng


def stored_activations(folder: Path, n: int = 3000, d: int = 24, features: int = 60, active: int = 4, seed: int = 0) -> Harvest:
    """Return ``n`` vectors, each the sum of ``active`` of ``features`` directions, the first dimensions larger than the last, plus a constant."""
    draws = rng(seed, "test-activations")
    directions = draws.standard_normal((features, d)) * np.linspace(3.0, 0.5, d)
    chosen = np.argsort(draws.random((n, features)), axis=1)[:, :active]
    weights = np.zeros((n, features))
    np.put_along_axis(weights, chosen, draws.lognormal(0, 0.25, (n, active)), axis=1)
    x = (weights @ directions + 1.0).astype(np.float16)
    folder.mkdir(parents=True, exist_ok=True)
    x.tofile(folder / "activations.f16")
    return Harvest(folder, n, d, 1.0, float(np.linalg.norm(x.astype(np.float64), axis=1).mean()), n // 50, 51)
