"""Embeddings of a text's word pieces (all-MiniLM-L6-v2), and what concept and instruction have to do with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .batches import in_batches

if TYPE_CHECKING:
    import torch

Floats = NDArray[np.float32]

EMBEDDING_MODEL = "all-minilm-l6-v2"


@dataclass(frozen=True, eq=False)
class Pieces:
    """A text's word pieces, embedded in its context: ``vectors`` ``[n, d]``; ``inner`` ``[n]`` is False for the model's own marks."""

    vectors: Floats
    inner: NDArray[np.bool_]

    def whole(self) -> Floats:
        """Return the text's embedding: the mean over all pieces (the model's own pooling), of length 1."""
        return _unit(self.vectors.mean(axis=0))

    def windows(self, size: int) -> Floats:
        """Means of each run of ``size`` neighbouring pieces, of length 1: ``[n_runs, d]``; one run for a text that is no longer than that."""
        body = self.vectors[self.inner] if self.inner.any() else self.vectors
        size = min(size, len(body))
        runs = np.lib.stride_tricks.sliding_window_view(body, size, axis=0)
        return _unit(runs.mean(axis=-1))


def presence(text: Pieces, concept: Pieces, window: int) -> float:
    """Return how present a concept is: the largest cosine of its embedding with any run of ``window`` pieces of the text."""
    return float((text.windows(window) @ concept.whole()).max())


def relatedness(text: Pieces, instruction: Pieces) -> float:
    """Return how much a text has to do with an instruction: the cosine of their embeddings."""
    return float(text.whole() @ instruction.whole())


def _unit(vectors: Floats) -> Floats:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12))


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

    def pieces(self, texts: Sequence[str]) -> list[Pieces]:
        """Return the embedded word pieces of each text."""
        import torch

        if not texts:
            return []
        # split: "[SEP]" in a text is text
        encoded = self._tokenizer(list(texts), add_special_tokens=False, split_special_tokens=True, truncation=False, verbose=False)["input_ids"]
        starts = [(number, start) for number, ids in enumerate(encoded) for start in range(0, max(len(ids), 1), self.CHUNK)]
        cls, sep = self._tokenizer.cls_token_id, self._tokenizer.sep_token_id
        rows = [[cls, *encoded[number][start : start + self.CHUNK], sep] for number, start in starts]
        vectors: list[list[Floats]] = [[] for _ in texts]
        inner: list[list[bool]] = [[] for _ in texts]
        with torch.inference_mode():
            states = dict(self._states(rows))
        for index, (number, _) in enumerate(starts):
            vectors[number].append(states[index])
            inner[number] += [False, *[True] * (len(rows[index]) - 2), False]
        return [Pieces(np.concatenate(own), np.array(marks)) for own, marks in zip(vectors, inner, strict=True)]

    def _states(self, rows: Sequence[Sequence[int]]) -> Iterator[tuple[int, Floats]]:
        for indices, ids, mask in in_batches(rows, self._tokenizer.pad_token_id, self._budget, self._device):
            states = self._model(input_ids=ids, attention_mask=mask).last_hidden_state.cpu().numpy()
            yield from ((index, states[place, : len(rows[index])].copy()) for place, index in enumerate(indices))
