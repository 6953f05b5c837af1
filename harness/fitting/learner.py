"""What a trained method gives to the loop that trains it: its parameters, where they act on the model, and its loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    import torch

    from harness.fitting.batches import Batch
    from harness.model.loading import SubjectModel

Parameters = Mapping[str, "torch.Tensor"]
"""The parameters of one concept by name."""


class Losses(NamedTuple):
    """What rows add to their concept's loss in this step: the loss of a concept is the sum over the rows of its batch, in whatever passes they are.

    Attributes:
        loss: ``[rows]``, the loss that a curve shows.
        penalty: ``[rows]``, what is minimised beside it, or None.
    """

    loss: torch.Tensor
    penalty: torch.Tensor | None = None


class Learner(ABC):
    """Base of what is trained. Concepts share forward passes, so each row of a batch must get its own concept's parameters, and nothing of others.

    The model's own weights stay as they are. What a row gets may depend on the row, its concept's parameters and :meth:`Batch.rng`, never on which
    rows are beside it.

    A learner is sent to workers where a run has some, with all that it holds; parts of the model that it holds are those of the worker's model there.

    Attributes:
        after: the last layer whose output, before anything that is learnt acts on it, is the frozen model's (−1: none). Up to there each text is
            read once.
        most: so many concepts share a pass at most; None for any number.
        reference: whether :attr:`Batch.reference` is wanted.
    """

    after: int = -1
    most: int | None = None
    reference: bool = False

    @abstractmethod
    def start(self, concept: str, draw: np.random.Generator) -> dict[str, torch.Tensor]:
        """Return the parameters that a concept begins with, float32 on the CPU; of one shape for all concepts.

        Args:
            concept: its id.
            draw: random numbers by (seed, concept).
        """

    @abstractmethod
    def worn(self, model: SubjectModel, parameters: Sequence[Parameters], batch: Batch) -> AbstractContextManager[Any]:
        """Return a context within which the model computes as the parameters have it; its value is handed to :meth:`losses`.

        Afterwards the model is as it was, whatever happened.

        Args:
            model: the subject model.
            parameters: of the concepts of the batch; row r has those of ``parameters[batch.owner[r]]``.
            batch: of the forward pass inside.
        """

    def losses(self, parameters: Sequence[Parameters], batch: Batch, logp: torch.Tensor, seen: Any) -> Losses:
        """Return the losses of a batch's rows; by default the mean cross-entropy of the answers' tokens over the concept's batch.

        Args:
            parameters: as :meth:`worn` got them.
            batch: the rows.
            logp: ``[rows]``, the log-probability of each row's answer, the sum over its tokens.
            seen: what the context of :meth:`worn` gave.
        """
        return Losses(-logp / batch.step_tokens)

    def keep(self, model: SubjectModel, folder: Path, parameters: Parameters) -> bool:
        """Write what a concept has learnt to a folder of its own, and return True; False (the default) has it kept as numbers beside the others'.

        What an interrupted call has left there is written over.

        Args:
            model: the subject model.
            folder: :meth:`harness.fitting.loop.Trained.folder_of` the concept.
            parameters: its.

        Raises:
            StoreError: the disk is full or cannot be written.
        """
        return False

    def settle(self, parameters: Parameters) -> None:  # noqa: B027 - a hook that most leave alone
        """Put a concept's parameters right in place, after each step; nothing by default. Gradients are off."""
