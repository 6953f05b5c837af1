"""Where time goes: seconds by part of the work, at the cost of reading a clock twice a part.

A part's seconds are its own: what a part within it takes is not counted twice. Parts are never held open over a ``yield``.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

PROMPTS, STEPS = "model, prompts", "model, steps"
"""Forward passes over prompts, and those that decode one token for each open row; edits within them are a part of their own."""
EDITS, SAMPLING, ROWS, TOKENIZER = "edits", "sampling", "rows", "tokenizer"
"""Edits of the streams; choosing tokens; taking ended rows out; prompts and texts to tokens and back."""


@dataclass
class Spent:
    """What parts took.

    Attributes:
        seconds: by part.
        calls: how often each was entered.
        rows: rows of the forward passes, added up over the passes of a part: over :data:`STEPS` these are the tokens decoded.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    calls: dict[str, int] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)

    def less(self, other: Spent) -> Spent:
        """Return what was spent beyond ``other``; parts in which that is nothing are left out."""
        calls = _less(self.calls, other.calls)
        seconds = {part: self.seconds.get(part, 0.0) - other.seconds.get(part, 0.0) for part in calls}
        return Spent(seconds, calls, _less(self.rows, other.rows))

    def copy(self) -> Spent:
        """Return what was spent so far, as a value of its own."""
        return Spent(dict(self.seconds), dict(self.calls), dict(self.rows))


class Clock(threading.local):
    """Adds up what parts take; each thread has its own."""

    def __init__(self) -> None:
        self.spent = Spent()
        self._within: list[float] = []

    @contextmanager
    def part(self, name: str, device: torch.device | None = None, rows: int = 0) -> Iterator[None]:
        """Within the context, time counts as this part.

        Args:
            name: of the part.
            device: whose work is waited for at the end, where it goes on by itself (CUDA); None: of what is computed here.
            rows: rows of a forward pass.
        """
        self._within.append(0.0)
        began = time.perf_counter()
        try:
            yield
            if device is not None and device.type == "cuda":
                import torch

                torch.cuda.synchronize(device)  # what follows waits for the logits anyway
        finally:
            took = time.perf_counter() - began
            within, spent = self._within.pop(), self.spent
            spent.seconds[name] = spent.seconds.get(name, 0.0) + took - within
            spent.calls[name] = spent.calls.get(name, 0) + 1
            if rows:
                spent.rows[name] = spent.rows.get(name, 0) + rows
            if self._within:
                self._within[-1] += took


CLOCK = Clock()
"""The clock of this thread."""


def _less(now: Mapping[str, int], before: Mapping[str, int]) -> dict[str, int]:
    return {part: more for part, n in now.items() if (more := n - before.get(part, 0))}
