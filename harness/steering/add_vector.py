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
        EngineError: ``vector`` is not one vector, or (when applied) not as wide as the residual stream.
    """

    site: Site
    vector: Tensor
    positions: Positions = field(default_factory=Positions)

    def __post_init__(self) -> None:
        if self.vector.dim() != 1:
            shape = tuple(self.vector.shape)
            raise EngineError(f"the vector to add has the shape {shape}", given=shape, allowed="one dimension, [d_model]")

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
            width = self.vectors.shape[-1]
            raise EngineError(f"the vector to add has {width} numbers", given=width, allowed=f"{x.shape[-1]}, the width of the residual stream")
        return x + self.vectors[:, None, :]
