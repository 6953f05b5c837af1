"""Edits of the model's streams that need no dictionary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from harness.errors import EngineError
from harness.interventions import EditContext, Positions, Site
from harness.types import digest


@dataclass(frozen=True, eq=False)
class AddVector:
    """x' = x + v at one site, the same v at every token that is edited.

    Attributes:
        site: where.
        vector: ``[d_model]``, in the residual stream's own units.
        positions: which tokens.

    Raises:
        EngineError: ``vector`` is no single vector, or (when applied) not as wide as the residual stream.
    """

    site: Site
    vector: Tensor
    positions: Positions = field(default_factory=Positions)

    def __post_init__(self) -> None:
        if self.vector.dim() != 1:
            raise EngineError(f"a vector to add must have one dimension, [d_model], got the shape {tuple(self.vector.shape)}")

    @property
    def sites(self) -> tuple[Site, ...]:
        return (self.site,)

    @property
    def batch_key(self) -> str:
        return "add-vector:" + digest([self.site, self.positions])

    def exact(self, x: Tensor) -> Tensor:
        """x + v in float64."""
        return x.double() + self.vector.to(x.device).double()

    def stack(self, rows: Sequence[AddVector], device: torch.device) -> StackedAdd:
        return StackedAdd(torch.stack([row.vector for row in rows]).to(device=device, dtype=torch.float32))


@dataclass(frozen=True, eq=False)
class StackedAdd:
    """Vectors of several rows, ``[rows, d_model]`` float32."""

    vectors: Tensor

    def apply(self, x: Tensor, ctx: EditContext) -> Tensor:
        if x.shape[-1] != self.vectors.shape[-1]:
            raise EngineError(f"a vector of {self.vectors.shape[-1]} numbers cannot be added to a residual stream of width {x.shape[-1]}")
        return x + self.vectors[:, None, :]
