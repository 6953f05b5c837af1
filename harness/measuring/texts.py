"""The texts that a metric reads: drawn by a seed from one part of the task's split, the same for every dictionary."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from harness.data.texts import TextSet
from harness.errors import DataError
from harness.types import rng

if TYPE_CHECKING:
    from harness.contracts import Bench
    from harness.data.split import Part


def sample_texts(bench: Bench, max_tokens: int, seed: int, part: Part = "report") -> TextSet:
    """Whole texts of one part of the split, drawn at random until the next one would exceed ``max_tokens`` counted tokens; at least one.

    The draw depends on the seed and the split alone, so whatever is measured by one seed is measured on the same texts, and a larger
    ``max_tokens`` adds texts to a smaller one's.

    Args:
        bench: the task's bench.
        max_tokens: tokens past the first of each text, at most (one text alone may have more).
        seed: of the draw.
        part: ``report`` for what is reported; ``train`` for what is fitted.

    Returns:
        The texts, by ascending place in the corpus.

    Raises:
        DataError: no text of this part has more than one token.
    """
    from harness.model.activations import row_lengths

    tokens, places = bench.corpus_tokens, bench.split.part(part)
    counted = (row_lengths(tokens)[places] - bench.skip).clip(min=0)
    order = rng(seed, "metric-texts", part).permutation(len(places))
    order = order[counted[order] > 0]
    if not len(order):
        raise DataError(f"no text of the {part} part of the corpus has a token that counts", given=part, hint="give more or longer texts")
    fits = np.cumsum(counted[order]) <= max_tokens
    chosen = np.sort(places[order[: max(1, int(fits.sum()))]])
    ids = [tokens[int(place)] for place in chosen]
    return TextSet(part, _digest(ids), _Texts(bench, chosen), ids, chosen)


def _digest(ids: Sequence[np.ndarray[Any, Any]]) -> str:
    sha = hashlib.sha256()
    for row in ids:
        sha.update(np.asarray([len(row), *row], dtype="<i8").tobytes())
    return sha.hexdigest()[:16]


class _Texts(Sequence[str]):
    """Texts of the corpus, read when they are asked for: most metrics want the token ids alone."""

    def __init__(self, bench: Bench, places: np.ndarray[Any, np.dtype[np.int64]]) -> None:
        self._bench, self._places = bench, places

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self._bench.corpus[int(place)].text for place in self._places[index]]
        return self._bench.corpus[int(self._places[index])].text

    def __len__(self) -> int:
        return len(self._places)
