"""Reading texts to make something small of each one's activations: in this process, or by the run's workers, which make the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.engine.spreading.work import HasModel
from harness.files.progress import current_progress

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from harness.contracts import Bench
    from harness.data.texts import TextSet
    from harness.interventions import Site
    from harness.model.activations import Row

AT_ONCE = 64
"""Pieces that workers are given at a time: what they find waits in memory."""

Reduce = Callable[["torch.Tensor"], "NDArray[Any]"]
"""Makes something of a text's activations, float32 ``[tokens, d_model]``. It is sent to workers, with all that it holds."""


@dataclass(frozen=True, eq=False)
class ReadWork:
    """Texts that a worker reads (:class:`harness.engine.spreading.work.Work`); its one part is each text's place and what was made of it.

    Attributes:
        places: of the texts in their set, int64; whole forward passes of one that reads all of them.
        rows: their token ids.
        site: where.
        skip: leading tokens that do not count.
        reduce: what is made of them.
    """

    places: NDArray[np.int64]
    rows: Sequence[Row]
    site: Site
    skip: int
    reduce: Reduce

    @property
    def names(self) -> Sequence[str]:
        return (f"texts from {self.places[0]}",)

    def do(self, engine: HasModel) -> Iterator[tuple[str, list[tuple[int, NDArray[Any]]]]]:
        from harness.sae.corpus.sweep import activations

        read = activations(engine.model, self.rows, self.site, skip=self.skip, numbers=self.places)
        yield self.names[0], [(int(self.places[row]), self.reduce(x)) for row, x in read if len(x)]


def reduced(bench: Bench, site: Site, texts: TextSet, reduce: Reduce) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield each text's place and what is made of its activations, in any order; texts without a counted token do not come.

    Args:
        bench: whose model reads.
        site: where.
        texts: which.
        reduce: makes it.

    Raises:
        ModelError: the site does not exist; a counted token's vector is not finite.
        QuarantinedError: at the end, for texts that several workers failed on.
    """
    workers = bench.workers
    shards = [] if workers is None else _shards(texts, bench.skip)

    def work(places: NDArray[np.int64]) -> ReadWork:
        return ReadWork(places, [texts.tokens[int(place)] for place in places], site, bench.skip, reduce)

    if workers is not None and len(shards) > 1 and (reason := workers.refuses(work(shards[0]))):
        current_progress().step(f"{texts.name} are read in this process: {reason}")
        shards = []
    if workers is None or len(shards) < 2:
        for place, x in bench.activations(site, texts):
            if len(x):
                yield place, reduce(x)
        return
    bench.model.stream_module(site)
    for start in range(0, len(shards), AT_ONCE):
        for _, found in workers.do([work(places) for places in shards[start : start + AT_ONCE]]):
            yield from found


def _shards(texts: TextSet, skip: int) -> list[NDArray[np.int64]]:
    """Return texts in pieces of whole forward passes: of one each where there are few, so that many workers share them."""
    from harness.model.activations import row_lengths
    from harness.sae.corpus.sweep import BLOCK, BUDGET, SHARD_TOKENS, sweep_shards

    few = int(row_lengths(texts.tokens).sum()) < AT_ONCE * SHARD_TOKENS
    return list(sweep_shards(texts.tokens, skip=skip, block=BLOCK, tokens=BUDGET if few else SHARD_TOKENS))
