"""How a concept's training went."""

from __future__ import annotations

from dataclasses import dataclass, field

from harness.types import Json


@dataclass
class Curve:
    """The losses of one concept's training, as far as it has come.

    Attributes:
        steps: of the whole training.
        pairs: examples that are trained on.
        held_out: examples that are held out.
        points: (steps done, mean training loss since the last point, loss on the held-out pairs). The first is of before the training. Without
            held-out pairs their loss is None; of before the training the other is.
        losses: the loss of each step's batch before that step.
        stopped: after so many steps the training was given up, as it diverged; None for one that was not.
        reason: why.
    """

    steps: int
    pairs: int
    held_out: int
    points: list[tuple[int, float | None, float | None]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    stopped: int | None = None
    reason: str = ""

    def as_json(self) -> dict[str, Json]:
        """Return all of it but the losses of single steps, as JSON."""
        shown = {"steps": self.steps, "pairs": self.pairs, "held_out": self.held_out, "points": [list(point) for point in self.points]}
        return shown if self.stopped is None else {**shown, "stopped": self.stopped, "reason": self.reason}
