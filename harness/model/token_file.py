"""Texts as token ids in one small file, for a task that ships what its dictionaries are trained on: a compressed NumPy archive (``.npz``).

Its arrays: ``ids`` of all texts one after the other, as the smallest unsigned integers that hold them; ``lengths`` of the texts; ``about``, JSON as
bytes: the model's name, the tokenizer's digest, how many leading tokens of each text do not count, and what the texts are. The same
texts give the same file, byte by byte.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from harness.errors import DataError
from harness.files.atomic import write_atomically
from harness.files.inputs import IN_MEMORY, Input
from harness.files.packed import npz_headers
from harness.model.tokens import TokenTable
from harness.types import Json, canonical_json, digest

if TYPE_CHECKING:
    from harness.model.activations import Row
    from harness.model.loading import SubjectModel

FORMAT = 1
_KIND = Input("file of token ids", DataError, "have it written by `harness data tokens`", IN_MEMORY)
_NAMES = ("ids", "lengths", "about")


@dataclass(frozen=True, eq=False)
class TokenFile:
    """Texts as token ids.

    Attributes:
        path: the file.
        ids: ``[tokens]``, unsigned integers.
        lengths: ``[texts]``, unsigned integers.
        model: name of the model that they were written for.
        tokenizer: digest of its tokenizer (:func:`tokenizer_digest`).
        skip: leading tokens of each text that do not count.
        source: what the texts are.
    """

    path: Path
    ids: npt.NDArray[np.unsignedinteger]
    lengths: npt.NDArray[np.unsignedinteger]
    model: str
    tokenizer: str
    skip: int
    source: str = ""

    @cached_property
    def rows(self) -> TokenTable:
        """Return the texts' token ids."""
        return TokenTable(self.ids.astype(np.uint32), np.concatenate([[0], np.cumsum(self.lengths, dtype=np.int64)]).astype(np.int64))

    @cached_property
    def digest(self) -> str:
        """Return the identity of the texts and of how many tokens count, wherever the file lies."""
        sha = hashlib.sha256(self.ids.astype("<u4").tobytes() + self.lengths.astype("<u4").tobytes())
        return digest([FORMAT, self.skip, sha.hexdigest()])

    def check_fits(self, model: SubjectModel) -> None:
        """Raise DataError where the ids are not of this model's tokenizer, or beyond what the model reads."""
        if self.tokenizer != (own := tokenizer_digest(model)):
            raise DataError(
                f"{self.path} holds token ids of another tokenizer, that of {self.model}, than {model.name} has",
                given=self.tokenizer,
                allowed=own,
                hint=f"write it anew with `harness data tokens CORPUS --model {model.name}`",
            )
        if len(self.ids) and (largest := int(self.ids.max())) >= model.vocab_size:
            message, hint = f"{self.path} holds the token {largest}, which {model.name} does not have", _KIND.hint
            raise DataError(message, given=largest, allowed=f"0 to {model.vocab_size - 1}", hint=hint)


def tokenizer_digest(model: SubjectModel) -> str:
    """Return the identity of a tokenizer: its tokens and their numbers."""
    return digest(sorted((int(number), str(token)) for token, number in model.tokenizer.get_vocab().items()))


def write_token_file(path: Path, model: SubjectModel, rows: Sequence[Row], skip: int, source: str = "") -> TokenFile:
    """Write texts as token ids.

    Args:
        path: where to; it appears in full or not at all.
        model: whose token ids they are.
        rows: the texts.
        skip: leading tokens of each text that do not count.
        source: what the texts are and their licence.

    Raises:
        DataError: there is no text.
        StoreError: the disk is full or cannot be written.
    """
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    if not lengths.sum():
        raise DataError(f"there is no text to write to {path}", given=len(lengths), hint="give a corpus with longer texts")
    ids = np.concatenate([np.asarray(row, dtype=np.int64) for row in rows])
    about: dict[str, Json] = {
        "format": FORMAT, "model": model.name, "tokenizer": tokenizer_digest(model), "vocabulary": model.vocab_size, "skip": skip, "source": source,
    }  # fmt: skip
    packed = io.BytesIO()
    smallest = [array.astype(np.min_scalar_type(int(array.max()))) for array in (ids, lengths)]
    np.savez_compressed(packed, ids=smallest[0], lengths=smallest[1], about=np.frombuffer(canonical_json(about).encode(), dtype=np.uint8))
    write_atomically(path, packed.getvalue(), "file of token ids")
    return read_token_file(path)


def read_token_file(path: Path) -> TokenFile:
    """Return a file's token ids.

    Raises:
        DataError: it is not such a file, or damaged.
    """
    headers = npz_headers(path, _KIND)
    if missing := [name for name in _NAMES if name not in headers]:
        _KIND.refuse(path, f"has no array {missing[0]}")
    for name in _NAMES:
        if headers[name].dtype.kind != "u" or len(headers[name].shape) != 1:
            _KIND.refuse(path, f"holds {name} as {headers[name].dtype}, not as a list of unsigned integers")
    with np.load(path, allow_pickle=False) as archive:
        ids, lengths, packed = (archive[name] for name in _NAMES)
    try:
        about = json.loads(packed.astype(np.uint8).tobytes())
        model, tokenizer, skip, source = str(about["model"]), str(about["tokenizer"]), int(about["skip"]), str(about.get("source", ""))
    except (ValueError, TypeError, KeyError, AttributeError):
        _KIND.refuse(path, "does not say what it holds")
    if about.get("format") != FORMAT:
        _KIND.refuse(path, f"has format {about.get('format')!r}, and this version reads {FORMAT}")
    if int(lengths.sum(dtype=np.uint64)) != len(ids):
        _KIND.refuse(path, f"states texts of {int(lengths.sum(dtype=np.uint64)):,} tokens, and holds {len(ids):,}")
    return TokenFile(Path(path), ids, lengths, model, tokenizer, max(1, skip), source)
