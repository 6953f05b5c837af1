"""Texts that choose and texts that report, and the directions of labels in the residual stream."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from harness.data.split import choosing, originals
from harness.sae.directions import decoder_cosines, mean_differences

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from harness.contracts import Bench
    from harness.types import Concept


def positives(bench: Bench, concepts: Sequence[Concept]) -> csr_matrix:
    """Return a scipy csr matrix ``[texts, concepts]`` of 0/1: the text has the concept's label (never, for a concept without one)."""
    from scipy.sparse import csr_matrix

    texts = [bench.labels.of(concept.label) for concept in concepts]
    columns = np.repeat(np.arange(len(texts)), [len(part) for part in texts])
    rows = np.concatenate([np.empty(0, np.int64), *texts])
    return csr_matrix((np.ones(len(rows), np.uint8), (rows, columns)), shape=(len(bench.corpus), len(concepts)))


def split_texts(bench: Bench, held_out: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the texts that choose and the texts that only report: a random ``held_out`` share, the same for all labelers of a run.

    Copies of one text (the same tokens) stay on one side, else a text that chose would also report; so with many copies the shares are not exact.
    """
    n = len(bench.corpus)
    first = originals(bench.corpus_tokens)
    chooses = choosing(bench.rng("held-out-texts").permutation(n), held_out)[first]
    copies = int((first != np.arange(n)).sum())
    if copies and held_out:
        bench.warn(f"corpus: {copies} of {n} texts are copies of others; copies are on one side of the split into texts that choose and that report")
    return np.flatnonzero(chooses), np.flatnonzero(~chooses)


def label_cosines(bench: Bench, dictionary: str, concepts: Sequence[Concept], texts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the cosine of every decoder row with every concept's difference of means over ``texts``: ``[concepts, d_sae]``.

    It is NaN, which passes no filter, for a concept that has no positive or no negative among ``texts``.
    """
    return decoder_cosines(bench.dictionaries[dictionary], label_directions(bench, dictionary, concepts, texts))


def label_directions(bench: Bench, dictionary: str, concepts: Sequence[Concept], texts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return each concept's difference of means over ``texts`` at a dictionary's site, ``[concepts, d_model]``; see :func:`mean_differences`."""
    statistics = bench.statistics(dictionary)
    return mean_differences(statistics.document_means, statistics.n_tokens, positives(bench, concepts), texts)
