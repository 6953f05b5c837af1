"""The token ids of a corpus' texts on disk: made once, read at random, never all in memory."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, overload

import numpy as np
import numpy.typing as npt

from harness.errors import DataError, OptionError, StoreError
from harness.files.shards import ShardedFiles, map_file
from harness.files.timing import CLOCK, TOKENIZER

if TYPE_CHECKING:
    from harness.model.loading import SubjectModel

FORMAT = 2
"""Version of the files and of how texts become token ids; part of the key of everything that is made of a corpus. 2: no control token in a text."""

T = TypeVar("T")

BLOCK_TEXTS = 1024
"""Number of texts that are tokenised at a time, held in memory, and committed."""

_REMOVE = "remove the folder to have them made again"
_TOKENS, _OFFSETS = "tokens.u32", "offsets.i64"


class TokenTable(Sequence[npt.NDArray[np.int64]]):
    """Token ids of texts: ``table[i]`` are those of text i, int64 ``[tokens]`` (a copy); a slice gives a list of them.

    Args:
        tokens: ``[all tokens]`` uint32, text after text; may be memory-mapped.
        offsets: ``[texts + 1]`` int64; text i's are ``tokens[offsets[i]:offsets[i + 1]]``.
    """

    def __init__(self, tokens: npt.NDArray[np.uint32], offsets: npt.NDArray[np.int64]) -> None:
        self._tokens, self._offsets = tokens, offsets

    @classmethod
    def load(cls, folder: Path) -> TokenTable:
        """Open what :func:`write_tokens` has finished; the ids stay on disk.

        Raises:
            StoreError: it is missing, or cut off.
        """
        try:
            texts = (folder / _OFFSETS).stat().st_size // 8 - 1
        except OSError as error:
            raise StoreError(f"{folder} holds no token ids ({error.strerror or error})", given=folder, hint=_REMOVE) from error
        if texts < 0:
            raise StoreError(f"the token ids in {folder} are unfinished", given=folder, hint=_REMOVE)
        offsets = map_file(folder / _OFFSETS, "<i8", (texts + 1,))
        return cls(map_file(folder / _TOKENS, "<u4", (int(offsets[-1]),)), offsets)

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Return ``[texts]``: tokens of each text."""
        return np.diff(self._offsets)

    @property
    def n_tokens(self) -> int:
        """Return tokens of all texts."""
        return int(self._offsets[-1] - self._offsets[0])

    def __len__(self) -> int:
        return len(self._offsets) - 1

    @overload
    def __getitem__(self, index: int) -> npt.NDArray[np.int64]: ...
    @overload
    def __getitem__(self, index: slice) -> list[npt.NDArray[np.int64]]: ...
    def __getitem__(self, index: int | slice) -> npt.NDArray[np.int64] | list[npt.NDArray[np.int64]]:
        places = range(len(self))[index]  # Python's own rules for negative places, steps and ends
        return [self._text(place) for place in places] if isinstance(places, range) else self._text(places)

    def __iter__(self) -> Iterator[npt.NDArray[np.int64]]:
        return map(self._text, range(len(self)))

    def __repr__(self) -> str:
        return f"TokenTable({len(self)} texts, {self.n_tokens} tokens)"

    def _text(self, place: int) -> npt.NDArray[np.int64]:
        # torch reads int64; a copy, since a memory-mapped page may not be written to
        return self._tokens[self._offsets[place] : self._offsets[place + 1]].astype(np.int64)


def write_tokens(
    model: SubjectModel,
    texts: Iterable[T],
    n: int,
    limit: int,
    folder: Path,
    progress: Callable[[int, int], None] | None = None,
    encode: Callable[[SubjectModel, list[T], int], list[list[int]]] | None = None,
) -> TokenTable:
    """Tokenise texts to files in ``folder``: for each exactly ``model.encode(text)[:limit]``, unless ``encode`` says otherwise.

    Texts are read and tokenised a block at a time. A folder in which a call with the same model, number and limit was interrupted is gone
    on with after its last whole block: ``texts`` must be the same again (those that are done are read over).

    Args:
        model: whose tokenizer it is.
        texts: read once, in order; an empty text is one of the tokens that the tokenizer puts before each, or of none.
        n: how many there are.
        limit: tokens kept per text, at least one.
        folder: one process at a time; made when it is not there.
        progress: called with (texts done, texts in all).
        encode: makes token ids of some texts, of ``limit`` at most each; None for :func:`encoded`.

    Raises:
        OptionError: ``limit`` is below 1.
        DataError: there are more or fewer than ``n`` texts.
        ModelError: a text holds a token that the tokenizer knows and the model does not.
        StoreError: the disk is full or cannot be written.
    """
    if limit < 1:
        raise OptionError(f"limit is {limit}", given=limit, allowed="at least 1 token per text")
    header: dict[str, Any] = {"format": FORMAT, "model": [model.name, model.digest], "n": n, "limit": limit, "block": BLOCK_TEXTS}
    files = ShardedFiles(folder, (_TOKENS, _OFFSETS), header)
    if not files.size(_OFFSETS):
        files.append({_TOKENS: np.empty(0, "<u4"), _OFFSETS: np.zeros(1, "<i8")}, 0)
    done, end = files.size(_OFFSETS) // 8 - 1, files.size(_TOKENS) // 4
    if progress is not None and done:
        progress(done, n)
    rest = itertools.islice(texts, done, None)
    while block := list(itertools.islice(rest, BLOCK_TEXTS)):
        ids = encoded(model, [str(text) for text in block], limit) if encode is None else encode(model, block, limit)
        ends = end + np.cumsum([len(row) for row in ids], dtype="<i8")
        tokens = np.fromiter(itertools.chain.from_iterable(ids), "<u4", int(ends[-1]) - end)
        done, end = done + len(block), int(ends[-1])
        if done > n:
            break
        files.append({_TOKENS: tokens, _OFFSETS: ends}, len(block))
        if progress is not None:
            progress(done, n)
    if done != n:
        count = f"more than {n}" if done > n else str(done)
        raise DataError(f"the corpus has {count} texts", given=done, allowed=f"{n}, as announced", hint="start again if the corpus has changed")
    return TokenTable.load(folder)


def encoded(model: SubjectModel, texts: list[str], limit: int) -> list[list[int]]:
    """As :meth:`SubjectModel.encode` of each, in one call of the tokenizer.

    Raises:
        ModelError: a text holds a token that the tokenizer knows and the model does not.
    """
    with CLOCK.part(TOKENIZER):
        prefix = list(model.format.prefix)
        return [model.check_tokens((prefix + ids[:limit])[:limit]) for ids in model.format.bodies(texts)]
