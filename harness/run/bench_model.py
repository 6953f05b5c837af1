"""The subject model of a bench, and what is read from it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from harness.errors import TaskError
from harness.interventions import Site
from harness.run.core_bench import CoreBench
from harness.store.manifest import ModelRef

if TYPE_CHECKING:
    import torch

    from harness.contracts import Workers
    from harness.data.texts import TextSet
    from harness.model.loading import SubjectModel
    from harness.sae.synthetic.source import Samples, SyntheticSource


def synthetic_source(bench: CoreBench) -> SyntheticSource | None:
    """Return the source of the task's activations where it has no language model."""
    table = bench.task.file.synthetic
    if table is None:
        return None
    from harness.model.devices import choose_device
    from harness.sae.synthetic.source import SyntheticSource

    return SyntheticSource(table.config, table.samples, choose_device(bench.choices.device))


def workers_without_model(bench: CoreBench) -> Workers:
    """Return the workers of a task of synthetic activations: processes with no model, for work that needs none."""
    from harness.engine.spreading.executor import EngineWorkers, SpreadExecutor
    from harness.engine.spreading.opening import open_executor
    from harness.engine.spreading.recipe import NoModel
    from harness.run.spread_engine import open_guarded

    executor = open_executor(bench.choices.spread, open_guarded)
    assert isinstance(executor, SpreadExecutor)
    assert bench.synthetic is not None
    return EngineWorkers(executor, NoModel(bench.synthetic.device))


def load_subject(bench: CoreBench) -> SubjectModel:
    """Return the task's model, loaded. Raises TaskError for a task of synthetic activations."""
    from harness.model.loading import load_model

    table = bench.task.file.language_model
    local = bench.task.path(table.name)
    name = str(local) if table.name.startswith((".", "/", "~")) else table.name
    return load_model(
        name,
        device=bench.choices.device,
        dtype=bench.choices.dtype,
        revision=table.revision,
        progress=bench.progress.step,
        downloads=bench.progress,
    )


def ref_of(model: SubjectModel) -> ModelRef:
    """Return a loaded model as the run's identity and the entry say it."""
    return ModelRef(name=model.name, digest=model.digest, dtype=str(model.dtype).removeprefix("torch."), device=str(model.device))


def token_limit(bench: CoreBench) -> int:
    """Return tokens at which texts are cut: the task's ``corpus.max_tokens``, or fewer where the model reads no more, which is warned of."""
    limit, most = bench.task.file.corpus.max_tokens, bench.model.max_tokens
    if most is None or limit <= most:
        return limit
    bench.warn(f"corpus.max_tokens is {limit}, and {bench.model.name} reads {most} tokens: texts are cut there")
    return most


def activations(bench: CoreBench, site: Site | None, texts: TextSet | Samples | None) -> Iterator[tuple[int, torch.Tensor]]:
    """See :meth:`harness.contracts.Bench.activations`."""
    if bench.synthetic is not None:
        from harness.sae.synthetic.source import Samples

        return bench.synthetic.vectors(texts if isinstance(texts, Samples) else Samples("train", 0, bench.synthetic.n_samples))
    if texts is not None and not hasattr(texts, "tokens"):
        raise TaskError(f"task {bench.task.name!r} has texts, not samples", given=bench.task.name, hint="name a task of synthetic activations")
    return bench.services.activations(site or bench.site, bench.corpus_tokens if texts is None else texts.tokens, bench.skip)
