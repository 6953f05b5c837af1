"""Learners and training sets for tests of the loop, small enough for the tiny models."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from harness.fitting.batches import Batch
from harness.fitting.curves import Curve
from harness.fitting.frozen import FrozenModel
from harness.fitting.learner import Learner, Parameters
from harness.fitting.passes import Passes
from harness.fitting.schedule import Schedule
from harness.fitting.training import Pupil, Training
from harness.fitting.training_set import ConceptExamples, TrainingExample, TrainingSet, TrainingText
from harness.fitting.vectors import VECTOR, VectorLearner
from harness.model.memory import TokenBudget

if TYPE_CHECKING:
    from harness.model.loading import SubjectModel

STORIES = (
    "Once upon a time there was a little girl named Lily.", "The dog ran to the park.", "Tom was sad because he lost his toy car.",
    "They played with the ball all day long.", "Mom said it was time for bed.", "A big bird sat in the tree and sang a song.",
    "The sun was hot.", "Lily and Tom shared the cake with their friends.",
)  # fmt: skip


class Adding(VectorLearner):
    """Adds the vector to the stream; with ``drop``, a share of its numbers is left out, another one for each example and step."""

    def __init__(self, model: SubjectModel, site: Any, drop: float = 0.0, length: float = 1.0) -> None:
        super().__init__(model, site, length)
        self.drop = drop

    def edited(self, x: torch.Tensor, rows: Mapping[str, torch.Tensor], batch: Batch, seen: dict[str, Any]) -> torch.Tensor:
        vectors = rows[VECTOR]
        if self.drop and batch.training:
            masks = np.stack([batch.rng(example, "dropout").random(self.d_model) >= self.drop for example in range(len(batch.asked))])
            vectors = vectors * torch.from_numpy(masks.repeat(batch.rows_each, axis=0)) / (1 - self.drop)
        return x + vectors[:, None]


class Breaking(Adding):
    """The vector of one concept is infinite after its fifth step."""

    def __init__(self, model: SubjectModel, site: Any, concept: str) -> None:
        super().__init__(model, site)
        self.concept = concept

    def start(self, concept: str, draw: np.random.Generator) -> dict[str, torch.Tensor]:
        return {**super().start(concept, draw), "breaks": torch.full((1,), float(concept == self.concept))}

    def settle(self, parameters: Parameters) -> None:
        parameters["breaks"].mul_(2)
        if parameters["breaks"] == 2**5:
            parameters[VECTOR].mul_(math.inf)


def stories(model: SubjectModel, concepts: int = 3, examples: int = 8, seed: int = 0) -> TrainingSet:
    """A training set of several concepts that share stories of different lengths, each begun before its answer."""
    draw = np.random.default_rng(seed)
    texts = []
    for first in STORIES:
        for second in STORIES[:4]:
            prompt, answer = model.encode(first), model.encode(second)[1:]
            texts.append(TrainingText(np.array([*prompt, *answer], dtype=np.int64), len(prompt)))
    sets = [draw.permutation(len(texts))[:examples].tolist() for _ in range(concepts)]
    return TrainingSet(
        texts,
        [
            ConceptExamples(f"concept {k}", tuple(TrainingExample((text,), "even" if i % 2 == 0 else "odd") for i, text in enumerate(chosen)))
            for k, chosen in enumerate(sets)
        ],
    )


def trained(
    model: SubjectModel, learner: Learner, training: TrainingSet, schedule: Schedule, concepts: Sequence[int] | None = None, budget: int = 1024
) -> list[Pupil]:
    """Train some concepts of a set together, without a bench."""
    chosen = [training.concepts[place] for place in (range(len(training.concepts)) if concepts is None else concepts)]
    frozen = FrozenModel(model, training.texts, learner.after, 1)
    frozen.read([number for one in chosen for example in one.examples for number in example.texts], TokenBudget(1024))
    run = Training(frozen, learner, chosen, schedule, 0, TokenBudget(budget))
    run.run(lambda done, steps, losses: None)
    return run.pupils


def largest_difference(curve: Curve, other: Curve, steps: int = 20) -> float:
    """By how much the losses of the first steps differ at most, relative to them."""
    assert len(curve.losses) == len(other.losses) >= steps
    return max(abs(a - b) / abs(a) for a, b in zip(curve.losses[:steps], other.losses[:steps], strict=True))


def double_model() -> SubjectModel:
    """A GPT-2 with random weights in float64, which computes in float64 all the way."""
    import copy

    from harness.model.loading import SubjectModel
    from helpers.models import byte_tokenizer, random_hf

    return SubjectModel(copy.deepcopy(random_hf("gpt2")).double(), byte_tokenizer(), name="gpt2 in float64")


def check_gradients(model: SubjectModel, learner: Learner, training: TrainingSet, numbers: int = 3) -> None:
    """Compare the gradient of the first step with central differences, in float64."""
    frozen = FrozenModel(model, training.texts, learner.after, 1)
    frozen.read(range(len(training.texts)), TokenBudget(1024))
    run = Training(frozen, learner, training.concepts, Schedule(epochs=1, batch=2, lr=1.0), 0, TokenBudget(1024))
    known = frozen.reference(range(len(training.texts)), TokenBudget(1024)) if learner.reference else None
    passes = Passes(frozen, learner, 0, TokenBudget(1024), known)
    asked = [one for owner, pupil in enumerate(run.pupils) for one in run._asked(owner, pupil, [0, 1], "0", 0.5)]
    parameters = [pupil.parameters for pupil in run.pupils]
    _, _, gradients = passes(parameters, asked, training=True)
    draw = np.random.default_rng(0)
    for owner, gradient in enumerate(gradients):
        for name, found in gradient.items():
            for index in draw.permutation(found.numel())[:numbers].tolist():
                value = parameters[owner][name].data.view(-1)
                ends = []
                for step in (1e-5, -2e-5):
                    value[index] += step
                    losses, penalties, _ = passes(parameters, asked, training=True)
                    ends.append(losses[owner] + penalties[owner])
                value[index] += 1e-5
                assert found.view(-1)[index].item() == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-5, abs=1e-8), name


class Deadly(Adding):
    """Kills its worker after its first step, where ``once`` is not there yet."""

    def __init__(self, model: SubjectModel, site: Any, once: Path) -> None:
        super().__init__(model, site)
        self.once = once

    def settle(self, parameters: Parameters) -> None:
        if not self.once.exists():
            self.once.touch()
            os.kill(os.getpid(), signal.SIGKILL)


class Poisoned(Adding):
    """Raises in every process but the driver's, where it trains one concept."""

    def __init__(self, model: SubjectModel, site: Any, concept: str) -> None:
        super().__init__(model, site)
        self.concept, self.driver = concept, os.getpid()

    def start(self, concept: str, draw: np.random.Generator) -> dict[str, torch.Tensor]:
        if concept == self.concept and os.getpid() != self.driver:
            raise ZeroDivisionError("a defect of the learner")
        return super().start(concept, draw)


class Holding(Adding):
    """Holds a part of the model from when it was made, and hooks that one."""

    def __init__(self, model: SubjectModel, site: Any) -> None:
        super().__init__(model, site)
        self.module = model.stream_module(site)

    @contextmanager
    def worn(self, model: SubjectModel, parameters: Sequence[Parameters], batch: Batch) -> Iterator[dict[str, Any]]:
        assert self.module is model.stream_module(self.site)
        with super().worn(model, parameters, batch) as seen:
            yield seen


class Littering(Adding):
    """Leaves a hook behind."""

    @contextmanager
    def worn(self, model: SubjectModel, parameters: Sequence[Parameters], batch: Batch) -> Iterator[dict[str, Any]]:
        model.layers[0].register_forward_hook(lambda *arguments: None)
        with super().worn(model, parameters, batch) as seen:
            yield seen
