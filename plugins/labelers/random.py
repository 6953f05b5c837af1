"""Random features: the control that any labeler must beat. Uniform over the features that fire on the corpus at all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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

    features_per_label: int = filter_field(1, ge=1)
    """Fixed mode: features that one concept gets. In chosen mode each pair has one."""
    count: int = Field(100, ge=1)
    """Chosen mode: the number of (feature, label) pairs drawn, none twice."""
    min_cosine: float | None = filter_field(None, ge=-1, le=1)
    """Draw only among features whose decoder row has at least this cosine with the label's difference of means (for a filtered labeler's control)."""
    held_out: float = filter_field(0.5, ge=0, lt=1)
    """Share of the corpus that min_cosine does not see, as in the labeler that is controlled for."""
    dictionary: str | None = filter_field(None)
    """The task's dictionary to draw from; none takes its first."""


class RandomFeatures:
    """See the module. Implements :class:`harness.contracts.Labeler`."""

    def __init__(self, options: RandomOptions) -> None:
        self.options = options

    def label(self, bench: Bench, concepts: Sequence[Concept]) -> list[Labeling | Abstention]:
        pools = self._pools(bench, concepts)
        name = self.options.dictionary or next(iter(bench.dictionaries))
        if bench.concept_mode == "chosen":
            return list(self._choose(bench, name, concepts, pools))
        answers: list[Labeling | Abstention] = []
        for concept, pool in zip(concepts, pools, strict=True):
            if len(pool) < self.options.features_per_label:
                reason = f"{len(pool)} features pass the filters; {self.options.features_per_label} are to be drawn"
                answers.append(Abstention(concept, reason))
                continue
            drawn = bench.rng("random-features", concept.id).choice(pool, size=self.options.features_per_label, replace=False)
            answers.append(Labeling(concept, tuple(FeatureRef(name, int(j)) for j in drawn), None, {"drawn_from": len(pool)}))
        return answers

    def _choose(self, bench: Bench, name: str, concepts: Sequence[Concept], pools: Sequence[np.ndarray[Any, Any]]) -> Iterator[Labeling]:
        """Labels uniformly among those that still have a feature to draw; for each, features uniformly among those that it has not got."""
        orders = [list(bench.rng("random-features", c.id).permutation(pool)) for c, pool in zip(concepts, pools, strict=True)]
        open_places = [place for place, order in enumerate(orders) if order]
        draw = bench.rng("random-labels")
        for _ in range(self.options.count):
            if not open_places:
                return
            place = open_places[int(draw.integers(len(open_places)))]
            yield Labeling(concepts[place], (FeatureRef(name, int(orders[place].pop())),), None, {"drawn_from": len(pools[place])})
            if not orders[place]:
                open_places.remove(place)

    def _pools(self, bench: Bench, concepts: Sequence[Concept]) -> list[np.ndarray[Any, Any]]:
        """The features that each concept may draw from: those that fire on the corpus and pass the filter."""
        live = np.asarray(bench.statistics(self.options.dictionary).live)
        if self.options.min_cosine is None:
            return [live] * len(concepts)
        from harness.sae.directions import label_cosines, split_texts

        name = self.options.dictionary or next(iter(bench.dictionaries))
        cosines = label_cosines(bench, name, concepts, split_texts(bench, self.options.held_out)[0])
        return [live[row[live] >= self.options.min_cosine] for row in cosines]


@hookimpl
def harness_register_labelers(registry: Any) -> None:
    registry.add("random", RandomFeatures, options=RandomOptions, summary="features drawn uniformly from those that fire on the corpus (control)")
