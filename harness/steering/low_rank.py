"""Low-rank edits of a stream (LoReFT; Wu et al. 2024, arXiv 2404.03592): within a few directions, what the stream is gives way to what is learnt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from harness.errors import EngineError
from harness.interventions import EditContext, Positions, Site
from harness.types import digest


@dataclass(frozen=True, eq=False)
class LowRank:
    """x' = x + Rᵀ(W x + b − R x) at one site.

    Attributes:
        site: where.
        rotation: R, ``[rank, d_model]``, its rows orthonormal.
        weight: W, ``[rank, d_model]``.
        bias: b, ``[rank]``.
        positions: which tokens.

    Raises:
        EngineError: shapes that do not go together, or rows of R that are not orthonormal.
    """

    site: Site
    rotation: Tensor
    weight: Tensor
    bias: Tensor
    positions: Positions = field(default_factory=Positions)

    def __post_init__(self) -> None:
        shapes = tuple(tuple(part.shape) for part in (self.rotation, self.weight, self.bias))
        if self.rotation.dim() != 2 or shapes[1] != shapes[0] or shapes[2] != shapes[0][:1]:
            raise EngineError(f"rotation, weight and bias have the shapes {shapes}", given=shapes, allowed="[rank, d_model] twice, and [rank]")
        product = self.rotation.double() @ self.rotation.double().T
        if not bool(((product - torch.eye(len(product), dtype=product.dtype, device=product.device)).abs() < 1e-3).all()):
            raise EngineError("the rotation's rows are not orthonormal", given=shapes[0], allowed="orthonormal rows")

    @property
    def sites(self) -> tuple[Site, ...]:
        return (self.site,)

    @property
    def batch_key(self) -> str:
        return "low-rank:" + digest([self.site, self.positions, len(self.bias)])

    def exact(self, x: Tensor) -> Tensor:
        """x + Rᵀ(W x + b − R x) in float64."""
        x = x.double()
        r, w, b = (part.to(x.device).double() for part in (self.rotation, self.weight, self.bias))
        return x + (x @ w.T + b - x @ r.T) @ r

    def stack(self, rows: Sequence[LowRank], device: torch.device) -> StackedLowRank:
        parts = (torch.stack([getattr(row, name) for row in rows]).to(device, torch.float32) for name in ("rotation", "weight", "bias"))
        return StackedLowRank(*parts)


@dataclass(frozen=True, eq=False)
class StackedLowRank:
    """The edits of several rows: ``[rows, rank, d_model]`` twice and ``[rows, rank]``, float32."""

    rotation: Tensor
    weight: Tensor
    bias: Tensor

    def apply(self, x: Tensor, ctx: EditContext) -> Tensor:
        width = self.rotation.shape[-1]
        if x.shape[-1] != width:
            raise EngineError(f"the low-rank edit is for {width} numbers", given=width, allowed=f"{x.shape[-1]}, the width of the residual stream")
        return low_rank(x, self.rotation, self.weight, self.bias)


def low_rank(x: Tensor, rotation: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return x + Rᵀ(W x + b − R x) row by row: ``[rows, tokens, d_model]`` with R and W ``[rows, rank, d_model]``, b ``[rows, rank]``."""
    change = torch.einsum("btd,brd->btr", x, weight - rotation) + bias[:, None, :]
    return x + torch.einsum("btr,brd->btd", change, rotation)
