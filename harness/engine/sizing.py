"""How many rows are decoded together: on a GPU as many as its free memory takes, elsewhere a fixed number.

What a row takes is measured: the peak of a forward pass over a few rows, whose cache stays. The number is a power of two, so that a little more
or less of free memory seldom changes it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import floor, log2
from typing import TypeVar

import torch

from harness.model.loading import SubjectModel
from harness.model.memory import attempt

R = TypeVar("R")

_FLOATS = 8 << 20, 128 << 20
"""Bytes of float32 logits from which tokens are drawn at a time: on a CPU, and on a GPU, where many small steps would cost more than the memory."""

CHUNK = 512
"""Requests of a chunk at most, and so rows of a batch."""
USUAL = 128
"""Rows of a batch on a CPU: more is hardly quicker there (SmolLM2), and takes more memory."""

_COLUMNS = 512
"""Tokens of a row, prompt and answer, that memory must suffice for; a chunk of longer ones that does not fit is halved."""
_SHARE = 0.8
"""Of the free memory; the rest is for what is cut to other sizes, and for the prompts of newcomers."""
_ROWS, _TOKENS = 4, 128
"""What is measured."""
_COPIES = 4
"""Of a row's logits in float32, while its token is drawn; more than it takes where rows are so many that they draw one part after the other."""


def usual_rows(model: SubjectModel) -> int:
    """Return how many rows are decoded together where nobody says how many; on a GPU by one short forward pass."""
    if model.device.type != "cuda":
        return USUAL
    fit = _SHARE * free_bytes(model.device) / row_bytes(model)
    return min(CHUNK, 2 ** floor(log2(fit))) if fit >= 1 else 1


def float_bytes(device: torch.device) -> int:
    """Return how many bytes of logits in float32 there may be at a time, while tokens are drawn."""
    return _FLOATS[device.type != "cpu"]


def row_bytes(model: SubjectModel) -> float:
    """Return the memory that a row of 512 tokens takes at most, in bytes, beside the weights; infinite where what is measured does not fit."""
    tokens = min(_TOKENS, model.max_tokens or _TOKENS)
    ids = torch.full((_ROWS, tokens), model.pad_id, device=model.device)
    with torch.no_grad():
        forward = partial(model.hf, input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=True)
        measured = attempt(lambda: with_peak(model.device, forward), model.device)
    if measured is None:
        return float("inf")
    output, taken = measured[0]
    logits = output.logits[0].numel() * output.logits.element_size()  # at every token here, in decoding at the last alone
    columns = min(_COLUMNS, model.max_tokens or _COLUMNS)
    return float(max(0.0, taken / _ROWS - logits) * columns / tokens + _COPIES * 4 * model.vocab_size)


def free_bytes(device: torch.device) -> int:
    """Return the memory of a GPU that is free, in bytes, with what torch keeps of it without using it."""
    free, _ = torch.cuda.mem_get_info(device)
    return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))


def with_peak(device: torch.device, work: Callable[[], R]) -> tuple[R, int]:
    """Return what ``work`` returns, and by how many bytes a GPU was fuller meanwhile than before, at most."""
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    made = work()
    return made, int(torch.cuda.max_memory_allocated(device) - before)
