"""Embeddings of a text's word pieces (all-MiniLM-L6-v2), and what concept and instruction have to do with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .batches import in_batches
from .words import sentence_spans

if TYPE_CHECKING:
    import torch

Floats = NDArray[np.float32]

EMBEDDING_MODEL = "all-minilm-l6-v2"


@dataclass(frozen=True, eq=False)
class Pieces:
    """A text's word pieces, embedded in its context.

    Attributes:
        vectors: ``[n, d]``.
        inner: ``[n]``: False for the model's own marks.
        ends: ``[n]``: a sentence ends with this piece.
    """

    vectors: Floats
    inner: NDArray[np.bool_]
    ends: NDArray[np.bool_]

    def whole(self) -> Floats:
        """Return the text's embedding: the mean over all pieces (the model's own pooling), of length 1."""
        return _unit(self.vectors.mean(axis=0))

    def windows(self, size: int) -> Floats:
        """Means of each run of ``size`` neighbouring pieces, of length 1: ``[n_runs, d]``; one run for a text that is no longer than that."""
        body = self.vectors[self.inner] if self.inner.any() else self.vectors
        size = min(size, len(body))
        runs = np.lib.stride_tricks.sliding_window_view(body, size, axis=0)
        return _unit(runs.mean(axis=-1))

    def parts(self) -> list[Pieces]:
        """The sentences, without the model's own marks."""
        body, ends = (self.vectors[self.inner], self.ends[self.inner]) if self.inner.any() else (self.vectors, self.ends)
        places = np.flatnonzero(ends[:-1]) + 1
        return [Pieces(part, np.ones(len(part), dtype=bool), np.zeros(len(part), dtype=bool)) for part in np.split(body, places)]

    def sentences(self) -> Floats:
        """Means over the pieces of each sentence, of length 1: ``[n_sentences, d]``."""
        return _unit(np.stack([part.vectors.mean(axis=0) for part in self.parts()]))


def _unit(vectors: Floats) -> Floats:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12))


def sentence_ends(text: str, offsets: Sequence[tuple[int, int]]) -> list[bool]:
    """Return for each piece, given where it begins and ends in ``text``, whether a sentence ends with it."""
    begins = [start for start, _ in sentence_spans(text)]
    number = np.searchsorted(begins, [start for start, _ in offsets], side="right")
    return [bool(flag) for flag in np.append(number[1:] != number[:-1], True)] if len(offsets) else []


class Embedder:
    """all-MiniLM-L6-v2 in float32. A text longer than ``CHUNK`` pieces is read in chunks, so that no part of it is left out."""

    CHUNK = 254
    """The model was trained on 256 pieces, its two marks included."""

    def __init__(self, folder: Path, device: torch.device, budget: int) -> None:
        import torch
        from transformers import AutoModel, AutoTokenizer

        from harness.model.gguf import quiet_transformers

        with quiet_transformers():
            self._tokenizer = AutoTokenizer.from_pretrained(str(folder))
            self._model = AutoModel.from_pretrained(str(folder), dtype=torch.float32).eval().requires_grad_(False).to(device)
        self._device, self._budget = device, budget
        table = self._model.get_input_embeddings().weight.cpu().numpy()
        self._table = _unit(table - table.mean(axis=0))
        self._words: dict[str, Floats] = {}

    def pieces(self, texts: Sequence[str]) -> list[Pieces]:
        """Return the embedded word pieces of each text."""
        import torch

        if not texts:
            return []
        # split: "[SEP]" in a text is text
        encoded = self._tokenizer(
            list(texts), add_special_tokens=False, split_special_tokens=True, truncation=False, verbose=False, return_offsets_mapping=True
        )
        starts = [(number, start) for number, ids in enumerate(encoded["input_ids"]) for start in range(0, max(len(ids), 1), self.CHUNK)]
        cls, sep = self._tokenizer.cls_token_id, self._tokenizer.sep_token_id
        rows = [[cls, *encoded["input_ids"][number][start : start + self.CHUNK], sep] for number, start in starts]
        vectors: list[list[Floats]] = [[] for _ in texts]
        inner: list[list[bool]] = [[] for _ in texts]
        ends: list[list[bool]] = [[] for _ in texts]
        last = [sentence_ends(text, offsets) for text, offsets in zip(texts, encoded["offset_mapping"], strict=True)]
        with torch.inference_mode():
            states = dict(self._states(rows))
        for index, (number, start) in enumerate(starts):
            vectors[number].append(states[index])
            inner[number] += [False, *[True] * (len(rows[index]) - 2), False]
            ends[number] += [False, *last[number][start : start + self.CHUNK], False]
        parts = zip(vectors, inner, ends, strict=True)
        return [Pieces(np.concatenate(own), np.array(marks), np.array(stops)) for own, marks, stops in parts]

    def words(self, words: Sequence[str]) -> Floats:
        """Return vectors of single words without a context, of length 1: ``[n, d]``: the mean of their pieces in the model's table of inputs."""
        for word in words:
            if word not in self._words:
                ids = self._tokenizer(word, add_special_tokens=False, split_special_tokens=True)["input_ids"]
                self._words[word] = _unit(self._table[ids].mean(axis=0)) if ids else np.zeros(self._table.shape[1], dtype=np.float32)
        return np.stack([self._words[word] for word in words])

    def _states(self, rows: Sequence[Sequence[int]]) -> Iterator[tuple[int, Floats]]:
        for indices, ids, mask in in_batches(rows, self._tokenizer.pad_token_id, self._budget, self._device):
            states = self._model(input_ids=ids, attention_mask=mask).last_hidden_state.cpu().numpy()
            yield from ((index, states[place, : len(rows[index])].copy()) for place, index in enumerate(indices))
