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

READING, FITTING = "model, reading", "model, fitting"
"""Forward passes over whole texts, whose streams or logits are read; the passes, and those back, of methods that are trained by the model's loss."""
TOKENIZER, ENCODING, OPENING = "tokenizer", "dictionaries", "opening dictionaries"
"""Texts to tokens and back; active features of vectors, and what they reconstruct; dictionaries from the disk, controls drawn and matched."""
API = "waiting for an API"
"""Replies of a language model's server are waited for."""


@dataclass
class Spent:
    """What parts took.

    Attributes:
        seconds: by part.
        calls: how often each was entered.
        rows: rows of the forward passes, added up over the passes of a part.
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
        self._whole = False

    @contextmanager
    def part(self, name: str, device: torch.device | None = None, rows: int = 0, *, whole: bool = False) -> Iterator[None]:
        """Within the context, time counts as this part.

        Args:
            name: of the part.
            device: whose work is waited for at the end, where it goes on by itself (CUDA); None: of what is computed here.
            rows: rows of a forward pass.
            whole: what parts within it take is its own, too, and is not told apart.
        """
        if self._whole:
            yield
            return
        self._whole = whole
        self._within.append(0.0)
        began = time.perf_counter()
        try:
            yield
            if device is not None and device.type == "cuda":
                import torch

                torch.cuda.synchronize(device)  # what follows waits for the logits anyway
        finally:
            took = time.perf_counter() - began
            self._whole = False
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
