"""ReFT-r1 (AxBench, Wu et al. 2025): one vector that detects a concept, and steers by as much as it detects, trained by the language model's loss.

Training minimises the mean cross-entropy of the answers' tokens (over all tokens of the batch's answers, with the concept and without) where the
stream is h + a·w at every token behind what all prompts share: a is the mean of the k largest ReLU(h·w) of the text's tokens. Beside it stands
an L1 penalty on all other latents: for each text their sum divided by its tokens, summed over the batch as in the published code, times ``l1`` and
the share of the training that is done. w has unit norm throughout, and its sign is the trained one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field

from harness import hookimpl
from harness.fitting.directions import DetectOptions, DirectionDetector, DirectionSteerer, SteerOptions
from harness.fitting.learner import Losses, Parameters
from harness.fitting.trained_directions import TrainedDirection, TrainingOptions
from harness.fitting.vectors import VECTOR, VectorLearner
from harness.interventions import Site

if TYPE_CHECKING:
    import torch

    from harness.fitting.batches import Batch
    from harness.model.loading import SubjectModel


class ReftFit(TrainingOptions):
    """Options of the training of ``reft-r1``: AxBench's values for Gemma-2 2B; for 9B lr is .005."""

    topk: int = Field(8, ge=1)
    """Of so many tokens, those with the largest latents, the mean latent steers the text in training; the others are penalised."""
    l1: float = Field(0.005, ge=0)
    """Weight of the L1 penalty at the end of the training; it rises to that from 0."""


class ReftSteerOptions(ReftFit, SteerOptions):
    """Options of steerer ``reft-r1``."""


class ReftDetectOptions(ReftFit, DetectOptions):
    """Options of detector ``reft-r1``."""


class ReftLearner(VectorLearner):
    """Learns ReFT-r1's vector; see the module.

    Args:
        model: the subject model.
        site: where.
        topk: tokens whose latents steer.
        l1: weight of the penalty at the end.
    """

    def __init__(self, model: SubjectModel, site: Site, topk: int, l1: float) -> None:
        super().__init__(model, site)
        self._topk, self._l1 = topk, l1

    def edited(self, x: torch.Tensor, rows: Mapping[str, torch.Tensor], batch: Batch, seen: dict[str, Any]) -> torch.Tensor:
        import torch

        w = torch.nn.functional.normalize(rows[VECTOR], dim=-1)
        latents = torch.einsum("rtd,rd->rt", x, w).relu() * batch.counted  # what does not count is 0, so it adds nothing to the largest
        counted = batch.counted.sum(dim=1)
        largest = latents.topk(min(self._topk, latents.shape[1]), dim=1).values.sum(dim=1)
        seen["others"] = (latents.sum(dim=1) - largest) / counted
        return x + (largest / counted.clamp(max=self._topk))[:, None, None] * w[:, None]

    def losses(self, parameters: Sequence[Parameters], batch: Batch, logp: torch.Tensor, seen: dict[str, Any]) -> Losses:
        return Losses(-logp / batch.step_tokens, self._l1 * batch.ramp * seen["others"])

    def settle(self, parameters: Parameters) -> None:
        parameters[VECTOR].div_(parameters[VECTOR].norm())


class _Reft(TrainedDirection):
    name = "reft-r1"
    fit_options = ReftFit
    options: ReftFit

    def learner(self, model: SubjectModel, site: Site) -> ReftLearner:
        return ReftLearner(model, site, self.options.topk, self.options.l1)


class ReftSteerer(_Reft, DirectionSteerer):
    """See the module. Implements :class:`harness.contracts.Steerer`."""


class ReftDetector(_Reft, DirectionDetector):
    """See the module. Implements :class:`harness.contracts.Detector`; a token's score is ReLU(h·w)."""

    relu = True


@hookimpl
def harness_register_steerers(registry: Any) -> None:
    registry.add("reft-r1", ReftSteerer, options=ReftSteerOptions, summary="add ReFT-r1's vector, trained on the concept's answers (no SAE)")


@hookimpl
def harness_register_detectors(registry: Any) -> None:
    registry.add("reft-r1", ReftDetector, options=ReftDetectOptions, summary="tokens along ReFT-r1's vector, the largest ReLU(h·w)")
