"""Edits of the residual stream that need no dictionary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.contracts import EditContext, Positions, Site
from harness.types import digest


@dataclass(frozen=True, eq=False)
class AddVector:
    """x' = x + v at one site, the same v at every token that is edited.

    Attributes:
        site: where.
        vector: ``[d_model]``, in the residual stream's own units.
        positions: which tokens.
    """

    site: Site
    vector: Tensor
    positions: Positions = Positions()

    @property
    def sites(self) -> tuple[Site, ...]:
        return (self.site,)

    @property
    def batch_key(self) -> str:
        return "add-vector:" + digest([self.site, self.positions])

    def stack(self, rows: Sequence[AddVector], device: torch.device) -> StackedAdd:
        return StackedAdd(torch.stack([row.vector for row in rows]).to(device=device, dtype=torch.float32))


@dataclass(frozen=True, eq=False)
class StackedAdd:
    """Vectors of several rows, ``[rows, d_model]`` float32."""

    vectors: Tensor

    def apply(self, x: Tensor, ctx: EditContext) -> Tensor:
        return x + self.vectors[:, None, :]
