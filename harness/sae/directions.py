"""Directions in the residual stream made from labelled texts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from harness.errors import DataError

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from harness.sae.dictionary import Dictionary

_FEATURES_AT_ONCE = 8192
_TEXTS_AT_ONCE = 4096


def mean_difference(
    document_means: NDArray[np.float32], n_tokens: NDArray[np.integer], positive: NDArray[np.bool_], what: str = "the label"
) -> NDArray[np.float64]:
    """Return the difference of means (DiffMean, Wu et al. 2025): mean residual of the positives' tokens minus that of the other texts' tokens.

    Args:
        document_means: ``[texts, d_model]``, mean over each text's counted tokens.
        n_tokens: ``[texts]``, counted tokens; texts without one are left out.
        positive: ``[texts]``.
        what: what the positives have, e.g. ``"concept 'cats'"``, for the message.

    Returns:
        ``[d_model]``, not normalised.

    Raises:
        DataError: no positive or no negative text has a token.
    """
    from scipy.sparse import csr_matrix

    for chosen, name in ((positive, "positive"), (~positive, "negative")):
        if np.asarray(n_tokens)[chosen].sum() == 0:
            message = f"{what} has no {name} text with tokens, so it has no difference of means"
            raise DataError(message, given=what, hint="give a corpus that has both")
    differences = mean_differences(document_means, n_tokens, csr_matrix(positive[:, None]), np.arange(len(positive)))
    return np.asarray(differences[0])


def decoder_cosines(dictionary: Dictionary, directions: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return cosines of every feature's decoder row with directions ``[k, d_in]``: ``[k, d_sae]``.

    0 for a row or direction without length; NaN for a direction that is NaN.
    """
    wanted = np.asarray(directions, dtype=np.float64)
    lengths = np.linalg.norm(wanted, axis=1)
    found = np.zeros((len(wanted), dictionary.d_sae))
    for start in range(0, dictionary.d_sae, _FEATURES_AT_ONCE):
        stop = min(start + _FEATURES_AT_ONCE, dictionary.d_sae)
        rows = dictionary.columns(range(start, stop)).rows.double().cpu().numpy()
        scale = lengths[:, None] * np.linalg.norm(rows, axis=1)
        np.divide(wanted @ rows.T, scale, out=found[:, start:stop], where=scale > 0)
    found[np.isnan(lengths)] = np.nan
    return found


def mean_differences(
    document_means: NDArray[np.float32], n_tokens: NDArray[np.integer], positive: csr_matrix, texts: NDArray[np.int64]
) -> NDArray[np.float64]:
    """As :func:`mean_difference` for many labels at once, over ``texts`` only: ``[labels, d_model]``.

    NaN for a label without a positive or without a negative text that has a token. The means are read some texts at a time, since they may
    be gigabytes on disk.
    """
    n_labels, d_model = positive.shape[1], document_means.shape[1]
    sums, total = np.zeros((n_labels, d_model)), np.zeros(d_model)
    of_label, tokens = np.zeros(n_labels), 0.0
    for start in range(0, len(texts), _TEXTS_AT_ONCE):
        part = texts[start : start + _TEXTS_AT_ONCE]
        weights = np.asarray(n_tokens[part], dtype=np.float64)
        weighted = np.asarray(document_means[part], dtype=np.float64) * weights[:, None]
        chosen = positive[part].T.astype(np.float64)
        sums += chosen @ weighted
        of_label += chosen @ weights
        total += weighted.sum(axis=0)
        tokens += weights.sum()
    with np.errstate(invalid="ignore", divide="ignore"):
        differences: NDArray[np.float64] = sums / of_label[:, None] - (total - sums) / (tokens - of_label)[:, None]
    differences[(of_label == 0) | (of_label == tokens)] = np.nan
    return differences
