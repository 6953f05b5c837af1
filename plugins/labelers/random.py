"""Random features, the control that any labeler must beat: drawn uniformly from the features that fire on the corpus.

With the corpus' labels it controls for a labeler. With Neuronpedia's explanations it is the "NP random" baseline of Jørgensen & Hansen (2026):
features that nobody chose, under the label that others gave them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from harness import hookimpl
from harness.errors import OptionError
from harness.labelling.options import FilterOptions, traits_of
from harness.options import filter_field, input_field
from harness.types import Abstention, Concept, FeatureRef, Labeling

if TYPE_CHECKING:
    from harness.contracts import Bench
    from harness.labelling.filters import CausalFilter


class RandomOptions(FilterOptions):
    """Options of ``random``."""

    features_per_label: int = filter_field(1, ge=1)
    """Fixed mode: features that one concept gets. In chosen mode each pair has one."""
    count: int = Field(100, ge=1)
    """Chosen mode: the number of (feature, label) pairs drawn, none twice."""
    labels: Literal["corpus", "neuronpedia"] = "corpus"
    """Chosen mode: what drawn features are labelled with: labels of the corpus, drawn too, or their own explanations ("NP random")."""
    explanations: str = input_field("bulk")
    """Where Neuronpedia's explanations come from: `bulk` (the public bucket), `api`, or a local export (a file or folder)."""
    model_id: str | None = None
    """Neuronpedia's name of the model; none takes it from the dictionary's metadata, or from a local export of one source."""
    source_id: str | None = None
    """Neuronpedia's name of the SAE; none as for model_id."""
    base_url: str | None = None
    """Another server in place of Neuronpedia's API or bucket."""


class RandomFeatures:
    """Draws features as the module describes; implements :class:`harness.contracts.Labeler`."""

    def __init__(self, options: RandomOptions) -> None:
        self.options = options
        self.traits = traits_of(options, None if options.min_cosine is not None else "nothing")

    def label(self, bench: Bench, concepts: Sequence[Concept]) -> list[Labeling | Abstention]:
        from harness.labelling.filters import CausalFilter

        name = bench.dictionary_name(self.options.dictionary)
        causal = CausalFilter(bench, name, self.options, "random")
        if self.options.labels == "neuronpedia":
            return self._warn_if_few(bench, causal, list(self._explained(bench, name, causal)))
        pools = self._pools(bench, concepts)
        if bench.concept_mode == "chosen":
            return self._warn_if_few(bench, causal, list(self._choose(bench, name, concepts, pools, causal)))
        answers: list[Labeling | Abstention] = []
        for concept, pool in zip(concepts, pools, strict=True):
            drawn = causal.first(bench.rng("random-features", concept.id).permutation(pool), self.options.features_per_label)
            if len(drawn) < self.options.features_per_label:
                reason = f"{len(drawn)} features pass the filters; {self.options.features_per_label} are to be drawn"
                answers.append(Abstention(concept, reason))
                continue
            answers.append(Labeling(concept, tuple(FeatureRef(name, j) for j in drawn), None, {"drawn_from": len(pool)}))
        return answers

    def _warn_if_few(self, bench: Bench, causal: CausalFilter, drawn: list[Labeling | Abstention]) -> list[Labeling | Abstention]:
        if len(drawn) < self.options.count:
            bench.warn(f"random: {len(drawn)} pairs could be drawn where count asks for {self.options.count}{causal.summary}")
        return drawn

    def _choose(
        self, bench: Bench, name: str, concepts: Sequence[Concept], pools: Sequence[np.ndarray[Any, Any]], causal: CausalFilter
    ) -> Iterator[Labeling]:
        """Draw labels uniformly among those that still have a feature to draw, and for each a feature uniformly among those left for it."""
        orders = [causal.passing(bench.rng("random-features", c.id).permutation(pool)) for c, pool in zip(concepts, pools, strict=True)]
        following = [next(order, None) for order in orders]
        open_places = [place for place, feature in enumerate(following) if feature is not None]
        draw = bench.rng("random-labels")
        for _ in range(self.options.count):
            if not open_places:
                return
            place = open_places[int(draw.integers(len(open_places)))]
            feature = following[place]
            assert feature is not None
            yield Labeling(concepts[place], (FeatureRef(name, feature),), None, {"drawn_from": len(pools[place])})
            following[place] = next(orders[place], None)
            if following[place] is None:
                open_places.remove(place)

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
        order = bench.rng("random-features").permutation(np.asarray(bench.statistics(name).live))
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


@hookimpl
def harness_register_labelers(registry: Any) -> None:
    registry.add("random", RandomFeatures, options=RandomOptions, summary="features drawn uniformly from those that fire on the corpus (control)")
