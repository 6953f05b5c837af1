"""Learning all weights of the model anew for each concept: supervised fine-tuning."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from harness.fitting.learner import Learner, Parameters
from harness.model.weights import computing_with, own_weights, save_weights

if TYPE_CHECKING:
    import numpy as np
    import torch

    from harness.fitting.batches import Batch
    from harness.model.loading import SubjectModel


class FineTuningLearner(Learner):
    """All weights, each begun as the model's; those that modules share (embedding and unembedding) are learnt as one.

    They are kept in float32 while they are learnt, and the model computes with them in its own number format. It takes five times their bytes:
    weights, gradients, AdamW's two moments, and the last good state. One concept is trained at a time.

    Args:
        model: the subject model.
    """

    most = 1

    def __init__(self, model: SubjectModel) -> None:
        self._own = own_weights(model)

    def start(self, concept: str, draw: np.random.Generator) -> dict[str, torch.Tensor]:
        return {name: weight.detach().to("cpu", dtype=_precise(weight), copy=True) for name, weight in self._own.items()}

    @contextmanager
    def worn(self, model: SubjectModel, parameters: Sequence[Parameters], batch: Batch) -> Iterator[None]:
        (own,) = parameters
        with computing_with(model, {name: own[name].to(weight.dtype) for name, weight in self._own.items()}):
            yield

    def keep(self, model: SubjectModel, folder: Path, parameters: Parameters) -> bool:
        save_weights(model, folder, parameters)
        return True


def _precise(weight: torch.Tensor) -> torch.dtype:
    import torch

    return torch.promote_types(weight.dtype, torch.float32)
