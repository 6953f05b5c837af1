"""What a labeler works on: the corpus' labels and feature statistics, the texts that choose and those that report."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from harness.types import Concept

if TYPE_CHECKING:
    from scipy.sparse import csc_matrix

    from harness.contracts import Bench

Pair = tuple[int, int]
"""(place of the concept, feature)."""


class Study:
    """Concepts, the features of one dictionary, and the texts that connect them.

    Args:
        bench: the bench.
        concepts: what is to be labelled; arrays ``[concepts, …]`` follow their order.
        dictionary: its name; None takes the task's first.
        held_out: share of the corpus that is only reported on.

    Attributes:
        name: the dictionary's name.
        statistics: what one pass over the corpus found (see :class:`harness.sae.corpus.collect.CorpusStatistics`).
        positive: scipy csr ``[texts, concepts]`` of 0/1: the text has the concept's label.
        choose, report: the texts that choose, and those that only report (none with ``held_out`` 0).
    """

    def __init__(self, bench: Bench, concepts: Sequence[Concept], dictionary: str | None, held_out: float) -> None:
        from harness.labelling.splits import positives, split_texts

        self.bench, self.concepts = bench, list(concepts)
        self.name = bench.dictionary_name(dictionary)
        self.statistics = bench.statistics(self.name)
        self.positive = positives(bench, concepts)
        self.choose, self.report = split_texts(bench, held_out)

    @cached_property
    def columns(self) -> csc_matrix:
        """:attr:`positive` by concept."""
        return self.positive.tocsc()

    @cached_property
    def support(self) -> NDArray[np.int64]:
        """Return ``[concepts]``: positives in the whole corpus."""
        return np.asarray(np.diff(self.columns.indptr), dtype=np.int64)

    @cached_property
    def chosen_support(self) -> NDArray[np.int64]:
        """Return ``[concepts]``: positives among the texts that choose."""
        return np.asarray(self.positive[self.choose].sum(axis=0)).ravel().astype(np.int64)
