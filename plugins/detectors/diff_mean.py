"""Difference of means as a detector (AxBench's DiffMean): how far a text's mean residual lies along mean(positives) − mean(other texts).

The means are over tokens, of training texts alone. Needs no dictionary and no feature.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harness import hookimpl
from harness.contracts import DetectorTraits
from harness.errors import DataError
from harness.options import Options
from harness.types import Concept, Json, Labeling

if TYPE_CHECKING:
    from harness.contracts import Bench
    from harness.data.texts import TextSet

_FILE = "directions.npy"


class DiffMeanDetectorOptions(Options):
    """``diff-mean`` has no options: the site is the task's."""


class DiffMeanDetector:
    """See the module. Implements :class:`harness.contracts.Detector`; a score is a length in the residual stream, with a sign."""

    traits = DetectorTraits()

    def __init__(self, options: DiffMeanDetectorOptions) -> None:
        self.options = options

    def prepare(self, bench: Bench, labelings: Sequence[Labeling]) -> None:
        from harness.labelling.pooling import learnable_labels

        self._bench = bench
        labels = learnable_labels(bench, labelings, "detector diff-mean")
        key: Json = {"kind": "train-directions", "version": 1, "site": str(bench.site), "split": bench.split.digest, "labels": labels}
        directions = np.load(bench.artifact(key, lambda folder: self._fit(bench, labels, folder)) / _FILE, allow_pickle=False)
        self._units = dict(zip(labels, directions, strict=True))

    def scores(self, labelings: Sequence[Labeling], texts: TextSet) -> NDArray[np.float64]:
        from harness.labelling.pooling import mean_residuals

        units = np.stack([self._units[str(labeling.concept.label)] for labeling in labelings])
        return np.asarray(units @ mean_residuals(self._bench, texts).astype(np.float64).T)

    @staticmethod
    def _fit(bench: Bench, labels: Sequence[str], folder: Path) -> None:
        """Each label's unit direction, ``[labels, d_model]``."""
        from harness.labelling.splits import positives
        from harness.sae.directions import mean_differences

        residuals = bench.residual_means()
        has = positives(bench, [Concept(label, label, label) for label in labels])
        found = mean_differences(residuals.means, residuals.n_tokens, has, bench.split.train)
        lengths = np.linalg.norm(found, axis=1, keepdims=True)
        for label, length in zip(labels, lengths[:, 0], strict=True):
            if not length > 0:
                why = "have the same mean" if length == 0 else "have no counted token"
                raise DataError(f"label {label!r}: its training texts or the others {why}", given=label, hint="leave its concept out")
        np.save(folder / _FILE, found / lengths)


@hookimpl
def harness_register_detectors(registry: Any) -> None:
    registry.add(
        "diff-mean", DiffMeanDetector, options=DiffMeanDetectorOptions, summary="the mean residual along the label's difference of means (no SAE)"
    )
