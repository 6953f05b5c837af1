"""The supervised steering vector (SSV; AxBench, Wu et al. 2025): a vector that is added at every token, trained on answers that have the concept.

Training minimises the mean cross-entropy of the answers' tokens (over all tokens of the batch's answers) where the stream is h + w behind what all
prompts share; the length of w is free. AxBench's code then adds factor × max(h·w) × w with that length, so its scale grows with ‖w‖², which
alone may explain the low scores that it reports. Here the direction has unit norm unless ``normalise=false``, and its sign is the trained one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from harness import hookimpl
from harness.fitting.directions import DetectOptions, DirectionDetector, DirectionSteerer, SteerOptions
from harness.fitting.trained_directions import LENGTH, TrainedDirection, TrainingOptions
from harness.fitting.vectors import VECTOR, VectorLearner
from harness.interventions import Site
from harness.types import Labeling

if TYPE_CHECKING:
    import torch

    from harness.contracts import Bench
    from harness.fitting.batches import Batch
    from harness.model.loading import SubjectModel


class SsvFit(TrainingOptions):
    """Options of the training of ``ssv``: AxBench's values for Gemma-2 2B (and for 9B), but for the clipping, of which it says nothing."""

    clip: float | None = Field(None, gt=0)
    """The longest gradient; a longer one is cut to that. None cuts none."""


class SsvSteerOptions(SsvFit, SteerOptions):
    """Options of steerer ``ssv``."""

    normalise: bool = True
    """Steer along a direction of unit norm; false takes the vector as it was trained, also in what a strength of 1 is (AxBench's code)."""


class SsvDetectOptions(SsvFit, DetectOptions):
    """Options of detector ``ssv``."""


class SsvLearner(VectorLearner):
    """Learns a vector that is added; see the module."""

    def edited(self, x: torch.Tensor, rows: Mapping[str, torch.Tensor], batch: Batch, seen: dict[str, Any]) -> torch.Tensor:
        return x + rows[VECTOR][:, None]


class _Ssv(TrainedDirection):
    name = "ssv"
    kinds = ("positive",)
    fit_options = SsvFit

    def learner(self, model: SubjectModel, site: Site) -> SsvLearner:
        return SsvLearner(model, site)


class SsvSteerer(_Ssv, DirectionSteerer):
    """See the module. Implements :class:`harness.contracts.Steerer`."""

    def __init__(self, options: SsvSteerOptions) -> None:
        super().__init__(options)
        self._own = options

    def _scales_of(self, bench: Bench, labelings: Sequence[Labeling]) -> NDArray[np.float64]:
        scales = super()._scales_of(bench, labelings)
        as_trained = not self._own.normalise and self._own.unit != "residual-norm"
        return scales * self._fit.extras[LENGTH] ** 2 if as_trained else scales


class SsvDetector(_Ssv, DirectionDetector):
    """See the module. Implements :class:`harness.contracts.Detector`."""


@hookimpl
def harness_register_steerers(registry: Any) -> None:
    registry.add("ssv", SsvSteerer, options=SsvSteerOptions, summary="add a vector that was trained on the concept's answers (no SAE)")


@hookimpl
def harness_register_detectors(registry: Any) -> None:
    registry.add("ssv", SsvDetector, options=SsvDetectOptions, summary="tokens along a vector that was trained on the concept's answers")
