"""Tokens whose residual vector is enormous and carries no information.

Beside the first token, language models put "massive activations" (Sun et al. 2024, arXiv 2402.17762) on a few others, delimiters mostly: in
SmolLM2 one token in some 4,000 has a norm of 1,000 to 27,000 where 170 is usual. They drive hundreds of features to activations that no text
reaches, so they would own every maximum, and a dozen of 41,000 took explained variance from .80 to .69.
"""

from __future__ import annotations

import torch
from torch import Tensor

OUTLIER = 10.0
"""Default factor: usual norms lie within a factor of two of their median, outliers beyond a factor of six."""


def usual_tokens(x: Tensor, counted: Tensor, factor: float = OUTLIER) -> Tensor:
    """Return which counted tokens have at most ``factor`` times the median norm of their own text's counted tokens.

    The text is the measure, so the answer does not depend on how texts are batched. A vector that holds NaN or infinity would
    count as unusual: refuse those before (:func:`harness.model.activations.check_finite`).

    Args:
        x: ``[texts, tokens, d_model]``.
        counted: ``[texts, tokens]`` bool.
        factor: 0 leaves ``counted`` as it is.

    Returns:
        ``[texts, tokens]`` bool, never more than ``counted``.
    """
    if not factor:
        return counted
    norms = torch.linalg.vector_norm(x, dim=-1, dtype=torch.float32)
    median = torch.where(counted, norms, float("nan")).nanmedian(dim=-1, keepdim=True).values
    usual: Tensor = counted & (norms <= factor * median)
    return usual
