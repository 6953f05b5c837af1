"""The activations of texts' tokens at one site, read from the model once and kept on disk: all methods and concepts of a site share them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.data.examples import Picked, corpus_texts
from harness.data.texts import TextSet
from harness.files.shards import ShardedFiles, map_file
from harness.fitting.reading import reduced
from harness.types import Json

if TYPE_CHECKING:
    import torch

    from harness.contracts import Bench
    from harness.fitting.texts import ConceptTexts, Places
    from harness.interventions import Site

VERSION = 1
"""Part of the key under which vectors are kept; raised when what is kept changes."""

TEXTS = 512
"""So many texts are committed to the disk together."""

_VECTORS, _LENGTHS = "vectors.bin", "lengths.i64"
_BITS = {2: np.int16, 4: np.int32, 8: np.int64}
"""numpy has no bfloat16: what lies on disk is the bits."""


@dataclass(frozen=True, eq=False)
class TokenActivations:
    """Vectors of the counted tokens of some texts, on disk in the model's own dtype, so none of their digits is lost.

    Attributes:
        places: the texts' places in the corpus, ``[texts]``, ascending.
        offsets: ``[texts + 1]``; text i's vectors are rows ``offsets[i]`` to ``offsets[i + 1]``. A text may have none.
    """

    places: Places
    offsets: np.ndarray[Any, np.dtype[np.int64]]
    _bits: np.ndarray[Any, Any]
    _dtype: torch.dtype
    _device: torch.device

    def of(self, places: Places) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the vectors of some texts: float32 ``[tokens, d_model]`` on the model's device, text after text, and whose each is, ``[tokens]``.

        The second counts texts as ``places`` does, from 0.
        """
        import torch

        rows = np.searchsorted(self.places, places)
        starts, counts = self.offsets[rows], self.offsets[rows + 1] - self.offsets[rows]
        wanted = np.concatenate([np.arange(start, start + n) for start, n in zip(starts, counts, strict=True)] or [np.empty(0, np.int64)])
        x = torch.from_numpy(np.array(self._bits[wanted])).view(self._dtype).to(self._device).float()
        return x, torch.from_numpy(np.repeat(np.arange(len(places)), counts)).to(self._device)


def token_activations(bench: Bench, site: Site, concepts: Sequence[ConceptTexts]) -> TokenActivations:
    """Return the activations of all training texts of some concepts, each text read once.

    Made when they are first asked for: tokens · d_model · the dtype's bytes on disk. A call that is interrupted is gone on with.

    Raises:
        ModelError: the layer does not exist; a counted token's vector is not finite.
        StoreError: the disk is full or cannot be written; what was committed is kept.
    """
    places = np.unique(np.concatenate([texts.places for texts in concepts]))
    identity = hashlib.sha256(places.astype("<i8").tobytes()).hexdigest()[:16]
    key: Json = {"kind": "token-activations", "version": VERSION, "site": str(site), "texts": identity}
    folder = bench.artifact(key, lambda folder: _read(bench, site, places, identity, folder))
    lengths = np.fromfile(folder / _LENGTHS, "<i8")
    offsets = np.concatenate([np.zeros(1, np.int64), lengths.cumsum()])
    dtype, width = bench.model.dtype, bench.model.d_model
    bits = map_file(folder / _VECTORS, _BITS[dtype.itemsize], (int(offsets[-1]), width))
    return TokenActivations(places, offsets, bits, dtype, bench.model.device)


def _read(bench: Bench, site: Site, places: Places, identity: str, folder: Path) -> None:
    """Read the texts some at a time, each lot committed before the next begins."""
    bench.model.stream_module(site)  # refuses a layer that is not there, before anything is read
    files = ShardedFiles(folder, (_VECTORS, _LENGTHS), {"version": VERSION, "texts": identity, "dtype": str(bench.model.dtype)})
    starts = [*range(0, len(places), TEXTS), len(places)]
    parts = list(pairwise(starts))[len(files.notes) :]
    for start, stop in bench.track(parts, "reading the tokens of training texts", len(parts)):
        found = dict(reduced(bench, site, text_set(bench, f"training texts {start} to {stop}", places[start:stop]), _Bits(bench.model.dtype)))
        vectors = [found[place] for place in range(stop - start) if place in found]
        lengths = [len(found[place]) if place in found else 0 for place in range(stop - start)]
        width = bench.model.d_model
        empty = np.empty((0, width), _BITS[bench.model.dtype.itemsize])
        files.append({_VECTORS: np.concatenate([empty, *vectors]), _LENGTHS: np.array(lengths, "<i8")}, stop)


@dataclass(frozen=True)
class _Bits:
    """A text's vectors as they lie on disk. A :data:`harness.fitting.reading.Reduce`."""

    dtype: torch.dtype

    def __call__(self, x: torch.Tensor) -> np.ndarray[Any, Any]:
        import torch

        bits = {2: torch.int16, 4: torch.int32, 8: torch.int64}[self.dtype.itemsize]
        return x.to(self.dtype).contiguous().view(bits).cpu().numpy()


def text_set(bench: Bench, name: str, places: Places) -> TextSet:
    """Return texts of the corpus by their places, as methods read them."""
    tokens = bench.corpus_tokens
    identity = hashlib.sha256(places.astype("<i8").tobytes()).hexdigest()[:16]
    return TextSet(name, f"places {identity}", corpus_texts(bench.corpus, places), Picked(places, lambda place: tokens[place]), places)
