"""Rows of one forward pass in training: of several concepts, each row with its own concept's parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from harness.types import rng

if TYPE_CHECKING:
    import torch

    from harness.fitting.training_set import TrainingText
    from harness.model.loading import SubjectModel


@dataclass(frozen=True)
class Asked:
    """One example in one step of its concept.

    Attributes:
        owner: place of the concept among all that are trained.
        concept: its id.
        place: of the example among the concept's.
        texts: of the example.
        moment: the step, or what else the draws for this example depend on.
        step_tokens: tokens of the answers of the concept's whole batch in this step.
        step_examples: examples of that batch.
        ramp: share of the concept's steps that is behind it.
    """

    owner: int
    concept: str
    place: int
    texts: tuple[int, ...]
    moment: str
    step_tokens: int
    step_examples: int
    ramp: float


@dataclass(frozen=True, eq=False)
class Batch:
    """Rows of one forward pass, padded on the right; the rows of an example are neighbours, in the example's order.

    Attributes:
        asked: the examples, in order.
        text: ``[rows]`` int64, number of each row's text in the training set.
        tokens: ``[rows, tokens]`` int64.
        real: ``[rows, tokens]`` bool, the token is not padding.
        counted: ``[rows, tokens]`` bool, the token is real and behind what all prompts share.
        answer: ``[rows, tokens]`` bool, the token is one of the answer.
        owner: ``[rows]`` int64, place of the row's concept among those of this pass.
        owners: of these, each one's place among all that are trained.
        step_tokens: ``[rows]`` float32, see :class:`Asked`.
        step_examples: ``[rows]`` float32, see :class:`Asked`.
        ramp: ``[rows]`` float32, see :class:`Asked`.
        reference: ``[rows]`` float32, the log-probability of the row's answer by the frozen model, where the learner asks for it.
        training: whether gradients are wanted; else held-out examples are looked at, and nothing is dropped out.
        seed: the run's.
    """

    asked: Sequence[Asked]
    text: torch.Tensor
    tokens: torch.Tensor
    real: torch.Tensor
    counted: torch.Tensor
    answer: torch.Tensor
    owner: torch.Tensor
    owners: tuple[int, ...]
    step_tokens: torch.Tensor
    step_examples: torch.Tensor
    ramp: torch.Tensor
    reference: torch.Tensor | None
    training: bool
    seed: int

    @property
    def n_answer(self) -> torch.Tensor:
        """Return the tokens of each row's answer, ``[rows]`` int64."""
        return self.answer.sum(dim=1)

    @property
    def rows_each(self) -> int:
        """Return how many rows an example has."""
        return len(self.asked[0].texts)

    def rng(self, example: int, purpose: str) -> np.random.Generator:
        """Return random numbers for an example of this batch, by (seed, concept, step, example) alone; equal ones for held-out examples each time."""
        one = self.asked[example]
        return rng(self.seed, purpose, f"{one.concept}:{one.moment}:{one.place}")


def make_batch(
    model: SubjectModel,
    texts: Sequence[TrainingText],
    asked: Sequence[Asked],
    *,
    skip: int,
    seed: int,
    training: bool,
    reference: torch.Tensor | None = None,
) -> Batch:
    """Return the batch of some examples, on the model's device.

    Args:
        model: that will read it.
        texts: of the training set.
        asked: the examples.
        skip: leading tokens of a text that do not count.
        seed: the run's.
        training: whether gradients are wanted.
        reference: of each text, or None.
    """
    import torch

    from harness.model.activations import pad_right

    numbers = [number for one in asked for number in one.texts]
    tokens, real = pad_right(model, [texts[number].ids for number in numbers])
    place = torch.arange(tokens.shape[1], device=tokens.device)
    starts = torch.tensor([texts[number].start for number in numbers], device=tokens.device)
    owners = sorted({one.owner for one in asked})

    def of_rows(values: Sequence[float], dtype: torch.dtype = torch.float32) -> torch.Tensor:
        return torch.tensor([value for one, value in zip(asked, values, strict=True) for _ in one.texts], dtype=dtype, device=tokens.device)

    text = torch.tensor(numbers, device=tokens.device)
    return Batch(
        asked=tuple(asked),
        text=text,
        tokens=tokens,
        real=real,
        counted=real & (place >= skip),
        answer=real & (place >= starts[:, None]),
        owner=of_rows([owners.index(one.owner) for one in asked], torch.int64),
        owners=tuple(owners),
        step_tokens=of_rows([one.step_tokens for one in asked]),
        step_examples=of_rows([one.step_examples for one in asked]),
        ramp=of_rows([one.ramp for one in asked]),
        reference=None if reference is None else reference[text],
        training=training,
        seed=seed,
    )
