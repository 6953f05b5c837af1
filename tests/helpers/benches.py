"""A bench for metrics over a real task: its split, the activations of its texts, and the logits of edited ones, by the slow and plain road."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness.data.split import TextSplit
from harness.data.texts import TextSet
from harness.files.artifacts import ArtifactCache
from harness.files.progress import Progress
from harness.interventions import Edit, EditContext, Intervention, Site
from harness.model.structure import hidden_of, with_hidden
from harness.run.bench import Choices, TaskBench
from harness.sae.corpus.sweep import activations
from harness.tasks.find import load_task
from harness.types import rng


class MetricBench:
    """A task's bench with what :class:`harness.contracts.Bench` offers to metrics; everything else is the bench's own."""

    def __init__(self, bench: TaskBench, split: TextSplit | None = None) -> None:
        self.bench = bench
        self.split = split or quarters(len(bench.corpus_tokens))
        self.n_read = 0
        """Texts whose activations or logits were asked for: what is kept as an artifact is not read again."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.bench, name)

    def activations(self, site: Site | None = None, texts: TextSet | None = None) -> Iterator[tuple[int, torch.Tensor]]:
        rows = self.bench.corpus_tokens if texts is None else texts.tokens
        for place, x in activations(self.bench.model, rows, site or self.bench.site):
            self.n_read += 1
            yield place, x

    def logits(self, texts: Sequence[Sequence[int]], intervention: Intervention | None = None) -> Iterator[torch.Tensor]:
        model = self.bench.model
        for ids in texts:
            self.n_read += 1
            with ExitStack() as stack, torch.no_grad():
                for edit in intervention.edits if intervention else ():
                    for site in edit.sites:
                        handle = model.layers[site.layer].register_forward_hook(_hook(edit))
                        stack.callback(handle.remove)
                yield model.hf(input_ids=torch.as_tensor(np.asarray(ids, dtype=np.int64))[None]).logits[0].float()


@pytest.fixture
def metric_bench(tiny_task: Path, tmp_path: Path) -> Callable[..., MetricBench]:
    """A bench for metrics on the tiny task (or on a changed copy of it), with a cache of the test's own: ``metric_bench()``."""

    def make(task: Path = tiny_task, dtype: str = "float32") -> MetricBench:
        cache = ArtifactCache(tmp_path / "artifacts")
        return MetricBench(TaskBench(load_task(task), Choices(device="cpu", dtype=dtype), cache, Progress(quiet=True)))

    return make


def quarters(n: int) -> TextSplit:
    """Half of ``n`` texts to train on, a quarter for thresholds, a quarter to report on."""
    order = rng(0, "test-split").permutation(n)
    return TextSplit(*(np.sort(part) for part in np.split(order, [n // 2, 3 * n // 4])))


def whole_text(x: torch.Tensor) -> EditContext:
    """The context of prompts without padding."""
    every = torch.ones(x.shape[:2], dtype=torch.bool)
    place = torch.arange(x.shape[1]).expand(x.shape[:2])
    return EditContext(real=every, generated=~every, first=place == 0, place=place, to_end=x.shape[1] - 1 - place)


def _hook(edit: Edit) -> Any:
    def hook(layer: Any, arguments: Any, output: Any) -> Any:
        x = hidden_of(output)
        context = whole_text(x)
        edited = edit.stack([edit], x.device).apply(x.float(), context)
        return with_hidden(output, torch.where(context.touched(edit.positions)[..., None], edited.to(x.dtype), x))

    return hook
