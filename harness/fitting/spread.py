"""Training by workers: each trains chunks of concepts, and sends back what they have learnt; the driver alone keeps it."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.engine.spreading.work import HasModel, Underway, compared
from harness.files.progress import current_progress
from harness.fitting.curves import Curve
from harness.fitting.frozen import FrozenModel
from harness.fitting.training import Training
from harness.fitting.training_set import TrainingText

if TYPE_CHECKING:
    import torch

    from harness.contracts import Workers
    from harness.fitting.learner import Learner, Parameters
    from harness.fitting.schedule import Schedule
    from harness.fitting.training_set import ConceptExamples

SECONDS = 2.0
"""A worker says no more often how its training stands, but at the points of its curves."""


@dataclass(frozen=True, eq=False)
class Learnt:
    """What one concept has learnt.

    Attributes:
        parameters: its, on any device.
        curve: of its training.
    """

    parameters: Parameters
    curve: Curve


@dataclass(frozen=True, eq=False)
class SharedTexts:
    """The texts of a training set as a few tensors, which a worker gets once for all of its chunks.

    Attributes:
        ids: token ids of all, one after the other, ``[tokens]`` int64.
        lengths: tokens of each, ``[texts]`` int64.
        starts: see :class:`harness.fitting.training_set.TrainingText`, ``[texts]`` int64.
    """

    ids: torch.Tensor
    lengths: torch.Tensor
    starts: torch.Tensor

    @classmethod
    def of(cls, texts: Sequence[TrainingText]) -> SharedTexts:
        """Return the texts of a training set so."""
        import torch

        lengths, starts = [len(text.ids) for text in texts], [text.start for text in texts]
        return cls(torch.from_numpy(np.concatenate([text.ids for text in texts])), torch.tensor(lengths), torch.tensor(starts))

    def texts(self) -> list[TrainingText]:
        """Return them as a training set has them, with their numbers."""
        parts = np.split(self.ids.numpy(), np.cumsum(self.lengths.numpy())[:-1])
        return [TrainingText(ids, start) for ids, start in zip(parts, self.starts.tolist(), strict=True)]


@dataclass(frozen=True, eq=False)
class TrainWork:
    """A chunk of concepts that a worker trains (:class:`harness.engine.spreading.work.Work`); a part for each, by its id, is what it has learnt.

    The first concept's id also tells how the whole chunk stands: (steps done, losses for people, whether it is a point of a curve).

    Attributes:
        who: for messages.
        learner: what is trained.
        texts: of the whole training set, so that a worker finds out the same of the model as the driver.
        concepts: the chunk's.
        schedule: how.
        seed: the run's.
        skip: leading tokens of a text that do not count.
        tokens: of one forward pass.
    """

    who: str
    learner: Learner
    texts: SharedTexts
    concepts: Sequence[ConceptExamples]
    schedule: Schedule
    seed: int
    skip: int
    tokens: int

    @property
    def names(self) -> Sequence[str]:
        return [one.concept for one in self.concepts]

    @property
    def steps(self) -> int:
        """Return the steps of the chunk: those of the concept that has most."""
        return max(self.schedule.steps(len(one.divided(self.schedule.held_out, self.seed)[0])) for one in self.concepts)

    def do(self, engine: HasModel) -> Iterator[tuple[str, Any]]:
        return compared(engine, f"the training of {self.who}", self._trained(engine))

    def _trained(self, engine: HasModel) -> Iterator[tuple[str, Any]]:
        from harness.model.memory import TokenBudget

        frozen = FrozenModel(engine.model, self.texts.texts(), self.learner.after, self.skip)
        budget = TokenBudget(self.tokens)
        frozen.read(numbers_of(self.concepts), budget)
        training = Training(frozen, self.learner, self.concepts, self.schedule, self.seed, budget)
        told = time.monotonic()
        for step in training.steps():
            if step.marked or time.monotonic() - told >= SECONDS:
                told = time.monotonic()
                yield self.names[0], Underway((step.done, step.losses, step.marked))
        for pupil in training.pupils:
            yield pupil.one.concept, ({name: value.detach().cpu().numpy() for name, value in pupil.parameters.items()}, pupil.curve)


def numbers_of(concepts: Sequence[ConceptExamples]) -> list[int]:
    """Return the numbers of the texts of some concepts' examples, a text as often as it occurs."""
    return [number for one in concepts for example in one.examples for number in example.texts]


def by_workers(
    workers: Workers, works: Mapping[int, TrainWork], titles: Mapping[int, str], title: str
) -> Generator[tuple[int, list[Learnt]], None, None]:
    """Yield the number of each piece of work and what its concepts have learnt, in their order; pieces come as they are ready.

    Args:
        workers: who trains.
        works: by number.
        titles: of each, for progress.
        title: of all together.

    Raises:
        QuarantinedError: at the end, for work that failed on several workers.
        HarnessError: what a learner raised in a worker, as it would here.
    """
    owner = {name: number for number, work in works.items() for name in work.names}
    steps = {number: work.steps for number, work in works.items()}
    seen = dict.fromkeys(works, 0)
    found: dict[int, dict[str, Learnt]] = {number: {} for number in works}
    with current_progress().task(title, sum(steps.values())) as bar:

        def moved(number: int, done: int) -> None:
            bar(max(0, done - seen[number]))
            seen[number] = max(done, seen[number])  # what is done again begins anew, and is shown when it is further than before

        for name, part in workers.do(list(works.values())):
            number = owner[name]
            if isinstance(part, Underway):
                done, losses, marked = part.value
                moved(number, done)
                if bar.describe is not None:
                    bar.describe(f"{title}, {losses}")
                elif marked:
                    current_progress().step(f"{titles[number]}: step {done}, {losses}")
                continue
            found[number][name] = _received(*part)
            if len(found[number]) == len(works[number].names):
                moved(number, steps[number])
                yield number, [found[number].pop(concept) for concept in works[number].names]


def _received(parameters: Mapping[str, np.ndarray[Any, Any]], curve: Curve) -> Learnt:
    import torch

    return Learnt({name: torch.from_numpy(np.require(value, requirements="W")) for name, value in parameters.items()}, curve)
