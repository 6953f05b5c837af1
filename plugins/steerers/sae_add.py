"""Adding the decoder row: x' = x + c · d̃_j. AxBench's published SAE rows add factor × maximum activation × decoder row (Wu et al. 2025)."""

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


class AddOptions(Options):
    """Options of ``sae-add``."""

    unit: FeatureUnit = "max-activation"
    """What a strength of 1 is: the feature's largest activation on the corpus, or the edit that is as long as the mean residual norm."""
    quantile: float = Field(1.0, gt=0, le=1)
    """With max-activation: this quantile of the feature's largest activations in the texts where it fires; 1 is the maximum itself."""


class Add:
    """See the module. Implements :class:`harness.contracts.Steerer`; strength 0 changes nothing."""

    def __init__(self, options: AddOptions) -> None:
        self.options = options
        grid = AXBENCH_GRID if options.unit == "max-activation" else NORM_GRID
        self.traits = SteererTraits(unit=options.unit, grid=grid, neutral=0.0, needs_features=True, suppresses="negate")

    def prepare(self, bench: Bench, labelings: Sequence[Labeling]) -> None:
        self._scales = FeatureScales(bench, labelings, self.options.unit, self.options.quantile)
        self._dictionaries, self._positions = bench.dictionaries, bench.positions

    def intervene(self, labeling: Labeling, strength: float) -> Intervention:
        from harness.steering.add_vector import AddVector

        edits = []
        for name in dict.fromkeys(feature.dictionary for feature in labeling.features):
            dictionary = self._dictionaries[name]
            edits.append(AddVector(Site(dictionary.layer), self._scales.added(labeling, name, dictionary, strength), self._positions))
        return Intervention(edits=tuple(edits))


@hookimpl
def harness_register_steerers(registry: Any) -> None:
    registry.add("sae-add", Add, options=AddOptions, summary="add the features' decoder rows (AxBench's published SAE rows)")
