"""One shard of a corpus: what its texts hold, read by this process or by a worker, which finds the same."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from harness.interventions import Site
from harness.model.activations import ResidualBatch, Row, in_parts
from harness.model.memory import TokenBudget
from harness.sae.corpus.counts import Meter, TextMeter
from harness.sae.corpus.sweep import n_past, sweep

if TYPE_CHECKING:
    from harness.model.loading import SubjectModel
    from harness.sae.dictionary import Dictionary

AT_ONCE = 16
"""Shards that workers are given at a time: those that come before their turn wait in memory."""


@dataclass(frozen=True)
class Shard:
    """What a shard's texts hold.

    Attributes:
        ends: ``[texts]`` int64, where each text's features end among those below.
        features: active features, text by text, ascending within a text, int32.
        shares: on which share of the text's counted tokens each is active, float32.
        maxima: its largest activation there, float32.
        n_tokens: ``[texts]`` int64, counted tokens.
        means: ``[texts, d_model]`` float32, mean residual vectors.
        sums: number of outliers, and the sums over all tokens of :class:`~harness.sae.corpus.counts.Meter`, float64.
    """

    ends: npt.NDArray[np.int64]
    features: npt.NDArray[np.int32]
    shares: npt.NDArray[np.float32]
    maxima: npt.NDArray[np.float32]
    n_tokens: npt.NDArray[np.int64]
    means: npt.NDArray[np.float32]
    sums: npt.NDArray[np.float64]


class ShardReader:
    """Reads texts and counts what their tokens hold, a shard at a time."""

    def __init__(self, model: SubjectModel, dictionary: Dictionary, skip: int, outlier: float, budget: TokenBudget) -> None:
        self.model, self.skip, self.outlier, self.budget = model, skip, outlier, budget
        self.meter = Meter(dictionary)

    def read(self, rows: Sequence[Row], first: int, advance: Callable[[int], None] | None = None) -> Shard:
        """Return what the texts ``rows`` hold, of which the first is the corpus' text ``first``; ``advance`` is called with how many are done."""
        self.meter.clear()
        found = TextMeter(self.meter, len(rows), self.model.d_model)
        done = sum(len(row) <= self.skip for row in rows)

        def count(part: ResidualBatch) -> None:
            found.add(part.rows, part.x, part.counted)

        site = Site(self.meter.dictionary.layer)
        for batch in sweep(self.model, rows, site, skip=self.skip, outlier=self.outlier, token_budget=self.budget, offset=first):
            in_parts(batch, count, self.budget)
            done += len(batch.rows)
            if advance is not None:
                advance(done)
        n_outliers = n_past(rows, self.skip) - int(found.n_tokens.sum())
        return Shard(*found.rows(), found.n_tokens, found.means, np.concatenate([[n_outliers], self.meter.sums]))


class HasModel(Protocol):
    """A worker's engine, as far as a pass over a corpus needs one."""

    model: SubjectModel


@dataclass(frozen=True)
class ShardWork:
    """A shard that a worker reads (:class:`harness.engine.spreading.work.Work`); its one part is the :class:`Shard`.

    Attributes:
        dictionary: whose features.
        rows: the shard's texts as token ids.
        first: the place of the first of them in the corpus.
        skip: see :func:`harness.sae.corpus.collect.measure`, as the others.
        outlier: the same.
        token_budget: the same.
    """

    dictionary: Dictionary
    rows: Sequence[Row]
    first: int
    skip: int
    outlier: float
    token_budget: int

    @property
    def names(self) -> Sequence[str]:
        return (str(self.first),)

    def do(self, engine: HasModel) -> Iterator[tuple[str, Shard]]:
        reader = ShardReader(engine.model, self.dictionary, self.skip, self.outlier, TokenBudget(self.token_budget))
        yield str(self.first), reader.read(self.rows, self.first)


SpreadOut: TypeAlias = "Callable[[Sequence[Any]], Iterator[tuple[str, Any]]]"
"""Has pieces of work done, and yields their parts as they come."""


def in_order(works: Iterator[Any], spread: SpreadOut) -> Iterator[Any]:
    """Yield the one part of each piece of work, in the order of the pieces, whoever is done first."""
    while batch := list(itertools.islice(works, AT_ONCE)):
        held: dict[str, Any] = {}
        following = iter([name for work in batch for name in work.names])
        name = next(following, None)
        for found, part in spread(batch):
            held[found] = part
            while name is not None and name in held:
                yield held.pop(name)
                name = next(following, None)
