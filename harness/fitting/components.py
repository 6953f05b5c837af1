"""Principal components of activations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch


def first_component(x: torch.Tensor) -> NDArray[np.float64]:
    """Return the unit direction of largest variance of vectors about their mean, float64 ``[d]``; its sign is arbitrary.

    From whichever of covariance and Gram matrix is smaller, in float64, where ``x`` is.

    Args:
        x: ``[n, d]``, at least one vector; zeros where all are one.
    """
    import torch

    centred = x.double() - x.double().mean(dim=0)
    n, width = centred.shape
    if n >= width:
        return np.asarray(torch.linalg.eigh(centred.T @ centred)[1][:, -1].cpu().numpy())
    found = centred.T @ torch.linalg.eigh(centred @ centred.T)[1][:, -1]
    length = found.norm()
    return np.asarray((found / length if length > 0 else found).cpu().numpy())
