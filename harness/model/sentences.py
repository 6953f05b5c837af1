"""Embeddings of sentences by a small model of our own cache (all-MiniLM-L6-v2): to compare short texts by meaning."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

MODEL = "all-minilm-l6-v2"
LONGEST = 254
"""Word pieces of a text that are read; the model was trained on 256, its two marks included."""
_STEP = 8


class SentenceEmbedder:
    """all-MiniLM-L6-v2 in float32: the mean over a text's word pieces (the pooling that it was trained with), scaled to length 1.

    A text's vector does not depend on the texts beside it, to the last bit: batches are padded to a fixed shape for each width.

    Args:
        device: where it runs.
        batch_tokens: tokens per batch, padding included; larger is faster on a GPU.
        folder: the model's files, in place of :func:`harness.model.embedded.ensure`, which fetches them when first used.

    Raises:
        ModelError: the model cannot be had.
    """

    def __init__(self, device: torch.device | str = "cpu", batch_tokens: int = 1024, folder: Path | None = None) -> None:
        import torch
        from transformers import AutoModel, AutoTokenizer

        from harness.model.embedded import ensure
        from harness.model.gguf import quiet_transformers

        self._device, self._budget = torch.device(device), batch_tokens
        path = str(folder if folder is not None else ensure(MODEL))
        with quiet_transformers():
            self._tokenizer = AutoTokenizer.from_pretrained(path)
            model = AutoModel.from_pretrained(path, dtype=torch.float32)
        self._model = model.eval().requires_grad_(False).to(self._device)
        self.width = int(model.config.hidden_size)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return ``[n, width]``: a vector of length 1 for each text, so that a dot product is a cosine. Longer texts are cut at :data:`LONGEST`."""
        import torch

        out = np.zeros((len(texts), self.width), dtype=np.float32)
        if not texts:
            return out
        # split: "[SEP]" in a text is text
        encoded = self._tokenizer(list(texts), add_special_tokens=False, split_special_tokens=True, truncation=False, verbose=False)["input_ids"]
        first, last = self._tokenizer.cls_token_id, self._tokenizer.sep_token_id
        rows = [[first, *ids[:LONGEST], last] for ids in encoded]
        with torch.inference_mode():
            for places, ids, mask in self._batches(rows):
                states = self._model(input_ids=ids, attention_mask=mask).last_hidden_state
                weight = mask[:, :, None].to(states.dtype)
                means = (states * weight).sum(dim=1) / weight.sum(dim=1)
                unit = means / means.norm(dim=-1, keepdim=True).clamp_min(1e-12)
                out[places] = unit[: len(places)].cpu().numpy()
        return out

    def _batches(self, rows: Sequence[Sequence[int]]) -> Iterator[tuple[list[int], torch.Tensor, torch.Tensor]]:
        """Yield (places in ``rows``, ids ``[B, T]``, mask ``[B, T]``): rows of like length together; B depends on T alone, empty rows fill up."""
        import torch

        widths: dict[int, list[int]] = {}
        for place, row in enumerate(rows):
            widths.setdefault(-(-len(row) // _STEP) * _STEP, []).append(place)
        for width, places in sorted(widths.items()):
            size = max(1, self._budget // width)
            for start in range(0, len(places), size):
                own = places[start : start + size]
                ids = np.full((size, width), self._tokenizer.pad_token_id, dtype=np.int64)
                mask = np.zeros((size, width), dtype=np.int64)
                mask[len(own) :, 0] = 1  # a row that attends to nothing would be NaN
                for line, place in enumerate(own):
                    ids[line, : len(rows[place])] = rows[place]
                    mask[line, : len(rows[place])] = 1
                yield own, torch.from_numpy(ids).to(self._device), torch.from_numpy(mask).to(self._device)
