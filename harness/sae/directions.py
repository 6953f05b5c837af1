"""Directions in the residual stream made from labelled texts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from harness.errors import DataError

if TYPE_CHECKING:
    from harness.sae.dictionary import Dictionary


def mean_difference(
    document_means: NDArray[np.float32], n_tokens: NDArray[np.integer], positive: NDArray[np.bool_], what: str = "the label"
) -> NDArray[np.float64]:
    """Difference of means (DiffMean, Wu et al. 2025): mean residual of the positives' tokens minus that of the other texts' tokens.

    Args:
        document_means: ``[texts, d_model]``, mean over each text's counted tokens.
        n_tokens: ``[texts]``, counted tokens; texts without one are left out.
        positive: ``[texts]``.
        what: whose positives these are, for the message.

    Returns:
        ``[d_model]``, not normalised.

    Raises:
        DataError: no positive or no negative text has a token.
    """
    weights = np.asarray(n_tokens, dtype=np.float64)
    sums = []
    for chosen, name in ((positive, "positive"), (~positive, "negative")):
        if weights[chosen].sum() == 0:
            raise DataError(f"{what} has no {name} text with tokens, so it has no difference of means; give a corpus that has both")
        sums.append(np.average(np.asarray(document_means, dtype=np.float64)[chosen], axis=0, weights=weights[chosen]))
    return np.asarray(sums[0] - sums[1])


def decoder_cosines(dictionary: Dictionary, direction: NDArray[np.floating]) -> NDArray[np.float64]:
    """Cosine of every feature's decoder row with ``direction`` ``[d_in]``: ``[d_sae]``; 0 for a row or direction without length."""
    rows = dictionary.columns(range(dictionary.d_sae)).rows.double().cpu().numpy()
    direction = np.asarray(direction, dtype=np.float64)
    lengths = np.linalg.norm(rows, axis=1) * np.linalg.norm(direction)
    return np.divide(rows @ direction, lengths, out=np.zeros(len(rows)), where=lengths > 0)
