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
    from harness.files.progress import Progress
    from harness.files.shards import ShardedFiles
    from harness.model.activations import Row
    from harness.model.loading import SubjectModel

Tokens = Sequence["np.ndarray[Any, np.dtype[np.int64]]"]
"""Texts as token ids."""


MEANS = "means.npz"
_PARTS = {"part-means": "<f4", "part-tokens": "<i8", "part-norms": "<f8"}
"""What is kept of the texts while they are read, in the order in which they are."""


def read_means(folder: Path) -> ResidualMeans:
    """Return what :meth:`ModelServices.write_means` wrote."""
    with np.load(folder / MEANS, allow_pickle=False) as saved:
        return ResidualMeans(saved["means"], saved["tokens"], float(saved["norm"]))


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
        if executor is None:
            return {}
        executor.close()
        return executor.facts()

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
        from harness.sae.corpus.sweep import BLOCK, BUDGET, SHARD_TOKENS, sweep, sweep_shards

        if (folder / MEANS).is_file():  # it was finished, and killed while the parts were removed
            return remove_shards(folder, list(_PARTS))
        files = ShardedFiles(folder, list(_PARTS), [str(site), len(tokens), self.model.digest, BLOCK, BUDGET, SHARD_TOKENS, skip])
        shards, budget = list(sweep_shards(tokens, skip=skip, block=BLOCK)), TokenBudget(BUDGET)
        done = sum(map(len, shards[: len(files.notes)]))
        with progress.task("reading the corpus", int((row_lengths(tokens) > skip).sum()), done) as advance:
            for shard in shards[len(files.notes) :]:
                means = np.zeros((len(shard), self.model.d_model), dtype=np.float32)
                counted: list[int] = []
                norms: list[float] = []
                for batch in sweep(self.model, tokens, site, texts=shard, token_budget=budget, skip=skip):
                    for x, usual in zip(batch.x, batch.counted, strict=True):
                        vectors = x[usual].float()
                        means[len(counted)] = vectors.mean(dim=0).cpu().numpy()
                        counted.append(len(vectors))
                        norms.append(float(vectors.norm(dim=-1).sum()))
                    advance(len(batch.rows))
                parts = {"part-means": means, "part-tokens": counted, "part-norms": norms}
                files.append({name: np.asarray(part, dtype=_PARTS[name]) for name, part in parts.items()}, None)
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
