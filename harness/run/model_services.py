"""What a bench offers of the subject model beside its weights.

Texts and logits come by the run's engine, activations and mean residuals by the walk over a corpus."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harness.contracts import ResidualMeans, Workers
from harness.errors import EngineError
from harness.interventions import Intervention, Site
from harness.types import Decoding, Json

if TYPE_CHECKING:
    import torch

    from harness.engine.base import Engine, Executor, Generated, GenerationRequest
    from harness.engine.spreading.choice import Spread
    from harness.engine.spreading.work import HasModel
    from harness.files.progress import Progress
    from harness.files.shards import ShardedFiles
    from harness.model.activations import Row
    from harness.model.loading import SubjectModel
    from harness.model.memory import TokenBudget

Tokens = Sequence["np.ndarray[Any, np.dtype[np.int64]]"]
"""Texts as token ids."""


MEANS = "means.npz"
_PARTS = {"part-means": "<f4", "part-tokens": "<i8", "part-norms": "<f8"}
"""What is kept of the texts while they are read, in the order in which they are."""


def read_means(folder: Path) -> ResidualMeans:
    """Return what :meth:`ModelServices.write_means` wrote."""
    with np.load(folder / MEANS, allow_pickle=False) as saved:
        return ResidualMeans(saved["means"], saved["tokens"], float(saved["norm"]))


def end(executor: Executor) -> Mapping[str, Json]:
    """End what an executor has begun, and return what a reader of the run may want to know of it."""
    executor.close()
    return executor.facts()


@dataclass(frozen=True, eq=False)
class MeansWork:
    """Texts whose mean vectors are wanted, read here or by a worker (:class:`harness.engine.spreading.work.Work`).

    Attributes:
        rows: token ids of each, the longest first.
        places: of these in the corpus.
        site: where.
        skip: leading tokens that do not count.
    """

    rows: Tokens
    places: NDArray[np.int64]
    site: Site
    skip: int

    @property
    def names(self) -> Sequence[str]:
        return (f"means of texts from {self.places[0]}",)

    def do(self, engine: HasModel) -> Iterator[tuple[str, dict[str, NDArray[Any]]]]:
        from harness.model.memory import TokenBudget
        from harness.sae.corpus.sweep import BUDGET

        yield self.names[0], self.read(engine.model, TokenBudget(BUDGET))

    def read(self, model: SubjectModel, budget: TokenBudget) -> dict[str, NDArray[Any]]:
        """Return the parts that are kept of these texts (:data:`_PARTS`)."""
        from harness.sae.corpus.sweep import sweep

        means = np.zeros((len(self.rows), model.d_model), dtype=np.float32)
        counted: list[int] = []
        norms: list[float] = []
        for batch in sweep(model, self.rows, self.site, token_budget=budget, skip=self.skip, numbers=self.places):
            for x, usual in zip(batch.x, batch.counted, strict=True):
                vectors = x[usual].float()
                means[len(counted)] = vectors.mean(dim=0).cpu().numpy()
                counted.append(len(vectors))
                norms.append(float(vectors.norm(dim=-1).sum()))
        return {name: np.asarray(part, dtype=_PARTS[name]) for name, part in zip(_PARTS, (means, counted, norms), strict=True)}


@dataclass(eq=False)
class ModelServices:
    """See the module.

    Attributes:
        model: the subject model.
        decoding: the task's.
        engine_name: of the run's engine; None stands for the usual one.
        spread: over which workers its work is spread; None: none.
        rows: that the engine decodes together; None: as many as it takes by itself.
    """

    model: SubjectModel
    decoding: Decoding
    engine_name: str | None = None
    spread: Spread | None = None
    rows: int | None = None

    @cached_property
    def engine(self) -> Engine:
        """Return the run's engine."""
        from harness.engine.choice import DEFAULT, open_engine

        return open_engine(self.model, self.engine_name or DEFAULT, batch_size=self.rows)

    @cached_property
    def executor(self) -> Executor:
        """Return who spreads the engine's work."""
        from harness.engine.spreading.choice import Spread
        from harness.engine.spreading.opening import open_executor
        from harness.run.spread_engine import open_guarded

        return open_executor(self.spread or Spread(), open_guarded)

    def end_workers(self) -> Mapping[str, Json]:
        """End the workers, and return what a reader of the run may want to know of them; further work begins others. Empty where there are none."""
        executor: Executor | None = vars(self).pop("executor", None)
        return {} if executor is None else end(executor)

    def generate(
        self, requests: Sequence[GenerationRequest], decoding: Decoding | None = None, only: Container[str] | None = None
    ) -> Iterator[Generated]:
        """See :func:`harness.engine.executors.generate`; ``decoding`` is the task's unless another is given."""
        from harness.engine.executors import generate

        return generate(self.engine, self.executor, requests, decoding or self.decoding, only)

    @property
    def workers(self) -> Workers | None:
        """Return who does pieces of work (:mod:`harness.engine.spreading.work`); None where this process does everything itself."""
        from harness.engine.spreading.executor import EngineWorkers, SpreadExecutor

        return EngineWorkers(self.executor, self.engine) if isinstance(self.executor, SpreadExecutor) else None

    def logits(self, texts: Sequence[Row], intervention: Intervention | None = None) -> Iterator[torch.Tensor]:
        """See :meth:`harness.contracts.Bench.logits`.

        Raises:
            EngineError: at once, for an intervention by words (token ids have no place for them), an edit that cannot be placed, or an adapter
                that does not fit.
            DataError: at once, for an empty text, or one that is longer than the model's context.
        """
        intervention = intervention or Intervention()
        if intervention.prompt_prefix:
            message = f"logits are those of given token ids, where the prompt_prefix {intervention.prompt_prefix!r} has no place"
            raise EngineError(message, given=intervention.prompt_prefix, hint="put it into the texts")
        return self.engine.logits(texts, intervention.edits, intervention.adapter)

    def activations(self, site: Site, tokens: Tokens, skip: int = 1) -> Iterator[tuple[int, torch.Tensor]]:
        """Return each text's place and its activations: float32 ``[tokens, d_model]`` without the first ``skip``, in any order of the texts.

        Raises:
            ModelError: at once, for a site that the model does not have; while iterating, for a vector that is not finite.
            DataError: while iterating, for a text that is longer than the model's context.
        """
        self.model.stream_module(site)
        return self._activations(site, tokens, skip)

    def _activations(self, site: Site, tokens: Tokens, skip: int) -> Iterator[tuple[int, torch.Tensor]]:
        import torch

        from harness.model.activations import row_lengths
        from harness.sae.corpus.sweep import activations

        for place in np.flatnonzero(row_lengths(tokens) <= skip).tolist():
            yield place, torch.empty(0, self.model.d_model, device=self.model.device)
        yield from activations(self.model, tokens, site, skip=skip)

    def write_means(self, site: Site, tokens: Tokens, folder: Path, progress: Progress, skip: int = 1) -> None:
        """Write to ``folder``, for :func:`read_means`, each text's mean vector (zeros without a counted token) and what belongs to it.

        A call that was interrupted is gone on with by the same call.
        """
        from harness.files.shards import ShardedFiles, remove_shards
        from harness.model.activations import row_lengths
        from harness.model.memory import TokenBudget
        from harness.sae.corpus.shard import in_order
        from harness.sae.corpus.sweep import BLOCK, BUDGET, SHARD_TOKENS, sweep_shards

        if (folder / MEANS).is_file():  # it was finished, and killed while the parts were removed
            return remove_shards(folder, list(_PARTS))
        files = ShardedFiles(folder, list(_PARTS), [str(site), len(tokens), self.model.digest, BLOCK, BUDGET, SHARD_TOKENS, skip])
        shards, budget = list(sweep_shards(tokens, skip=skip, block=BLOCK)), TokenBudget(BUDGET)
        done = sum(map(len, shards[: len(files.notes)]))
        missing = shards[len(files.notes) :]
        works = (MeansWork([np.asarray(tokens[int(text)]) for text in shard], shard, site, skip) for shard in missing)
        with progress.task("reading the corpus", int((row_lengths(tokens) > skip).sum()), done) as advance:
            workers = self.workers
            found = (work.read(self.model, budget) for work in works) if workers is None else in_order(works, workers.do)
            for shard, parts in zip(missing, found, strict=True):
                files.append(parts, None)
                advance(len(shard))
        self._finish_means(files, np.concatenate([np.empty(0, np.int64), *shards]), len(tokens))

    def _finish_means(self, files: ShardedFiles, order: NDArray[np.int64], n: int) -> None:
        """Write what was found of the texts ``order`` by their place among all ``n``; the parts are removed after that."""
        from harness.files.shards import remove_shards, replace_file

        found = {name: np.fromfile(files.path(name), dtype) for name, dtype in _PARTS.items()}
        means, counted = np.zeros((n, self.model.d_model), dtype=np.float32), np.zeros(n, dtype=np.int64)
        means[order], counted[order] = found["part-means"].reshape(-1, self.model.d_model), found["part-tokens"]
        norm = found["part-norms"].sum() / int(counted.sum())
        replace_file(files.folder / MEANS, lambda file: np.savez(file, means=means, tokens=counted, norm=norm))
        remove_shards(files.folder, files.names)
