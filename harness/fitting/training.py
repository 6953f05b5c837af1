"""Training several concepts at once: shared forward passes, and for each concept its own gradient, clipping, optimiser, schedule and curve."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.fitting.batches import Asked
from harness.fitting.curves import Curve
from harness.fitting.frozen import FrozenModel
from harness.fitting.passes import Passes
from harness.types import rng

if TYPE_CHECKING:
    import torch

    from harness.fitting.learner import Learner
    from harness.fitting.schedule import Schedule
    from harness.fitting.training_set import ConceptExamples
    from harness.model.memory import TokenBudget

HELD_OUT = "held out"
"""What draws for held-out examples depend on in place of a step."""

FAR, HIGH = 1.0, 0.25
"""A training loss that has risen by so much, in units of the first (2 at least), has diverged; by so much, it is no good state to end with."""

Report = Callable[[int, int, str], None]
"""Told after each step: steps done, steps in all, and how the losses are."""


@dataclass(frozen=True)
class Step:
    """How a training stands after a step.

    Attributes:
        done: steps.
        steps: in all.
        losses: how they are, for people.
        marked: whether a curve has a new point; all pupils are in order then, and may be kept.
    """

    done: int
    steps: int
    losses: str
    marked: bool


@dataclass(eq=False)
class Pupil:
    """One concept in training.

    Attributes:
        one: its examples.
        parameters: what is trained, leaves of the graph.
        optimiser: its own.
        curve: as far as it has come.
        trained_on: places of the examples that are trained on.
        held_out: places of the others.
        good: the last parameters with which all was well.
    """

    one: ConceptExamples
    parameters: dict[str, torch.Tensor]
    optimiser: torch.optim.Optimizer
    curve: Curve
    trained_on: list[int]
    held_out: list[int]
    good: dict[str, torch.Tensor]
    since: list[float] = field(default_factory=list)
    """Losses since the curve's last point."""

    @property
    def step(self) -> int:
        """Return how many steps are done."""
        return len(self.curve.losses)

    @property
    def goes_on(self) -> bool:
        """Return whether a step is left."""
        return self.curve.stopped is None and self.step < self.curve.steps

    def keep(self) -> None:
        """Take the parameters as they are for good ones."""
        self.good = {name: value.detach().clone() for name, value in self.parameters.items()}
        self.curve.kept = self.step

    def stop(self, reason: str) -> None:
        """Give the training up, and put the last good parameters back."""
        import torch

        self.curve.stopped, self.curve.reason = self.step, reason
        with torch.no_grad():
            for name, value in self.parameters.items():
                value.copy_(self.good[name])


class Training:
    """The training of some concepts in the same passes.

    Args:
        frozen: the model, which has read the texts where that pays.
        learner: what is trained.
        concepts: the examples of each.
        schedule: the same for all.
        seed: the run's. Where parameters begin, orders and all other draws depend on it, the concept and the step alone.
        budget: tokens of one forward pass, halved where memory runs out.
    """

    def __init__(
        self, frozen: FrozenModel, learner: Learner, concepts: Sequence[ConceptExamples], schedule: Schedule, seed: int, budget: TokenBudget
    ) -> None:
        self._frozen, self._learner, self._schedule, self._seed, self._budget = frozen, learner, schedule, seed, budget
        self._passes = Passes(frozen, learner, seed, budget)
        self.pupils = [self._begin(one) for one in concepts]

    def _begin(self, one: ConceptExamples) -> Pupil:
        import torch

        model, schedule = self._frozen.model, self._schedule
        precise = torch.promote_types(model.dtype, torch.float32)
        begun = self._learner.start(one.concept, rng(self._seed, "parameters to train", one.concept))
        parameters = {name: value.detach().to(model.device, precise, copy=True).requires_grad_() for name, value in begun.items()}
        optimiser = torch.optim.AdamW(parameters.values(), lr=schedule.lr, weight_decay=schedule.weight_decay)
        trained_on, held_out = one.divided(schedule.held_out, self._seed)
        curve = Curve(schedule.steps(len(trained_on)), len(trained_on), len(held_out))
        pupil = Pupil(one, parameters, optimiser, curve, trained_on, held_out, {})
        pupil.keep()
        return pupil

    def run(self, report: Report, after_mark: Callable[[], None] = lambda: None) -> None:
        """Train until every concept has ended. Goes on from where the pupils are.

        Args:
            report: told after each step.
            after_mark: called when a curve has a new point, when all pupils are in order: a moment to keep them.

        Raises:
            EngineError: a single example does not fit into memory.
        """
        for step in self.steps():
            if step.marked:
                after_mark()
            report(step.done, step.steps, step.losses)

    def steps(self) -> Iterator[Step]:
        """Train as :meth:`run` does, and yield how it stands after each step."""
        if self._learner.reference:
            texts = [number for pupil in self.pupils for example in pupil.one.examples for number in example.texts]
            reference = self._frozen.reference(texts, self._budget)
            self._passes = Passes(self._frozen, self._learner, self._seed, self._budget, reference)
        if fresh := [pupil for pupil in self.pupils if not pupil.curve.points]:
            self._mark(fresh)
        while active := [pupil for pupil in self.pupils if pupil.goes_on]:
            self._step(active)
            sound = [pupil for pupil in active if pupil.curve.stopped is None]
            if marked := [pupil for pupil in sound if pupil.step in self._schedule.marks(pupil.curve.steps)]:
                self._mark(marked)
            yield self._stands(bool(marked))

    def _stands(self, marked: bool) -> Step:
        steps = max(pupil.curve.steps for pupil in self.pupils)
        done = max((pupil.step for pupil in self.pupils if pupil.goes_on), default=steps)
        last = [pupil.curve.losses[-1] for pupil in self.pupils if pupil.curve.losses and pupil.curve.stopped is None]
        held = [point[2] for pupil in self.pupils if pupil.curve.stopped is None and (point := pupil.curve.points[-1])[2] is not None]
        shown = f"loss {sum(last) / len(last):.3g}" if last else "no concept left"
        return Step(done, steps, f"{shown}, held out {sum(held) / len(held):.3g}" if held else shown, marked)

    # ------------------------------------------------------------------------------------------------------------------------- steps

    def _step(self, active: Sequence[Pupil]) -> None:
        """Do the next step of some concepts."""
        import torch

        asked = []
        for owner, pupil in enumerate(active):
            places = pupil.one.batch(pupil.trained_on, self._schedule, self._seed, pupil.step)
            asked += self._asked(owner, pupil, places, str(pupil.step), pupil.step / pupil.curve.steps)
        losses, penalties, gradients = self._passes([pupil.parameters for pupil in active], asked, training=True)
        for pupil, loss, penalty, gradient in zip(active, losses, penalties, gradients, strict=True):
            finite = math.isfinite(loss + penalty)
            if not finite or not math.isfinite(torch.nn.utils.get_total_norm(gradient.values()).item()):
                pupil.stop(f"its {'gradient' if finite else 'loss'} was not finite")
                continue
            for name, value in pupil.parameters.items():
                value.grad = gradient[name]
            if self._schedule.clip is not None:
                torch.nn.utils.clip_grad_norm_(pupil.parameters.values(), self._schedule.clip)
            for group in pupil.optimiser.param_groups:
                group["lr"] = self._schedule.rate(pupil.step, pupil.curve.steps)
            pupil.optimiser.step()
            pupil.optimiser.zero_grad(set_to_none=True)
            with torch.no_grad():
                self._learner.settle(pupil.parameters)
            pupil.curve.losses.append(loss)
            pupil.since.append(loss)

    def _asked(self, owner: int, pupil: Pupil, places: Sequence[int], moment: str, ramp: float) -> list[Asked]:
        texts = self._frozen.texts
        examples = [pupil.one.examples[place] for place in places]
        tokens = sum(len(texts[number].ids) - texts[number].start for example in examples for number in example.texts)
        return [
            Asked(owner, pupil.one.concept, place, example.texts, moment, tokens, len(examples), ramp)
            for place, example in zip(places, examples, strict=True)
        ]

    def _mark(self, pupils: Sequence[Pupil]) -> None:
        """Add a point to the curves of some concepts, and see whether their training is still sound."""
        looked = [pupil for pupil in pupils if pupil.held_out]
        asked = [
            one
            for owner, pupil in enumerate(looked)
            for one in self._asked(owner, pupil, pupil.held_out, HELD_OUT, pupil.step / pupil.curve.steps)
        ]
        losses = self._passes([pupil.parameters for pupil in looked], asked, training=False)[0]
        held = dict(zip(map(id, looked), losses, strict=True))
        for pupil in pupils:
            training = sum(pupil.since) / len(pupil.since) if pupil.since else None
            pupil.since = []
            rise = _rise(pupil.curve, training)
            held_out = held.get(id(pupil))
            if not math.isfinite(rise) or not math.isfinite(held_out or 0.0):
                pupil.stop("its loss was not finite")
                continue
            ends = pupil.step == pupil.curve.steps > 0
            if rise > FAR or (ends and rise > HIGH):
                pupil.stop(f"its mean training loss was {training:.3g}, against {pupil.curve.losses[0]:.3g} in the beginning")
                continue
            pupil.curve.points.append((pupil.step, training, held_out))
            if rise <= HIGH:
                pupil.keep()


def _rise(curve: Curve, loss: float | None) -> float:
    """Return by how much a mean training loss is above that of the first step, in units of that (2 at least); 0 where there is none."""
    return 0.0 if loss is None else (loss - curve.losses[0]) / max(abs(curve.losses[0]), 2.0)


def parameters_of(pupil: Pupil) -> Mapping[str, torch.Tensor]:
    """Return what a concept has learnt, detached."""
    return {name: value.detach() for name, value in pupil.parameters.items()}
