"""How nearly a dictionary's features point the same way: the largest cosine of a decoder row with another one."""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import Field

from harness.contracts import MetricTraits, NumberTraits
from harness.options import Options
from harness.types import Measurement, rng


class OverlapOptions(Options):
    """Options of ``overlap``."""

    features: int = Field(256, ge=2)
    """So many features, drawn at random, are compared with one another."""


class Overlap:
    """Implements :class:`harness.contracts.Metric`. It reads weights alone, so it needs neither model nor corpus."""

    traits = MetricTraits(
        title="mean overlap",
        bounds=(-1.0, 1.0),
        higher_is_better=False,
        needs=(),
        parts={"same": NumberTraits("features with a double", "share", (0.0, 1.0), False, 0.0)},
    )

    def __init__(self, options: OverlapOptions) -> None:
        self.options = options

    def measure(self, bench: Any, subject: Any, seed: int) -> Measurement:
        dictionary = subject.dictionary
        drawn = np.sort(rng(seed, "overlap").permutation(dictionary.d_sae)[: self.options.features])
        if len(drawn) < 2:
            return Measurement(None, reason="a single feature overlaps with none", parts={"same": 0.0})
        rows = dictionary.columns(drawn.tolist()).rows
        rows = rows / rows.norm(dim=-1, keepdim=True).clamp(min=1e-12)
        cosines = (rows @ rows.T).fill_diagonal_(-1.0).amax(dim=-1)
        return Measurement(
            value=float(cosines.mean()),
            parts={"same": float((cosines > 0.99).double().mean())},
            details={"features": len(drawn), "largest": float(cosines.max())},
        )
