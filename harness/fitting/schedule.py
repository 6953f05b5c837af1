"""How long, how fast and on what share of the pairs something is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from harness.errors import OptionError

Decay = Literal["linear", "constant"]
"""What becomes of the learning rate: it falls on a line to 0 at the end (transformers' ``linear``, without a warm-up), or stays."""

POINTS = (4, 12)
"""A curve has as many points behind its first as there are epochs, and no fewer and no more than these."""


@dataclass(frozen=True)
class Schedule:
    """A training of one concept: torch's AdamW (β .9 and .999, ε 1e-8).

    Attributes:
        epochs: times that each pair is seen.
        batch: pairs of one step; an epoch's last step takes what is left.
        lr: learning rate of the first step.
        weight_decay: AdamW's.
        clip: the longest gradient (Euclidean norm over all parameters of the concept); a longer one is cut to that. None: none is cut.
        decay: what becomes of the learning rate.
        held_out: share of the pairs that are not trained on, and show how the training goes; of each kind of pair at least one, where there are two.

    Raises:
        OptionError: a value out of range.
    """

    epochs: int
    batch: int
    lr: float
    weight_decay: float = 0.0
    clip: float | None = None
    decay: Decay = "linear"
    held_out: float = 0.125

    def __post_init__(self) -> None:
        for name, given, good, allowed in (
            ("epochs", self.epochs, self.epochs >= 1, "at least 1"),
            ("batch", self.batch, self.batch >= 1, "at least 1"),
            ("lr", self.lr, 0 < self.lr <= 100, "more than 0, at most 100"),
            ("weight_decay", self.weight_decay, self.weight_decay >= 0, "at least 0"),
            ("clip", self.clip, self.clip is None or self.clip > 0, "more than 0, or none"),
            ("held_out", self.held_out, 0 <= self.held_out < 1, "0 to less than 1"),
        ):
            if not good:
                raise OptionError(f"{name} of a training is {given}", given=given, allowed=allowed)

    def per_epoch(self, pairs: int) -> int:
        """Return the steps of one epoch over so many pairs."""
        return -(-pairs // self.batch)

    def steps(self, pairs: int) -> int:
        """Return the steps of the whole training on so many pairs."""
        return self.epochs * self.per_epoch(pairs)

    def rate(self, step: int, steps: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        return self.lr * (1 - step / steps if self.decay == "linear" else 1.0)

    def marks(self, steps: int) -> list[int]:
        """Return after how many steps the curve has a point, the last step included, ascending."""
        n = min(steps, max(POINTS[0], min(POINTS[1], self.epochs)))
        return sorted({round(steps * place / n) for place in range(1, n + 1)})
