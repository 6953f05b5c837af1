"""Replacing what the stream has along a direction (AxBench's subspace setting, Wu et al. 2025)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from harness.errors import EngineError
from harness.interventions import EditContext, Positions, Site
from harness.types import digest


@dataclass(frozen=True, eq=False)
class ReplaceAlong:
    """x' = x − ReLU(x·w + b) w + v at one site: what the stream has along w gives way to v.

    Attributes:
        site: where.
        direction: w, ``[d_model]``, of unit norm.
        vector: v, ``[d_model]``.
        positions: which tokens.
        offset: b.

    Raises:
        EngineError: the two are not vectors of one width, or w is not of unit norm.
    """

    site: Site
    direction: Tensor
    vector: Tensor
    positions: Positions = field(default_factory=Positions)
    offset: float = 0.0

    def __post_init__(self) -> None:
        shapes = tuple(self.direction.shape), tuple(self.vector.shape)
        if self.direction.dim() != 1 or shapes[0] != shapes[1]:
            raise EngineError(f"direction and vector have the shapes {shapes}", given=shapes, allowed="twice [d_model]")
        length = float(self.direction.double().norm())
        if not abs(length - 1) < 1e-3:
            raise EngineError(f"the direction has the norm {length:g}", given=length, allowed="1")

    @property
    def sites(self) -> tuple[Site, ...]:
        return (self.site,)

    @property
    def batch_key(self) -> str:
        return "replace-along:" + digest([self.site, self.positions])

    def exact(self, x: Tensor) -> Tensor:
        """x − ReLU(x·w + b) w + v in float64."""
        x, w = x.double(), self.direction.to(x.device).double()
        return x - (x @ w + self.offset).clamp_min(0)[..., None] * w + self.vector.to(x.device).double()

    def stack(self, rows: Sequence[ReplaceAlong], device: torch.device) -> StackedReplace:
        def moved(values: Sequence[Tensor]) -> Tensor:
            return torch.stack([value.to(device=device, dtype=torch.float32) for value in values])

        offsets = [torch.tensor(row.offset) for row in rows]
        return StackedReplace(moved([row.direction for row in rows]), moved([row.vector for row in rows]), moved(offsets))


@dataclass(frozen=True, eq=False)
class StackedReplace:
    """Directions and vectors of several rows, each ``[rows, d_model]`` float32, and their offsets ``[rows]``."""

    directions: Tensor
    vectors: Tensor
    offsets: Tensor

    def apply(self, x: Tensor, ctx: EditContext) -> Tensor:
        width = self.vectors.shape[-1]
        if x.shape[-1] != width:
            raise EngineError(f"the vector to add has {width} numbers", given=width, allowed=f"{x.shape[-1]}, the width of the residual stream")
        along = (x * self.directions[:, None, :]).sum(dim=-1, keepdim=True) + self.offsets[:, None, None]
        return x - along.clamp_min(0) * self.directions[:, None, :] + self.vectors[:, None, :]
