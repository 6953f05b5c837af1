"""Difference of means (DiffMean; Marks & Tegmark 2023, AxBench's strongest simple direction): add mean(positives) − mean(other texts).

Needs no dictionary and no feature: only the corpus' labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from harness import hookimpl
from harness.contracts import SteererTraits
from harness.errors import DataError
from harness.interventions import Intervention
from harness.options import Options
from harness.steering.scales import NORM_GRID
from harness.types import Labeling

if TYPE_CHECKING:
    from harness.contracts import Bench


class DiffMeanOptions(Options):
    """``diff-mean`` has no options: layer and tokens are the task's."""


class DiffMean:
    """See the module. Implements :class:`harness.contracts.Steerer`; strengths are shares of the mean residual norm, 0 changes nothing."""

    traits = SteererTraits(unit="residual-norm", grid=NORM_GRID, neutral=0.0, needs_features=False, suppresses="negate")

    def __init__(self, options: DiffMeanOptions) -> None:
        self.options = options

    def prepare(self, bench: Bench, labelings: Sequence[Labeling]) -> None:
        from harness.sae.directions import mean_difference

        residuals = bench.residual_means()
        self._norm = residuals.mean_norm
        self._site, self._positions = bench.site, bench.positions
        self._directions: dict[str, np.ndarray[Any, Any]] = {}
        for concept in {labeling.concept.id: labeling.concept for labeling in labelings}.values():
            if concept.label is None:
                message = f"concept {concept.id!r} names no label of the corpus, and diff-mean needs labelled texts"
                raise DataError(message, given=concept.id, hint="leave it out")
            positive = np.zeros(len(bench.corpus), dtype=bool)
            positive[bench.labels.of(concept.label)] = True
            direction = mean_difference(residuals.means, residuals.n_tokens, positive, f"concept {concept.id!r}")
            length = float(np.linalg.norm(direction))
            if not length > 0:
                message = f"concept {concept.id!r}: its texts and the others have the same mean, so no direction leads to it"
                raise DataError(message, given=concept.id, hint="leave it out")
            self._directions[concept.id] = direction / length

    def intervene(self, labeling: Labeling, strength: float) -> Intervention:
        import torch

        from harness.steering.add_vector import AddVector

        vector = torch.from_numpy(strength * self._norm * self._directions[labeling.concept.id]).float()
        return Intervention(edits=(AddVector(self._site, vector, self._positions),))


@hookimpl
def harness_register_steerers(registry: Any) -> None:
    registry.add("diff-mean", DiffMean, options=DiffMeanOptions, summary="add the label's difference of means (no SAE)")
