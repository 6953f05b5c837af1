"""What a step of decoding takes at least: the longer of reading what must be read, and of computing what must be computed.

The model (Williams et al. 2009, "Roofline") knows nothing of launches, attention's own arithmetic, sampling and edits: it is a bound, and the share
of it that was reached says how much is lost to these.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from harness.model.limits import Limits

DEVICES: Mapping[str, Limits] = {
    "NVIDIA L4 24GB": Limits(121e12, 0.300e12),
    "NVIDIA A100 SXM 80GB": Limits(312e12, 2.039e12),
    "NVIDIA H100 SXM 80GB": Limits(989e12, 3.35e12),
    "NVIDIA H200 SXM 141GB": Limits(989e12, 4.8e12),
}
"""What NVIDIA's data sheets of these variants say: bfloat16 products on tensor cores, and memory bandwidth. The products are dense ones: for L4, H100
and H200 the sheets state them with sparsity (242 and 1,979 TFLOP/s), and dense ones are half of that. PCIe and NVL variants of the others have less.
Measured rates are lower, too."""

BATCHES = (1, 8, 32, 64, 128, 256, 512)
"""Rows for which the model is told."""


@dataclass(frozen=True)
class Decoding:
    """What a step of decoding reads and computes.

    Attributes:
        weights: bytes read once for all rows.
        cache: bytes read for each row: keys and values of its context.
        flops: operations for each row.
    """

    weights: float
    cache: float
    flops: float

    def seconds(self, rows: float, limits: Limits) -> float:
        """Return what a step of so many rows takes at least."""
        return max((self.weights + rows * self.cache) / limits.bandwidth, rows * self.flops / limits.flops)

    def bound_by(self, rows: float, limits: Limits) -> Literal["memory", "arithmetic"]:
        """Return which of the two limits a step of so many rows meets first."""
        return "memory" if (self.weights + rows * self.cache) / limits.bandwidth >= rows * self.flops / limits.flops else "arithmetic"


def decoding_of(facts: Mapping[str, float | None], context: float) -> Decoding:
    """Return a step's needs from what was noted of the model (:func:`harness.model.footprint.footprint`); ``context``: tokens of a row on average."""
    return Decoding(float(facts["weights"] or 0), float(facts["cache"] or 0) * context, 2.0 * float(facts["parameters"] or 0))
