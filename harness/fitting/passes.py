"""The forward and backward passes of a step: losses and gradients of several concepts, in as many passes as memory wants."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from harness.files.timing import CLOCK, FITTING
from harness.fitting.batches import Asked, make_batch
from harness.fitting.frozen import FrozenModel, too_large

if TYPE_CHECKING:
    import torch

    from harness.fitting.learner import Learner, Parameters
    from harness.model.memory import TokenBudget

Gradient = dict[str, "torch.Tensor"]
"""The gradient of one concept's loss, by the parameters' names."""


class _Passed(NamedTuple):
    """What one pass gave: its concepts, their losses and penalties ``[2, concepts]``, and their gradients."""

    owners: tuple[int, ...]
    sums: torch.Tensor
    gradients: list[Gradient]


class Passes:
    """Runs examples of several concepts through the model.

    Args:
        frozen: the model.
        learner: what is trained.
        seed: the run's.
        budget: tokens of one pass, padding included; halved where memory runs out.
        reference: log-probability of each text's answer by the frozen model, for a learner that asks for it.
    """

    def __init__(self, frozen: FrozenModel, learner: Learner, seed: int, budget: TokenBudget, reference: torch.Tensor | None = None) -> None:
        self._frozen, self._learner, self._seed, self._budget, self._reference = frozen, learner, seed, budget, reference

    def __call__(
        self, parameters: Sequence[Parameters], asked: Sequence[Asked], *, training: bool
    ) -> tuple[list[float], list[float], list[Gradient]]:
        """Return loss, penalty and (in training) gradient of each concept over the examples that are asked for.

        Examples of like length share a pass. What a concept gets is a sum over its examples, in whatever passes they are.

        Args:
            parameters: of each concept; an example's ``owner`` is its place among them.
            asked: the examples.
            training: whether gradients are wanted.

        Raises:
            EngineError: a single example does not fit into memory.
        """
        import torch

        from harness.model.memory import halving

        sums = torch.zeros(2, len(parameters), dtype=torch.float64)
        gradients = [{name: torch.zeros_like(value) for name, value in one.items()} if training else {} for one in parameters]
        for lot in self._lots(asked):

            def work(part: slice, lot: Sequence[Asked] = lot) -> _Passed:
                with CLOCK.part(FITTING, self._frozen.model.device, len(lot[part]), whole=True):
                    return self._pass(parameters, lot[part], training)

            def width(place: int, lot: Sequence[Asked] = lot) -> int:
                return self._longest(lot[place]) * len(lot[place].texts)

            def alone(place: int, lot: Sequence[Asked] = lot) -> Exception:
                return too_large(self._frozen, len(lot[place].texts), self._longest(lot[place]))

            for _, passed in halving(len(lot), self._budget, work, device=self._frozen.model.device, alone=alone, width=width):
                sums[:, list(passed.owners)] += passed.sums
                for owner, found in zip(passed.owners, passed.gradients, strict=False):
                    for name, value in found.items():
                        gradients[owner][name] += value
        return sums[0].tolist(), sums[1].tolist(), gradients

    def _longest(self, one: Asked) -> int:
        return max(len(self._frozen.texts[number].ids) for number in one.texts)

    def _lots(self, asked: Sequence[Asked]) -> list[list[Asked]]:
        """Return the examples, the longest first, in groups of no more concepts than may share a pass."""
        by_length = sorted(asked, key=lambda one: -self._longest(one))
        if self._learner.most is None:
            return [by_length]
        owners = sorted({one.owner for one in asked})
        lots = [owners[start : start + self._learner.most] for start in range(0, len(owners), self._learner.most)]
        return [[one for one in by_length if one.owner in lot] for lot in lots]

    def _pass(self, parameters: Sequence[Parameters], asked: Sequence[Asked], training: bool) -> _Passed:
        """Do one forward pass, and the pass back in training. It leaves nothing behind if it fails."""
        import torch

        frozen, learner = self._frozen, self._learner
        batch = make_batch(frozen.model, frozen.texts, asked, skip=frozen.skip, seed=self._seed, training=training, reference=self._reference)
        own = [parameters[owner] for owner in batch.owners]
        with torch.set_grad_enabled(training):
            with learner.worn(frozen.model, own, batch) as seen:
                logp = frozen.answers(batch)
            loss, penalty = learner.losses(own, batch, logp, seen)
            total = loss.sum() if penalty is None else loss.sum() + penalty.sum()
            found = torch.autograd.grad(total, [value for one in own for value in one.values()], allow_unused=True) if training else ()
        rows = torch.stack([loss.detach(), torch.zeros_like(loss) if penalty is None else penalty.detach()]).double()
        sums = torch.zeros(2, len(own), dtype=torch.float64, device=rows.device).index_add(1, batch.owner, rows)
        left = iter(found)
        gradients = [{name: part for name in one if (part := next(left)) is not None} for one in own] if training else []
        return _Passed(batch.owners, sums.cpu(), gradients)
