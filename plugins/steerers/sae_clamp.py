"""Clamping: set the feature to a target at every edited token and keep the reconstruction error (Templeton et al. 2024; Jørgensen & Hansen 2026)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field

from harness import hookimpl
from harness.contracts import SteererTraits
from harness.interventions import Intervention, Site
from harness.options import Options
from harness.steering.scales import NORM_GRID, FeatureScales, FeatureUnit
from harness.types import Labeling

if TYPE_CHECKING:
    from harness.contracts import Bench

AXBENCH_CLAMP_GRID = (0.4, 0.8, 1.2, 1.6, 2.0, 3.0, 4.0, 6.0, 8.0, 10.0, 20.0, 40.0, 60.0, 100.0)
"""AxBench's factors for clamping, in multiples of the maximum activation."""


class ClampOptions(Options):
    """Options of ``sae-clamp``."""

    unit: FeatureUnit = "max-activation"
    """What a strength of 1 is: the feature's largest activation on the corpus, or the edit that is as long as the mean residual norm."""
    quantile: float = Field(1.0, gt=0, le=1)
    """With max-activation: this quantile of the feature's largest activations in the texts where it fires; 1 is the maximum itself."""


class Clamp:
    """See the module. Implements :class:`harness.contracts.Steerer`. No strength is neutral: a clamp to 0 ablates the feature.

    A concept is suppressed by that, and by targets below 0, which push the stream against the feature's decoder row.
    """

    def __init__(self, options: ClampOptions) -> None:
        self.options = options
        grid = AXBENCH_CLAMP_GRID if options.unit == "max-activation" else NORM_GRID
        self.traits = SteererTraits(unit=options.unit, grid=grid, neutral=None, needs_features=True, suppresses="ablate")

    def prepare(self, bench: Bench, labelings: Sequence[Labeling]) -> None:
        self._scales = FeatureScales(bench, labelings, self.options.unit, self.options.quantile)
        self._dictionaries, self._positions = bench.dictionaries, bench.positions
        if any(bench.dictionaries[f.dictionary].needs_full_encoding for labeling in labelings for f in labeling.features):
            bench.warn("sae-clamp: this dictionary's activations need its whole encoding (TopK), so each edit encodes every token in full")

    def intervene(self, labeling: Labeling, strength: float) -> Intervention:
        from harness.steering.clamp import ClampFeature

        edits = []
        for name in dict.fromkeys(feature.dictionary for feature in labeling.features):
            places = [place for place, feature in enumerate(labeling.features) if feature.dictionary == name]
            dictionary = self._dictionaries[name]
            edits.append(
                ClampFeature(
                    site=Site(dictionary.layer),
                    dictionary=dictionary,
                    index=tuple(labeling.features[place].index for place in places),
                    target=tuple(self._scales.activation(labeling, place, strength) for place in places),
                    positions=self._positions,
                )
            )
        return Intervention(edits=tuple(edits))


@hookimpl
def harness_register_steerers(registry: Any) -> None:
    registry.add("sae-clamp", Clamp, options=ClampOptions, summary="set the features to a target, reconstruction error kept")
