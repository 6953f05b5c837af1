"""Random directions, drawn from (seed, purpose, item), isotropic or with a covariance."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.types import rng

ROWS_AT_ONCE = 8192


def unit_rows(n: int, d: int, seed: int, purpose: str, item: str = "", root: Tensor | None = None) -> Tensor:
    """Return ``n`` random unit vectors, ``[n, d]`` float32, drawn a block of rows at a time.

    Args:
        n: how many.
        d: of how many dimensions.
        seed, purpose, item: of the draw; ``item`` and the block's first row make a block's own.
        root: ``[d, d]`` float64, a symmetric square root of the covariance that the vectors have before they are normalised; None: isotropic.
    """
    parts = []
    for start in range(0, n, ROWS_AT_ONCE):
        drawn = torch.from_numpy(rng(seed, purpose, f"{item}from {start}").standard_normal((min(ROWS_AT_ONCE, n - start), d)))
        rows = drawn.float() if root is None else (drawn @ root).float()
        parts.append(rows / rows.norm(dim=-1, keepdim=True))
    return torch.cat(parts)


def square_root(covariance: Tensor) -> Tensor:
    """Return the symmetric square root of a covariance, ``[d, d]`` float64; what rounding made negative counts as 0."""
    values, vectors = torch.linalg.eigh(covariance.double())
    root: Tensor = vectors * values.clamp_min(0).sqrt() @ vectors.T
    return root
