"""A random direction of equal norm, the control that says whether a feature's direction matters: as long as what ``sae-add`` would add.

For each concept one direction is drawn, uniform on the sphere, and scaled to the length that the labeling's decoder rows have together at that
strength. So it pushes as hard as the feature does, and along nothing. (Clamping pushes as hard as adding where the
feature is silent, which is nearly everywhere.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field

from harness import hookimpl
from harness.contracts import SteererTraits
from harness.interventions import Intervention, Site
from harness.options import Options
from harness.steering.scales import AXBENCH_GRID, NORM_GRID, FeatureScales, FeatureUnit
from harness.types import Labeling

if TYPE_CHECKING:
    from harness.contracts import Bench


class RandomDirectionOptions(Options):
    """Options of ``random-direction``: those of the steerer that it is a control of."""

    unit: FeatureUnit = "residual-norm"
    """What a strength of 1 is: the feature's largest activation on the corpus, or the edit that is as long as the mean residual norm."""
    quantile: float = Field(1.0, gt=0, le=1)
    """With max-activation: this quantile of the feature's largest activations in the texts where it fires; 1 is the maximum itself."""


class RandomDirection:
    """See the module. Implements :class:`harness.contracts.Steerer`; strength 0 changes nothing."""

    def __init__(self, options: RandomDirectionOptions) -> None:
        self.options = options
        grid = AXBENCH_GRID if options.unit == "max-activation" else NORM_GRID
        self.traits = SteererTraits(
            unit=options.unit, grid=grid, neutral=0.0, needs_features=True, control="random direction", suppresses="negate"
        )

    def prepare(self, bench: Bench, labelings: Sequence[Labeling]) -> None:
        self._scales = FeatureScales(bench, labelings, self.options.unit, self.options.quantile)
        self._bench = bench

    def intervene(self, labeling: Labeling, strength: float) -> Intervention:
        import torch

        from harness.steering.add_vector import AddVector

        edits = []
        for name in dict.fromkeys(feature.dictionary for feature in labeling.features):
            dictionary = self._bench.dictionaries[name]
            added = self._scales.added(labeling, name, dictionary, strength)
            drawn = torch.from_numpy(self._bench.rng("random-direction", f"{labeling.concept.id}\x1f{name}").standard_normal(len(added))).float()
            vector = (drawn / drawn.norm()).to(added.device) * added.norm() * (1 if strength >= 0 else -1)
            edits.append(AddVector(Site(dictionary.layer), vector, self._bench.positions))
        return Intervention(edits=tuple(edits))


@hookimpl
def harness_register_steerers(registry: Any) -> None:
    registry.add(
        "random-direction",
        RandomDirection,
        options=RandomDirectionOptions,
        summary="a random direction as long as what sae-add adds (control, --controls full)",
    )
