"""Vectors of given texts that are kept with their places: each text's last token, or all of its counted tokens.

:mod:`harness.measuring.vectors` keeps the vectors of a sample of the corpus as one heap; here a reader needs to know whose a vector is.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harness.interventions import Site
from harness.measuring import VERSION
from harness.measuring.vectors import KeptVectors, as_bits
from harness.types import digest

if TYPE_CHECKING:
    import torch

    from harness.contracts import Bench
    from harness.model.activations import ResidualBatch

Tokens = Sequence[NDArray[np.int64]]
"""Texts as token ids."""

_DATA, _OWNERS, _PLACES, _META = "vectors.bin", "owners.bin", "places.bin", "readings.json"
_BLOCK = 2048


@dataclass(frozen=True, eq=False)
class Readings:
    """Vectors of texts, and whose they are.

    Attributes:
        vectors: ``[n, width]``, in the order of the two below.
        owners: ``[n]`` int64, the text that a vector is of.
        places: ``[n]`` int64, where in that text its token stands, from 0.
    """

    vectors: KeptVectors
    owners: NDArray[np.int64]
    places: NDArray[np.int64]

    def parts(self) -> Iterator[tuple[torch.Tensor, NDArray[np.int64]]]:
        """Yield the vectors, some thousand at a time, float32 ``[tokens, width]``, and their numbers ``[tokens]``."""
        done = 0
        for x in self.vectors:
            yield x, np.arange(done, done + len(x))
            done += len(x)


def last_tokens(bench: Bench, layer: int, rows: Tokens, what: str = "texts") -> Readings:
    """Return the vector of each text's last token after a layer: one a text, in no particular order.

    It counts whatever it is, outlier or first token: it is where the text ends.

    Args:
        bench: the task's bench.
        layer: whose output is read.
        rows: token ids, each text as the model shall see it, none empty.
        what: what is read, for the progress shown.

    Raises:
        ModelError: such a vector is not finite.
    """
    import torch

    from harness.model.activations import check_finite, residuals

    def read(shard: NDArray[np.int64]) -> Iterator[tuple[ResidualBatch, NDArray[np.int64]]]:
        for batch in residuals(bench.model, [rows[int(text)] for text in shard], Site(layer), skip=0):
            last = batch.real.long().sum(dim=1, keepdim=True) - 1
            batch = dataclasses.replace(batch, counted=torch.zeros_like(batch.real).scatter(1, last, True))
            check_finite(batch, bench.model, shard)
            yield batch, shard[list(batch.rows)]

    return _kept(bench, layer, rows, "last", 0, read, what)


def every_token(bench: Bench, layer: int, rows: Tokens, skip: int = 1, what: str = "texts") -> Readings:
    """Return the vectors of all tokens that every statistic of this program counts: not the first ``skip``, no padding, no outliers.

    Arguments and errors as for :func:`last_tokens`. A text without such a token has no vector.
    """
    from harness.sae.corpus.sweep import sweep

    def read(shard: NDArray[np.int64]) -> Iterator[tuple[ResidualBatch, NDArray[np.int64]]]:
        for batch in sweep(bench.model, rows, Site(layer), texts=shard, skip=skip):
            yield batch, np.asarray(batch.rows, dtype=np.int64)

    return _kept(bench, layer, rows, "every", skip, read, what)


def tokens_digest(rows: Tokens) -> str:
    """Return the identity of texts by their tokens."""
    return digest([np.asarray(row).tolist() for row in rows])


# ------------------------------------------------------------------------------------------------------------------------- inside

Read = Callable[[NDArray[np.int64]], Iterator[tuple["ResidualBatch", NDArray[np.int64]]]]
"""Reads the texts of a shard: batches whose ``counted`` tokens are kept, and the texts of their rows."""


def _kept(bench: Bench, layer: int, rows: Tokens, kind: str, skip: int, read: Read, what: str) -> Readings:
    from harness.files.shards import ShardedFiles
    from harness.sae.corpus.sweep import SHARD_TOKENS, sweep_shards

    dtype, width = bench.model.dtype, bench.model.d_model

    def compute(folder: Path) -> None:
        files = ShardedFiles(folder, [_DATA, _OWNERS, _PLACES], [kind, _BLOCK, SHARD_TOKENS, skip])
        shards = list(sweep_shards(rows, skip=skip, block=_BLOCK))
        for shard in bench.track(shards[len(files.notes) :], f"reading {what}"):
            parts: dict[str, list[NDArray[Any]]] = {_DATA: [], _OWNERS: [], _PLACES: []}
            for batch, texts in read(shard):
                row, place = (found.cpu().numpy() for found in batch.counted.nonzero(as_tuple=True))
                parts[_DATA].append(as_bits(batch.x[batch.counted].to(dtype)))
                parts[_OWNERS].append(texts[row])
                parts[_PLACES].append(place.astype(np.int64))
            files.append({name: np.concatenate(found) for name, found in parts.items()}, None)
        (folder / _META).write_text(json.dumps([files.size(_DATA) // (width * dtype.itemsize), width]), encoding="utf-8")

    key = {"kind": "readings", "version": VERSION, "tokens": kind, "skip": skip, "layer": layer, "texts": tokens_digest(rows)}
    folder = bench.artifact(key, compute)
    n, width = json.loads((folder / _META).read_text(encoding="utf-8"))
    vectors = KeptVectors(folder / _DATA, n, width, str(dtype).removeprefix("torch."), bench.model.device)
    return Readings(vectors, np.fromfile(folder / _OWNERS, np.int64), np.fromfile(folder / _PLACES, np.int64))
