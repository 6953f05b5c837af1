"""Token ids in batches of fixed shapes, so that a text's result does not depend on the texts beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

WIDTH_STEP = 8
"""Tokens; batches are as wide as a multiple of this."""


def padded_width(length: int) -> int:
    """Return how wide a batch is in which a row of ``length`` tokens stands."""
    return -(-max(length, 1) // WIDTH_STEP) * WIDTH_STEP


def in_batches(rows: Sequence[Sequence[int]], pad: int, budget: int, device: torch.device) -> Iterator[tuple[list[int], Any, Any]]:
    """Yield ``rows`` of token ids in batches of like length: (indices of the rows, ids ``[B, T]``, mask ``[B, T]``), padded on the right.

    T is a multiple of :data:`WIDTH_STEP`, and B depends on T alone: a batch that is not full is filled with empty rows. So the very same
    kernels run on a row whatever stands beside it, and its result is the same to the last bit.
    """
    import torch

    widths: dict[int, list[int]] = {}
    for index, row in enumerate(rows):
        widths.setdefault(padded_width(len(row)), []).append(index)
    for width in sorted(widths):
        size = max(1, budget // width)
        for start in range(0, len(widths[width]), size):
            indices = widths[width][start : start + size]
            ids = np.full((size, width), pad, dtype=np.int64)
            mask = np.zeros((size, width), dtype=np.int64)
            mask[:, 0] = 1  # a row with nothing to attend to would be NaN
            for place, index in enumerate(indices):
                ids[place, : len(rows[index])] = rows[index]
                mask[place, : len(rows[index])] = 1
            yield indices, torch.from_numpy(ids).to(device), torch.from_numpy(mask).to(device)
