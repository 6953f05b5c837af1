"""What a labeler works on: the corpus' labels and feature statistics, the texts that choose and those that report, and choosing with caps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from harness.labelling.filters import AT_ONCE, CausalFilter, descending
from harness.types import Abstention, Concept, FeatureRef, Json, Labeling

if TYPE_CHECKING:
    from harness.contracts import Bench
    from harness.labelling.options import PairOptions

Pair = tuple[int, int]
"""(place of the concept, feature)."""
Explain = Callable[[Sequence[Pair]], Sequence[dict[str, Json]]]
"""Pairs that were chosen → the evidence of each."""


class Study:
    """One labelling of ``concepts`` with the features of one dictionary, by any score of (label, feature) pairs.

    Attributes:
        concepts: what is to be labelled, in order; arrays ``[concepts, …]`` follow it.
        name: the dictionary's name.
        statistics: what one pass over the corpus found (see :class:`harness.sae.statistics.CorpusStatistics`).
        positive: scipy csr ``[texts, concepts]`` of 0/1: the text has the concept's label.
        support: ``[concepts]``, positives in the whole corpus.
        choose, report: the texts that choose, and those that only report (none with ``held_out`` 0).
    """

    def __init__(self, bench: Bench, options: PairOptions, concepts: Sequence[Concept], who: str) -> None:
        """``who`` is the labeler's name, for warnings."""
        from harness.sae.directions import positives, split_texts

        self.bench, self.options, self.concepts, self._who = bench, options, list(concepts), who
        self.name = bench.dictionary_name(options.dictionary)
        self.statistics = bench.statistics(self.name)
        self.positive = positives(bench, concepts)
        self.support = np.asarray(self.positive.sum(axis=0)).ravel().astype(np.int64)
        self.choose, self.report = split_texts(bench, options.held_out)
        self.filter = CausalFilter(bench, self.name, options)
        self.least = options.min_support or bench.min_support

    # -- answering

    def answers(self, scores: NDArray[np.float64], above: float, explain: Explain) -> list[Labeling | Abstention]:
        """Answers by a score: one a concept in fixed mode, the best pairs in chosen mode, in both within the options' caps and filters.

        Args:
            scores: ``[concepts, d_sae]``; NaN for a pair without a score. Changed in place.
            above: only a greater score is an answer.
            explain: evidence of the pairs that were chosen.
        """
        self._exclude(scores)
        if self.bench.concept_mode == "chosen":
            found = [(place, [feature]) for place, feature in self._chosen(scores, above)]
        else:
            found = [(place, self._best(scores[place], above)) for place in range(len(self.concepts))]
        pairs = [(place, feature) for place, features in found for feature in features]
        evidence = iter(explain(pairs))
        return [self._answer(place, features, scores, [next(evidence) for _ in features]) for place, features in found]

    def _exclude(self, scores: NDArray[np.float64]) -> None:
        """Pairs that the cheap filters rule out get −∞."""
        if self.options.min_cosine is not None:
            from harness.sae.directions import label_cosines

            self.bench.warn(
                f"{self._who}: features were filtered by their cosine with the difference of means (min_cosine), which is not in the paper"
            )
            scores[label_cosines(self.bench, self.name, self.concepts, self.choose) < self.options.min_cosine] = -np.inf
        scores[(self.support < self.least) | (self.support == 0)] = -np.inf

    def _answer(
        self, place: int, features: list[int], scores: NDArray[np.float64], evidence: list[dict[str, Json]]
    ) -> Labeling | Abstention:
        concept = self.concepts[place]
        if features:
            named = tuple(FeatureRef(self.name, feature) for feature in features)
            return Labeling(concept, named, float(scores[place, features[0]]), {"features": evidence})
        if concept.label is None:
            return Abstention(concept, "the concept names no label of the corpus")
        if self.support[place] < self.least:
            return Abstention(concept, f"label {concept.label!r} has {self.support[place]} texts; {self.least} are needed")
        return Abstention(concept, f"no feature that passes the filters fires on the texts of label {concept.label!r}")

    def _best(self, scores: NDArray[np.float64], above: float) -> list[int]:
        """The best features of one concept."""
        best: list[int] = []
        for piece in descending(scores, above):
            best += self.filter.first(piece, self.options.features_per_label - len(best))
            if len(best) == self.options.features_per_label:
                break
        return best

    def _chosen(self, scores: NDArray[np.float64], above: float) -> Iterator[tuple[int, int]]:
        """The best pairs over all concepts, within the caps a label and a feature."""
        per_label, per_feature = np.zeros(len(self.concepts), dtype=int), np.zeros(scores.shape[1], dtype=int)
        left = self.options.top_k
        for piece in descending(scores, above):
            for place, feature in self._within_filters(piece, scores.shape[1]):
                if per_label[place] >= self.options.features_per_label or per_feature[feature] >= self.options.labels_per_feature:
                    continue
                per_label[place] += 1
                per_feature[feature] += 1
                yield place, feature
                left -= 1
                if not left:
                    return

    def _within_filters(self, piece: NDArray[np.int64], d_sae: int) -> Iterator[tuple[int, int]]:
        """(place of the concept, feature) of the flat places whose feature passes the causal filters, some at a time."""
        for start in range(0, len(piece), AT_ONCE):
            places, features = np.divmod(piece[start : start + AT_ONCE], d_sae)
            passed = self.filter.passes(features)
            yield from zip(places[passed].tolist(), features[passed].tolist(), strict=True)
