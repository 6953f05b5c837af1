"""A task's bench for tests of metrics: the real one, with a count of what is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.files.artifacts import ArtifactCache
from harness.files.progress import Progress
from harness.interventions import EditContext
from harness.run.bench import Choices, TaskBench
from harness.tasks.find import load_task


class MetricBench:
    """A task's bench that counts the texts whose activations or logits are asked for: what is kept as an artifact is not read again."""

    def __init__(self, bench: TaskBench) -> None:
        self.bench = bench
        self.split = bench.split  # may be replaced
        self.n_read = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.bench, name)

    def activations(self, *arguments: Any, **named: Any) -> Iterator[tuple[int, torch.Tensor]]:
        return self._counted(self.bench.activations(*arguments, **named))

    def logits(self, *arguments: Any) -> Iterator[torch.Tensor]:
        return self._counted(self.bench.logits(*arguments))

    def _counted(self, items: Iterator[Any]) -> Iterator[Any]:
        for item in items:
            self.n_read += 1
            yield item


@pytest.fixture
def metric_bench(tiny_task: Path, tmp_path: Path) -> Callable[..., MetricBench]:
    """A bench for metrics on the tiny task (or on a changed copy of it), with a cache of the test's own: ``metric_bench()``."""

    def make(task: Path = tiny_task, dtype: str = "float32") -> MetricBench:
        cache = ArtifactCache(tmp_path / "artifacts")
        return MetricBench(TaskBench(load_task(task), Choices(device="cpu", dtype=dtype), cache, Progress(quiet=True)))

    return make


def whole_text(x: torch.Tensor) -> EditContext:
    """The context of prompts without padding."""
    every = torch.ones(x.shape[:2], dtype=torch.bool)
    place = torch.arange(x.shape[1]).expand(x.shape[:2])
    return EditContext(real=every, generated=~every, first=place == 0, place=place, to_end=x.shape[1] - 1 - place)
