"""Controls that are trained: dictionaries of which one random part does not learn, while all the rest does (Korznikov et al. 2026, arXiv 2602.14111).

frozen-decoder
    The decoder's rows are random unit vectors and stay so.
soft-frozen-decoder
    The rows begin at random directions and learn; after each step a row that has left the cone around its start is put back onto it.
frozen-encoder
    The encoder's columns are random unit vectors and stay so. Activations are not rescaled by decoder norms: else these were a trained factor on
    each column.

What is trained and how is that of any other dictionary. Weights that learn begin as SAELens' own do: an encoder or decoder tied to the random part.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from harness.sae.drawn import square_root, unit_rows

if TYPE_CHECKING:
    from harness.sae.training.config import TrainConfig

PURPOSE = "sae-random-part"


def random_part(config: TrainConfig, d_in: int, covariance: Tensor | None) -> Tensor:
    """Return the random unit vectors of a control, ``[width, d_in]`` float32, from its seed and its name; a wider one begins with a narrower one's.

    Args:
        config: with a control.
        d_in: width of the residual stream.
        covariance: ``[d_in, d_in]`` of the data, which ``random_rows = "covariance"`` needs.
    """
    root = square_root(covariance) if config.random_rows == "covariance" and covariance is not None else None
    return unit_rows(config.width, d_in, config.seed, PURPOSE, f"{config.control}, of {d_in}, ", root)


@torch.no_grad()
def impose(sae: Any, config: TrainConfig, rows: Tensor) -> Callable[[], None]:
    """Give a fresh training SAE its random part; returns what is to be done after each step of the optimiser.

    Args:
        sae: a SAELens training SAE as it was initialised.
        config: with a control.
        rows: the random part (:func:`random_part`).
    """
    rows = rows.to(sae.W_dec.device)
    norm = sae.cfg.decoder_init_norm
    if config.control == "frozen-encoder":
        sae.W_enc.copy_(rows.T)
        sae.W_dec.copy_(norm * rows)
        sae.W_enc.requires_grad_(False)
        return lambda: None
    soft = config.control == "soft-frozen-decoder"
    sae.W_dec.copy_(norm * rows if soft else rows)
    sae.W_enc.copy_(norm * rows.T)
    if soft:
        return lambda: project_to_cone(sae.W_dec, rows, config.cosine)
    sae.W_dec.requires_grad_(False)
    return lambda: None


@torch.no_grad()
def project_to_cone(weights: Tensor, starts: Tensor, cosine: float) -> None:
    """Put rows whose cosine with their start is below ``cosine`` onto the nearest direction that has it, in place; their norms stay.

    Args:
        weights: ``[rows, d]``.
        starts: ``[rows, d]`` unit vectors.
        cosine: the least cosine that is allowed, within 0 and 1.
    """
    norms = weights.norm(dim=-1)
    along = (weights * starts).sum(dim=-1)
    out = (along < cosine * norms).nonzero().squeeze(1)
    if not len(out):
        return
    # in float64, and a hair within the cone, so that rounding leaves no row outside
    start, norm, row = normalize(starts[out].double(), dim=-1), norms[out, None].double(), weights[out].double()
    inside = min(1.0, cosine + 1e-6)
    across = row - (row * start).sum(dim=-1, keepdim=True) * start
    length = across.norm(dim=-1, keepdim=True)
    across = torch.where(length > 1e-6 * norm, across / length.clamp_min(1e-30), 0.0)
    nearest = inside * start + math.sqrt(1 - inside * inside) * across
    # where nothing is across, as straight behind, it is the start itself
    weights[out] = (norm * normalize(nearest, dim=-1)).to(weights.dtype)
