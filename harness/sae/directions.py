"""Directions in the residual stream made from labelled texts."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from harness.errors import DataError

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from harness.contracts import Bench
    from harness.sae.dictionary import Dictionary
    from harness.types import Concept

_FEATURES_AT_ONCE = 8192
_TEXTS_AT_ONCE = 4096


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
    from scipy.sparse import csr_matrix

    for chosen, name in ((positive, "positive"), (~positive, "negative")):
        if np.asarray(n_tokens)[chosen].sum() == 0:
            raise DataError(f"{what} has no {name} text with tokens, so it has no difference of means; give a corpus that has both")
    differences = mean_differences(document_means, n_tokens, csr_matrix(positive[:, None]), np.arange(len(positive)))
    return np.asarray(differences[0])


def decoder_cosines(dictionary: Dictionary, directions: NDArray[np.floating]) -> NDArray[np.float64]:
    """Cosines of every feature's decoder row with directions ``[k, d_in]``: ``[k, d_sae]``.

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


def positives(bench: Bench, concepts: Sequence[Concept]) -> csr_matrix:
    """scipy csr ``[texts, concepts]`` of 0/1: the text has the concept's label (never, for a concept without one)."""
    from scipy.sparse import csr_matrix

    texts = [bench.labels.of(concept.label) for concept in concepts]
    columns = np.repeat(np.arange(len(texts)), [len(part) for part in texts])
    rows = np.concatenate([np.empty(0, np.int64), *texts])
    return csr_matrix((np.ones(len(rows), np.uint8), (rows, columns)), shape=(len(bench.corpus), len(concepts)))


def split_texts(bench: Bench, held_out: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(the texts that choose, the texts that only report): a random ``held_out`` share reports, the same for all labelers of a run.

    Copies of one text (the same tokens) stay on one side, else what chose would report, too; so the shares are only about right where there are many.
    """
    n = len(bench.corpus)
    order = bench.rng("held-out-texts").permutation(n)
    chooses = np.zeros(n, dtype=bool)
    chooses[order[: n - round(n * held_out)]] = True
    rows = bench.corpus_tokens
    first: dict[bytes, int] = {}
    copies = 0
    for text in range(n):
        content = hashlib.blake2b(np.ascontiguousarray(rows[text]).tobytes(), digest_size=12).digest()
        original = first.setdefault(content, text)
        if original != text:
            chooses[text] = chooses[original]
            copies += 1
    if copies and held_out:
        bench.warn(f"corpus: {copies} of {n} texts are copies of others; copies are on one side of the split into texts that choose and that report")
    return np.flatnonzero(chooses), np.flatnonzero(~chooses)


def label_cosines(bench: Bench, dictionary: str, concepts: Sequence[Concept], texts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Cosine of every decoder row with every concept's difference of means over ``texts``: ``[concepts, d_sae]``.

    NaN, which passes no filter, for a concept that has no positive or no negative among ``texts``.
    """
    return decoder_cosines(bench.dictionaries[dictionary], label_directions(bench, dictionary, concepts, texts))


def label_directions(bench: Bench, dictionary: str, concepts: Sequence[Concept], texts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Each concept's difference of means over ``texts`` at a dictionary's site, ``[concepts, d_model]``; see :func:`mean_differences`."""
    statistics = bench.statistics(dictionary)
    return mean_differences(statistics.document_means, statistics.n_tokens, positives(bench, concepts), texts)


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
