"""Random features: the control that any labeler must beat. Uniform over the features that fire on the corpus at all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from harness import hookimpl
from harness.options import Options, filter_field
from harness.types import Abstention, Concept, FeatureRef, Labeling

if TYPE_CHECKING:
    from harness.contracts import Bench


class RandomOptions(Options):
    """Options of ``random``."""

    features_per_label: int = Field(1, ge=1)
    """Features that one concept gets."""
    count: int = Field(100, ge=1)
    """Chosen mode: the number of (feature, label) pairs drawn."""
    min_cosine: float | None = filter_field(None, ge=-1, le=1)
    """Draw only among features whose decoder row has at least this cosine with the label's difference of means (for a filtered labeler's control)."""
    dictionary: str | None = None
    """The task's dictionary to draw from; none takes its first."""


class RandomFeatures:
    """See the module. Implements :class:`harness.contracts.Labeler`."""

    def __init__(self, options: RandomOptions) -> None:
        self.options = options

    def label(self, bench: Bench, concepts: Sequence[Concept]) -> list[Labeling | Abstention]:
        name = self.options.dictionary or next(iter(bench.dictionaries))
        if bench.concept_mode == "chosen":
            labels = bench.rng("random-labels").integers(len(concepts), size=self.options.count)
            asked = [(concepts[int(i)], f"{concepts[int(i)].id}/{place}") for place, i in enumerate(labels)]
        else:
            asked = [(concept, concept.id) for concept in concepts]
        return [self._draw(bench, name, concept, item) for concept, item in asked]

    def _draw(self, bench: Bench, name: str, concept: Concept, item: str) -> Labeling | Abstention:
        pool = np.asarray(bench.statistics(name).live)
        if self.options.min_cosine is not None:
            pool = self._filtered(bench, name, concept, pool)
        if len(pool) < self.options.features_per_label:
            return Abstention(concept, f"{len(pool)} features pass the filters; {self.options.features_per_label} are to be drawn")
        drawn = bench.rng("random-features", item).choice(pool, size=self.options.features_per_label, replace=False)
        return Labeling(concept, tuple(FeatureRef(name, int(feature)) for feature in drawn), None, {"drawn_from": len(pool)})

    def _filtered(self, bench: Bench, name: str, concept: Concept, pool: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        from harness.sae.directions import decoder_cosines, mean_difference

        positive = np.array([concept.label is not None and concept.label in document.labels for document in bench.corpus], dtype=bool)
        if not positive.any() or positive.all():
            return pool[:0]
        statistics = bench.statistics(name)
        direction = mean_difference(statistics.document_means, statistics.n_tokens, positive, f"concept {concept.id!r}")
        passes = decoder_cosines(bench.dictionaries[name], direction)[pool] >= (self.options.min_cosine or 0.0)
        return np.asarray(pool[passes])


@hookimpl
def harness_register_labelers(registry: Any) -> None:
    registry.add("random", RandomFeatures, options=RandomOptions, summary="features drawn uniformly from those that fire on the corpus (control)")
