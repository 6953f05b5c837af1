"""The constant score: every text gets the share of training texts that have the concept. What any detector must beat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harness import hookimpl
from harness.contracts import DetectorTraits
from harness.options import Options
from harness.types import Labeling

if TYPE_CHECKING:
    from harness.contracts import Bench
    from harness.data.texts import TextSet


class MajorityOptions(Options):
    """``majority`` has no options."""


class Majority:
    """See the module. Implements :class:`harness.contracts.Detector`."""

    traits = DetectorTraits(trivial=True)

    def __init__(self, options: MajorityOptions) -> None:
        self.options = options

    def prepare(self, bench: Bench, labelings: Sequence[Labeling]) -> None:
        train = bench.split.train
        concepts = {labeling.concept.id: labeling.concept for labeling in labelings}.values()
        self._share = {concept.id: float(np.isin(train, bench.labels.of(concept.label)).sum() / max(1, len(train))) for concept in concepts}

    def scores(self, labelings: Sequence[Labeling], texts: TextSet) -> NDArray[np.float64]:
        return np.repeat([[self._share[labeling.concept.id]] for labeling in labelings], len(texts), axis=1).astype(np.float64)


@hookimpl
def harness_register_detectors(registry: Any) -> None:
    registry.add("majority", Majority, options=MajorityOptions, summary="the same score for every text (trivial rival)")
