"""Random features, the control that any labeler must beat: drawn uniformly from the features that fire on the corpus.

With the corpus' labels it controls for a labeler. With Neuronpedia's explanations it is the "NP random" baseline of Jørgensen & Hansen (2026):
features that nobody chose, under the label that others gave them. Beside a labeler that chooses its own concepts it answers those.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from harness import hookimpl
from harness.errors import OptionError
from harness.labelling.drawing import arrivals, in_drawn_order
from harness.labelling.options import ExplanationOptions, FilterOptions, traits_of
from harness.options import control_field, filter_field
from harness.types import Abstention, Concept, FeatureRef, Labeling

if TYPE_CHECKING:
    from harness.contracts import Bench
    from harness.labelling.filters import CausalFilter


class RandomOptions(FilterOptions, ExplanationOptions):
    """Options of ``random``; with ``labels = neuronpedia`` drawn features are called by their own explanations ("NP random")."""

    features_per_label: int = filter_field(1, ge=1)
    """Fixed mode: features that one concept gets. In chosen mode each pair has one."""
    count: int = Field(100, ge=1)
    """Chosen mode: the number of (feature, label) pairs drawn, none twice."""
    draws: int = control_field(1, ge=1)
    """Draws for each concept, each of other features; a concept's score is the mean over them. A task's control sets it (`draws`)."""
    follows: str | None = control_field(None)
    """Chosen mode, set where this is a control: the labeler whose concepts are answered; none draws pairs of its own."""


class RandomFeatures:
    """Draws features as the module describes; implements :class:`harness.contracts.Labeler`."""

    def __init__(self, options: RandomOptions) -> None:
        self.options = options
        self.traits = traits_of(options, None if options.min_cosine is not None else "nothing", "random features")

    def label(self, bench: Bench, concepts: Sequence[Concept]) -> list[Labeling | Abstention]:
        from harness.labelling.filters import CausalFilter

        name = bench.dictionary_name(self.options.dictionary)
        causal = CausalFilter(bench, name, self.options, "random")
        follows = self.options.follows is not None
        if self.options.labels == "neuronpedia" and not follows:
            return self._warn_if_few(bench, causal, list(self._explained(bench, name, causal)))
        pools = self._pools(bench, concepts)
        if bench.concept_mode == "chosen" and not follows:
            return self._warn_if_few(bench, causal, list(self._choose(bench, name, concepts, pools, causal)))
        return list(self._answer(bench, name, concepts, pools, causal))

    def _warn_if_few(self, bench: Bench, causal: CausalFilter, drawn: list[Labeling | Abstention]) -> list[Labeling | Abstention]:
        if len(drawn) < self.options.count:
            bench.warn(f"random: {len(drawn)} pairs could be drawn where count asks for {self.options.count}{causal.summary}")
        return drawn

    def _answer(
        self, bench: Bench, name: str, concepts: Sequence[Concept], pools: Sequence[np.ndarray[Any, Any]], causal: CausalFilter
    ) -> Iterator[Labeling | Abstention]:
        """Draw for each concept as often as the options say, and for one that comes again other features than before."""
        size = 1 if self.options.follows is not None else self.options.features_per_label
        times, orders, asked = Counter(concept.id for concept in concepts), dict[str, list[int]](), Counter[str]()
        for concept, pool in zip(concepts, pools, strict=True):
            if concept.id not in orders:
                orders[concept.id] = causal.first(_order(bench, concept, pool), size * self.options.draws * times[concept.id])
            for _ in range(self.options.draws):
                drawn = orders[concept.id][asked[concept.id] : asked[concept.id] + size]
                asked[concept.id] += size
                if len(drawn) < size:
                    wanted = size * self.options.draws * times[concept.id]
                    yield Abstention(concept, f"{len(orders[concept.id])} features pass the filters; {wanted} are to be drawn")
                else:
                    yield Labeling(concept, tuple(FeatureRef(name, j) for j in drawn), None, {"drawn_from": len(pool)})

    def _choose(
        self, bench: Bench, name: str, concepts: Sequence[Concept], pools: Sequence[np.ndarray[Any, Any]], causal: CausalFilter
    ) -> Iterator[Labeling]:
        """Draw labels uniformly among those that still have a feature to draw, and for each a feature uniformly among those left for it."""
        orders = [causal.passing(_order(bench, concept, pool)) for concept, pool in zip(concepts, pools, strict=True)]
        times = [arrivals(bench.rng("random-labels", concept.id)) for concept in concepts]
        waiting = [(next(times[place]), place) for place in range(len(concepts))]
        heapq.heapify(waiting)
        n = 0
        while waiting and n < self.options.count:
            _, place = heapq.heappop(waiting)
            feature = next(orders[place], None)
            if feature is None:
                continue
            yield Labeling(concepts[place], (FeatureRef(name, feature),), None, {"drawn_from": len(pools[place])})
            n += 1
            heapq.heappush(waiting, (next(times[place]), place))

    def _explained(self, bench: Bench, name: str, causal: CausalFilter) -> Iterator[Labeling]:
        """Draw live features uniformly among those that Neuronpedia explains, each as a concept of its own."""
        from harness.data.neuronpedia.explanations import explained_features
        from harness.data.neuronpedia.open import open_explanations

        options = self.options
        if bench.concept_mode != "chosen" or options.min_cosine is not None:
            message = "random with labels=neuronpedia takes its concepts from the explanations of features"
            if bench.concept_mode != "chosen":
                hint = "give a task in chosen mode, or leave out labels"
                raise OptionError(f"{message}, and the task is in {bench.concept_mode} mode", given=bench.concept_mode, allowed="chosen", hint=hint)
            message += f", which have no texts that min_cosine={options.min_cosine:g} could compare with"
            raise OptionError(message, given=options.min_cosine, hint="leave out min_cosine")
        labels, note = open_explanations(
            bench.dictionaries[name], options.explanations, model_id=options.model_id, source_id=options.source_id, base_url=options.base_url
        )
        if note:
            bench.warn(f"random: {note}")
        order = in_drawn_order(bench.rng("random-features"), np.asarray(bench.statistics(name).live))
        for feature, explanations in islice(explained_features(labels, causal.passing(order)), options.count):
            best = explanations[0]
            concept = Concept(f"{labels.source}/{feature}", best.text)
            yield Labeling(concept, (FeatureRef(name, feature),), None, {"drawn_from": len(order), "explained_by": best.by})
        if labels.n_unlabelled:
            bench.warn(f"random: {labels.summary()}")

    def _pools(self, bench: Bench, concepts: Sequence[Concept]) -> list[np.ndarray[Any, Any]]:
        """Return the features that each concept may draw from: those that fire on the corpus and pass the cosine filter."""
        live = np.asarray(bench.statistics(self.options.dictionary).live)
        if self.options.min_cosine is None:
            return [live] * len(concepts)
        from harness.labelling.splits import label_cosines, split_texts

        name = bench.dictionary_name(self.options.dictionary)
        cosines = label_cosines(bench, name, concepts, split_texts(bench, self.options.held_out)[0])
        return [live[row[live] >= self.options.min_cosine] for row in cosines]


def _order(bench: Bench, concept: Concept, pool: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the features of ``pool`` in the order in which they are drawn for a concept."""
    return in_drawn_order(bench.rng("random-features", concept.id), pool)


@hookimpl
def harness_register_labelers(registry: Any) -> None:
    registry.add("random", RandomFeatures, options=RandomOptions, summary="features drawn uniformly from those that fire on the corpus (control)")
