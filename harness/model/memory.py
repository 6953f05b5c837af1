"""Work that may not fit into memory: it is tried, and halved for good where it does not fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch

R = TypeVar("R")


@dataclass
class Budget:
    """How much one step may hold, halved for good when a step does not fit into memory. One for several calls spares the later ones the attempt.

    Attributes:
        size: in units of the caller's, e.g. rows or tokens.
    """

    size: int

    def take(self, left: int, width: int = 1) -> int:
        """Return how many of ``left`` items of ``width`` units each the next step takes; at least one."""
        return min(max(1, self.size // width), left)

    def halve(self, count: int, width: int = 1) -> None:
        """Lower the budget to half of a step of ``count`` items that did not fit."""
        self.size = max(1, width * (count // 2))


@dataclass
class TokenBudget(Budget):
    """Tokens of a forward pass, padding included."""

    @classmethod
    def usual(cls, device: torch.device) -> TokenBudget:
        """Return the budget for a device: 1,024 tokens on a CPU, 8,192 elsewhere.

        More is no faster on a CPU (SmolLM2), and takes more padding and memory; elsewhere small batches leave units idle.
        """
        return cls(1024 if device.type == "cpu" else 8192)


def is_out_of_memory(error: RuntimeError) -> bool:
    """Return whether torch has run out of memory: CUDA has its own class for it, CPU and MPS raise a bare RuntimeError."""
    return isinstance(error, torch.OutOfMemoryError) or "out of memory" in str(error) or "can't allocate memory" in str(error)


def release(device: torch.device) -> None:
    """Give back what torch keeps of a device's memory without using it."""
    if device.type == "cuda":
        torch.cuda.empty_cache()


def attempt(work: Callable[[], R], device: torch.device) -> tuple[R] | None:
    """Return what ``work`` returns, in a tuple, or None if it did not fit into the memory of ``device``.

    A function of its own, so that nothing of a failed attempt is alive (no frame, no traceback) when the next one begins.
    """
    try:
        return (work(),)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
    release(device)
    return None


def halving(
    n: int,
    budget: Budget,
    work: Callable[[slice], R],
    *,
    device: torch.device,
    alone: Callable[[int], Exception],
    width: Callable[[int], int] = lambda item: 1,
) -> Iterator[tuple[slice, R]]:
    """Do ``work`` on ``n`` items, a slice at a time; a slice that does not fit into memory is halved, and so are those after it.

    Args:
        n: number of items.
        budget: what one step may hold; lowered where memory runs out.
        work: gets a slice of the items. It must leave nothing behind when it fails for want of memory: it is done again then.
        device: whose memory it is.
        alone: the error to raise where the single item with this number does not fit.
        width: units of the budget that each item of a step takes, given the step's first item.

    Yields:
        Each slice and what ``work`` returned for it.
    """
    start = 0
    while start < n:
        count = budget.take(n - start, width(start))
        part = slice(start, start + count)
        done = attempt(partial(work, part), device)
        if done is None:
            if count == 1:
                raise alone(start)
            budget.halve(count, width(start))
            continue
        yield part, done[0]
        del done  # not kept alive while the next step is made
        start += count
