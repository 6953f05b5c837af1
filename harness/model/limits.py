"""What a machine can do at most: the rate of large matrix products, and the rate at which memory is read; measured in a second or two."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Limits:
    """Attributes: ``flops``, of matrix products in the number format, a second; ``bandwidth``, bytes of memory read and written a second."""

    flops: float
    bandwidth: float


def measure_limits(device: torch.device, dtype: torch.dtype, seconds: float = 0.7) -> Limits:
    """Measure a device, each of the two limits for about so many seconds: the best of the tries counts, since others may be at work.

    Bandwidth is that of copying a tensor far larger than any cache; reads and writes count.
    """
    import torch

    large = device.type != "cpu"
    n, size = (8192, 1 << 30) if large else (1024, 1 << 27)
    one, other = (torch.randn(n, n, device=device, dtype=torch.float32).to(dtype) for _ in range(2))
    flops = 2.0 * n**3 / _best(lambda: torch.mm(one, other), device, seconds)
    source = torch.ones(size // 4, device=device, dtype=torch.float32)
    target = torch.empty_like(source)
    return Limits(flops, 2.0 * size / _best(lambda: target.copy_(source), device, seconds))


def _best(work: Callable[[], object], device: torch.device, seconds: float) -> float:
    """Return the shortest time of a call."""
    import torch

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    best, end = float("inf"), time.perf_counter() + seconds
    work()
    while best == float("inf") or time.perf_counter() < end:
        wait()
        began = time.perf_counter()
        work()
        wait()
        best = min(best, time.perf_counter() - began)
    return best
