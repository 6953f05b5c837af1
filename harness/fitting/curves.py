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
        kept: after so many steps all was well for the last time; what it was then is the result.
        reason: why it was given up.
    """

    steps: int
    pairs: int
    held_out: int
    points: list[tuple[int, float | None, float | None]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    stopped: int | None = None
    kept: int = 0
    reason: str = ""

    def as_json(self) -> dict[str, Json]:
        """Return all of it but the losses of single steps, as a run keeps it (:class:`harness.contracts.Fitted`).

        ``examples`` are how many are trained on, and how many are held out.
        """
        columns = [list(column) for column in zip(*self.points, strict=True)] or [[], [], []]
        shown = {**dict(zip(("step", "loss", "held_out"), columns, strict=True)), "steps": self.steps, "examples": [self.pairs, self.held_out]}
        return shown if self.stopped is None else {**shown, "stopped": self.stopped, "kept": self.kept, "reason": self.reason}
