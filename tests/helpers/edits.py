"""Edits for tests beside the shipped ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from harness.interventions import EditContext, Positions, Site
from harness.types import rng


@dataclass(frozen=True, eq=False)
class Scale:
    """x' = factor · x: does not commute with adding a vector, and has no definition of its own for the reference. May sit at several sites."""

    sites: tuple[Site, ...]
    factor: float
    positions: Positions = field(default_factory=Positions)

    @property
    def batch_key(self) -> str:
        return f"scale {self.sites} {self.positions}"

    def stack(self, rows: Sequence[Scale], device: torch.device) -> StackedScale:
        return StackedScale(torch.tensor([row.factor for row in rows], device=device))


@dataclass(frozen=True, eq=False)
class StackedScale:
    factors: Tensor

    def apply(self, x: Tensor, ctx: EditContext) -> Tensor:
        assert x.dtype == torch.float32
        assert x.shape[:2] == ctx.real.shape == ctx.generated.shape == ctx.first.shape == ctx.place.shape == ctx.to_end.shape
        return x * self.factors[:, None, None]


def vector(model: Any, item: str, length: float = 3.0) -> Tensor:
    """A random vector of this length times √d_model."""
    return torch.from_numpy(rng(0, "vector", item).standard_normal(model.d_model)).float() * length


def low_rank_edit(model: Any, site: Site, rank: int = 2, positions: Positions | None = None, seed: int = 0) -> Any:
    """A random low-rank edit about as strong as the stream."""
    from harness.fitting.rotating import rotation
    from harness.steering.low_rank import LowRank

    draw = rng(seed, "low-rank edit", f"{site} {rank}")
    r = rotation(torch.from_numpy(draw.standard_normal((rank, model.d_model)))).float()
    w, b = (torch.from_numpy(draw.standard_normal(shape)).float() for shape in ((rank, model.d_model), (rank,)))
    return LowRank(site, r, w, 3 * b, positions or Positions())
