"""Directions in the residual stream made from labelled texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from harness.errors import DataError

if TYPE_CHECKING:
    from harness.contracts import Bench
    from harness.sae.dictionary import Dictionary
    from harness.types import Concept

_FEATURES_AT_ONCE = 8192


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


def decoder_cosines(dictionary: Dictionary, directions: NDArray[np.floating]) -> NDArray[np.float64]:
    """Cosines of every feature's decoder row with directions ``[k, d_in]``: ``[k, d_sae]``; 0 for a row or direction without length."""
    wanted = np.asarray(directions, dtype=np.float64)
    lengths = np.linalg.norm(wanted, axis=1)
    found = np.zeros((len(wanted), dictionary.d_sae))
    for start in range(0, dictionary.d_sae, _FEATURES_AT_ONCE):
        stop = min(start + _FEATURES_AT_ONCE, dictionary.d_sae)
        rows = dictionary.columns(range(start, stop)).rows.double().cpu().numpy()
        scale = lengths[:, None] * np.linalg.norm(rows, axis=1)
        np.divide(wanted @ rows.T, scale, out=found[:, start:stop], where=scale > 0)
    return found


def positives(bench: Bench, concepts: Sequence[Concept]) -> NDArray[np.bool_]:
    """``[texts, concepts]``: the text has the concept's label (never, for a concept without one)."""
    found = [[concept.label is not None and concept.label in document.labels for concept in concepts] for document in bench.corpus]
    return np.array(found, dtype=bool).reshape(len(found), len(concepts))


def split_texts(bench: Bench, held_out: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(the texts that choose, the texts that only report): a random ``held_out`` share reports, the same for all labelers of a run."""
    n = len(bench.corpus)
    order = bench.rng("held-out-texts").permutation(n)
    cut = n - round(n * held_out)
    return np.sort(order[:cut]), np.sort(order[cut:])


def label_cosines(bench: Bench, dictionary: str, concepts: Sequence[Concept], texts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Cosine of every decoder row with every concept's difference of means over ``texts``: ``[concepts, d_sae]``.

    −1, which passes no filter above it, for a concept that has no positive or no negative among ``texts``.
    """
    statistics = bench.statistics(dictionary)
    means, tokens = np.asarray(statistics.document_means)[texts], np.asarray(statistics.n_tokens)[texts]
    positive = positives(bench, concepts)[texts]
    rows, directions = [], []
    for place, concept in enumerate(concepts):
        if tokens[positive[:, place]].sum() and tokens[~positive[:, place]].sum():
            rows.append(place)
            directions.append(mean_difference(means, tokens, positive[:, place], f"concept {concept.id!r}"))
    target = bench.dictionaries[dictionary]
    found = np.full((len(concepts), target.d_sae), -1.0)
    if rows:
        found[rows] = decoder_cosines(target, np.stack(directions))
    return found
