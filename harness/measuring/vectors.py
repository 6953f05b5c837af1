"""The residual vectors of some texts at one site, read from the model once and kept: all dictionaries of a site are measured on the same ones."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harness.interventions import Site
from harness.measuring import VERSION
from harness.types import Json

if TYPE_CHECKING:
    import torch

    from harness.contracts import Bench
    from harness.data.texts import TextSet

TOKENS_AT_ONCE = 4096
"""Vectors are handed out so many at a time: texts alone are short."""

_DATA, _META = "vectors.bin", "vectors.json"


@dataclass(frozen=True, eq=False)
class KeptVectors:
    """Vectors ``[n, width]`` on disk, in the model's own dtype, so none of their digits is lost.

    Attributes:
        path: where they are.
        n: counted tokens.
        width: of a vector.
        rows: of which texts they are, in the order on disk: each text's place in the set, and how many of its tokens are here; empty where whoever
            reads them keeps that itself.
        dtype: torch's name of the dtype on disk.
        device: where they are handed out.
    """

    path: Path
    n: int
    width: int
    dtype: str
    device: Any
    rows: tuple[tuple[int, int], ...] = ()

    def __iter__(self) -> Iterator[torch.Tensor]:
        """Yield float32 ``[tokens, width]``, some thousand tokens at a time."""
        return self.following(0)

    def following(self, n: int) -> Iterator[torch.Tensor]:
        """Yield what comes after the first ``n``."""
        for start in range(n, self.n, TOKENS_AT_ONCE):
            yield self._part(slice(start, start + TOKENS_AT_ONCE))

    def all(self) -> torch.Tensor:
        """Return all of them, float32 ``[n, width]``."""
        return self._part(slice(0, self.n))

    def _part(self, part: slice) -> torch.Tensor:
        import torch

        dtype: torch.dtype = getattr(torch, self.dtype)
        bits = np.memmap(self.path, dtype=_BITS[dtype.itemsize], mode="r", shape=(self.n, self.width))
        return torch.from_numpy(np.array(bits[part])).view(dtype).to(self.device).float()


_BITS = {2: np.int16, 4: np.int32, 8: np.int64}
"""numpy has no bfloat16: what lies on disk is the bits."""


def as_bits(x: torch.Tensor) -> NDArray[np.signedinteger[Any]]:
    import torch

    bits = {2: torch.int16, 4: torch.int32, 8: torch.int64}[x.dtype.itemsize]
    return np.asarray(x.contiguous().view(bits).cpu().numpy())


def kept_vectors(bench: Bench, layer: int, texts: TextSet) -> KeptVectors:
    """Return the counted tokens' vectors of ``texts`` after a layer; made when they are first asked for, n · width · the dtype's bytes on disk.

    What is read is committed now and then, so that a call which was interrupted is gone on with.

    Raises:
        ModelError: a counted token's vector is not finite.
    """
    from harness.files.shards import ShardedFiles
    from harness.sae.corpus.sweep import BLOCK, SHARD_TOKENS, sweep_shards

    dtype, width = bench.model.dtype, bench.model.d_model

    def compute(folder: Path) -> None:
        files = ShardedFiles(folder, [_DATA], [BLOCK, SHARD_TOKENS, bench.skip])
        shards = list(sweep_shards(texts.tokens, skip=bench.skip, block=BLOCK))[len(files.notes) :]
        read = itertools.chain.from_iterable(bench.activations(Site(layer), texts.part(shard)) for shard in shards)
        vectors = bench.track(read, "reading texts", sum(map(len, shards)))
        for shard in shards:  # of texts with tokens that count, so each of them comes
            read_now = list(itertools.islice(vectors, len(shard)))
            texts_now: Json = [[int(shard[place]), len(x)] for place, x in read_now]
            files.append({_DATA: np.concatenate([as_bits(x.to(dtype)) for _, x in read_now])}, texts_now)
        rows = [row for note in files.notes if isinstance(note, list) for row in note]
        (folder / _META).write_text(json.dumps([files.size(_DATA) // (width * dtype.itemsize), width, rows]), encoding="utf-8")

    folder = bench.artifact({"kind": "kept-vectors", "version": VERSION, "layer": layer, "texts": texts.digest}, compute)
    n, width, rows = json.loads((folder / _META).read_text(encoding="utf-8"))
    places = tuple((place, count) for place, count in rows)
    return KeptVectors(folder / _DATA, n, width, str(dtype).removeprefix("torch."), bench.model.device, places)
