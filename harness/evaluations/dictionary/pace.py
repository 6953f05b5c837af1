"""How long measurements take: timed while they are made, kept for a later ``--dry-run``."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from harness.files.timing import CLOCK
from harness.run.bench import TaskBench
from harness.run.plan import PlannedPlugin
from harness.run.throughput import COLLECTING, TRAINING, remember_rate


def opening_name(bench: TaskBench, device: str) -> str:
    """Return what the rate of opening dictionaries, controls drawn and matched among them, is kept under."""
    return f"opening dictionaries of {bench.task.subject}, on {device}"


def measuring_name(bench: TaskBench, metric: PlannedPlugin, device: str) -> str:
    """Return what the rate of a metric's measurements is kept under."""
    return f"measuring {metric.identity_key} of {bench.task.subject}, on {device}"


class Pace:
    """Times opening and measuring; what is trained, or collected for that, meanwhile does not count: it has rates of its own."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._times: dict[str, int] = {}

    @contextlib.contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Within the context one thing of this name is done; what breaks off does not count."""
        before, began = CLOCK.spent.copy(), time.perf_counter()
        yield
        aside = CLOCK.spent.less(before).seconds
        took = time.perf_counter() - began - sum(aside.get(part, 0.0) for part in (TRAINING, COLLECTING))
        self._seconds[name] = self._seconds.get(name, 0.0) + took
        self._times[name] = self._times.get(name, 0) + 1

    def keep(self) -> None:
        """Keep the rates for a later plan."""
        for name, seconds in self._seconds.items():
            remember_rate(name, self._times[name], seconds)
