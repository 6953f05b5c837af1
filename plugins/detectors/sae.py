"""A labeling's features as a detector: how much they fire in a text.

The default pools by ``frequency``, the share of a text's tokens on which a feature fires: it is what calibrated F1 probes with (Jørgensen & Hansen
2026), so a feature that ``calibf1`` chose is used as it was chosen. AxBench pools by the maximum (its code) or the mean (its paper).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harness import hookimpl
from harness.contracts import DetectorTraits
from harness.errors import DataError
from harness.labelling.pooling import Pool
from harness.options import Options
from harness.types import FeatureRef, Labeling

if TYPE_CHECKING:
    from harness.contracts import Bench
    from harness.data.texts import TextSet


class SaeOptions(Options):
    """Options of ``sae``."""

    pool: Pool = "frequency"
    """How a feature's tokens become one number: the share on which it fires, or its largest or mean activation."""


class SaeDetector:
    """See the module. Implements :class:`harness.contracts.Detector`.

    The score of one feature is its pooled value. That of several is the mean of theirs; activations (``max``, ``mean``) are divided by the feature's
    largest on the training texts before, so that each counts alike, whatever its scale.
    """

    traits = DetectorTraits(needs_features=True)

    def __init__(self, options: SaeOptions) -> None:
        self.options = options

    def prepare(self, bench: Bench, labelings: Sequence[Labeling]) -> None:
        self._bench = bench
        for labeling in labelings:
            if not labeling.features:
                raise DataError(
                    f"the labeling of concept {labeling.concept.id!r} names no feature, and detector sae scores texts by features",
                    given=labeling.concept.id,
                    hint="leave the concept out, or use a labeler that names features",
                )

    def scores(self, labelings: Sequence[Labeling], texts: TextSet) -> NDArray[np.float64]:
        from harness.labelling.pooling import pooled_features

        found = np.zeros((len(labelings), len(texts)))
        for name in sorted({feature.dictionary for labeling in labelings for feature in labeling.features}):
            indices = sorted({f.index for labeling in labelings for f in labeling.features if f.dictionary == name})
            pooled = pooled_features(self._bench, name, indices, texts, self.options.pool)
            scales = self._scales(name, indices)
            row = {FeatureRef(name, index): place for place, index in enumerate(indices)}
            for place, labeling in enumerate(labelings):
                for feature in labeling.features:
                    if feature.dictionary == name:
                        scale = scales[row[feature]] if len(labeling.features) > 1 else 1.0
                        found[place] += pooled[row[feature]] / (scale * len(labeling.features))
        return found

    def _scales(self, name: str, indices: Sequence[int]) -> NDArray[np.float64]:
        """Return each feature's largest activation on the training texts; 1 for one that never fires there, and for shares of tokens."""
        if self.options.pool == "frequency":
            return np.ones(len(indices))
        maxima = self._bench.statistics(name).texts_of(indices, "maxima").tocsr()[self._bench.split.train]
        largest = np.asarray(maxima.max(axis=0).toarray(), dtype=np.float64).ravel()
        return np.where(largest > 0, largest, 1.0)


@hookimpl
def harness_register_detectors(registry: Any) -> None:
    registry.add("sae", SaeDetector, options=SaeOptions, summary="how much the labeling's features fire in a text")
