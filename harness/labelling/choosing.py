"""From scores of (concept, feature) pairs to answers: filters, caps, and the reasons for abstentions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from harness.labelling.explained import ExplainedFilter
from harness.labelling.filters import AT_ONCE, CausalFilter, descending
from harness.types import Abstention, FeatureRef, Json, Labeling

if TYPE_CHECKING:
    from harness.labelling.labelled_corpus import Pair, Study
    from harness.labelling.options import PairOptions

Elsewhere = Callable[[list[int]], NDArray[np.float64]]
"""Places of concepts → the scores ``[those concepts, d_sae]`` that the same rule gives on the texts that only report."""

Explain = Callable[[Sequence["Pair"]], Sequence[dict[str, Json]]]
"""Pairs that were chosen → the evidence of each."""

_CONCEPTS_AT_ONCE = 64
_WINDOW = 1 << 16


class Chooser:
    """Chooses features for the concepts of a study, within a labeler's filters and caps.

    Args:
        study: what is labelled.
        options: filters, least support, and how many pairs.
        who: the labeler's name, for warnings.
    """

    def __init__(self, study: Study, options: PairOptions, who: str) -> None:
        self.study, self.options, self._who = study, options, who
        self.explained = ExplainedFilter(study.bench, study.name, options, who) if options.labels == "neuronpedia" else None
        self.filter = self.explained or CausalFilter(study.bench, study.name, options, who)
        self.least = options.min_support or study.bench.min_support

    @property
    def eligible(self) -> NDArray[np.bool_]:
        """Return ``[concepts]``: enough texts have the label, and among those that choose there are some with it and some without."""
        study = self.study
        both = (study.chosen_support > 0) & (study.chosen_support < len(study.choose))
        return both & (study.support >= self.least)

    def answers(
        self, scores: NDArray[np.float64], above: float, explain: Explain, elsewhere: Elsewhere | None = None
    ) -> list[Labeling | Abstention]:
        """Choose by a score: one answer per concept in fixed mode, the best pairs in chosen mode.

        The evidence of the first feature of an answer has ``other_half``: the feature that the same rule and the same filters choose for the concept
        on the texts that only report, or null where none passes there. It is absent where those texts hold too few of the concept to choose by.

        Args:
            scores: ``[concepts, d_sae]``; NaN for a pair without a score. Changed in place.
            above: only a greater score is an answer.
            explain: evidence of the pairs that were chosen.
            elsewhere: the scores on the texts that only report; None: they are not asked.
        """
        self._exclude(scores, np.arange(len(scores)), self.eligible, self.study.choose)
        if self.study.bench.concept_mode == "chosen":
            found = [(place, [feature]) for place, feature in self._named_once(self._chosen(scores, above))]
            if not found or (len(found) < self.options.top_k and self.filter.active):
                self.study.bench.warn(f"{self._who}: {len(found)} pairs were found where top_k asks for {self.options.top_k}{self.filter.summary}")
        else:
            n = self.options.features_per_label
            found = [(place, self._best(scores[place], above, n)) for place in range(len(self.study.concepts))]
        pairs = [(place, feature) for place, features in found for feature in features]
        evidence = iter(self._with_other_half(pairs, explain(pairs), above, elsewhere))
        return [self._answer(place, features, scores, [next(evidence) for _ in features]) for place, features in found]

    def _named_once(self, pairs: Iterator[Pair]) -> Iterator[Pair]:
        """Yield pairs; where features are called by their explanations, each feature once: two labels of one would be one concept twice."""
        seen: set[int] = set()
        for place, feature in pairs:
            if self.explained is None or feature not in seen:
                seen.add(feature)
                yield place, feature

    def _exclude(
        self, scores: NDArray[np.float64], places: NDArray[np.int64], eligible: NDArray[np.bool_], texts: NDArray[np.int64]
    ) -> None:
        """Set the scores ``[places, d_sae]`` of pairs that the cheap filters rule out on ``texts`` to −∞."""
        scores[~eligible] = -np.inf
        if self.options.min_cosine is None:
            return
        from harness.labelling.splits import label_directions
        from harness.sae.directions import decoder_cosines

        study = self.study
        study.bench.warn(
            f"{self._who}: features were filtered by their cosine with the difference of means (min_cosine), which is not in the paper"
        )
        directions = label_directions(study.bench, study.name, [study.concepts[place] for place in places], texts)
        for start in range(0, len(directions), _CONCEPTS_AT_ONCE):
            part = slice(start, start + _CONCEPTS_AT_ONCE)
            # a concept without a direction has no cosine: NaN is not as large as any limit
            scores[part][~(decoder_cosines(study.bench.dictionaries[study.name], directions[part]) >= self.options.min_cosine)] = -np.inf

    def _with_other_half(
        self, pairs: Sequence[Pair], evidence: Sequence[dict[str, Json]], above: float, elsewhere: Elsewhere | None
    ) -> list[dict[str, Json]]:
        """Return the evidence with what the same rule chooses on the texts that only report, beside the first feature of each concept."""
        chosen = self._elsewhere(sorted({place for place, _ in pairs}), above, elsewhere)
        found, seen = [], set()
        for (place, _), row in zip(pairs, evidence, strict=True):
            found.append({**row, "other_half": chosen[place]} if place in chosen and place not in seen else row)
            seen.add(place)
        return found

    def _elsewhere(self, places: list[int], above: float, elsewhere: Elsewhere | None) -> dict[int, int | None]:
        study = self.study
        if elsewhere is None or not len(study.report) or not places:
            return {}
        support = study.support - study.chosen_support
        places = [place for place in places if 0 < support[place] < len(study.report)]
        if not places:
            return {}
        scores = elsewhere(places)
        self._exclude(scores, np.array(places), np.ones(len(places), dtype=bool), study.report)
        return {place: next(iter(self._best(row, above, 1)), None) for place, row in zip(places, scores, strict=True)}

    def _answer(
        self, place: int, features: list[int], scores: NDArray[np.float64], evidence: list[dict[str, Json]]
    ) -> Labeling | Abstention:
        concept = self.study.concepts[place]
        if not features:
            return Abstention(concept, self._why_none(place))
        named = tuple(FeatureRef(self.study.name, feature) for feature in features)
        if self.explained is not None:
            concept, about = self.explained.named(concept, features[0])
            evidence = [{**evidence[0], **about}]
        return Labeling(concept, named, float(scores[place, features[0]]), {"features": evidence})

    def _why_none(self, place: int) -> str:
        study, concept = self.study, self.study.concepts[place]
        if concept.label is None:
            return "the concept names no label of the corpus"
        if study.support[place] < self.least:
            return f"label {concept.label!r} has {study.support[place]} texts; {self.least} are needed"
        if not self.eligible[place]:
            which = "all" if study.chosen_support[place] else "none"
            return f"label {concept.label!r} is on {which} of the {len(study.choose)} texts that choose (held_out={self.options.held_out:g})"
        return f"no feature that passes the filters fires on the texts of label {concept.label!r}"

    def _best(self, scores: NDArray[np.float64], above: float, n: int) -> list[int]:
        """Return the best ``n`` features of one concept."""
        best: list[int] = []
        for piece in descending(scores, above):
            best += self.filter.first(piece, n - len(best))
            if len(best) == n:
                break
        return best

    def _chosen(self, scores: NDArray[np.float64], above: float) -> Iterator[Pair]:
        """Yield the best pairs over all concepts, within the caps per label and per feature."""
        options = self.options
        per_label, per_feature = np.zeros(len(scores), dtype=int), np.zeros(scores.shape[1], dtype=int)
        left, candidates = options.top_k, np.array([bool((row > above).any()) for row in scores], dtype=bool)
        for piece in descending(scores, above):
            for start in range(0, len(piece), _WINDOW):
                places, features = np.divmod(piece[start : start + _WINDOW], scores.shape[1])
                while len(places):
                    # what is over a cap needs no causal score, and the caps are asked again after as many as are computed at once
                    still = np.flatnonzero((per_label[places] < options.features_per_label) & (per_feature[features] < options.labels_per_feature))
                    taken = still[:AT_ONCE]
                    passed = taken[self.filter.passes(features[taken])]
                    for place, feature in zip(places[passed].tolist(), features[passed].tolist(), strict=True):
                        if per_label[place] < options.features_per_label and per_feature[feature] < options.labels_per_feature:
                            per_label[place] += 1
                            per_feature[feature] += 1
                            yield place, feature
                            left -= 1
                            if not left:
                                return
                    places, features = places[still[AT_ONCE:]], features[still[AT_ONCE:]]
            if (per_label[candidates] >= options.features_per_label).all():
                return
