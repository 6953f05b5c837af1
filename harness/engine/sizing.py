"""How many rows are decoded together: on a GPU as many as its free memory takes, on a CPU 256 or, where they would take much of it, 128.

What a row takes is measured: on a GPU the peak of a forward pass over a few rows, whose cache stays, on a CPU the cache alone. The number is a power
of two, so that a little more or less of free memory seldom changes it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import floor, log2
from typing import TypeVar

import psutil
import torch

from harness.engine.plan import token_bytes
from harness.model.loading import SubjectModel
from harness.model.memory import attempt

R = TypeVar("R")

_FLOATS = 8 << 20, 128 << 20
"""Bytes of float32 logits from which tokens are drawn at a time: on a CPU, and on a GPU, where many small steps would cost more than the memory."""

CHUNK = 512
"""Requests of a chunk at most, and so rows of a batch."""
USUAL, MANY = 128, 256
"""Rows of a batch on a CPU, and where their keys and values are a small part of its memory. Texts that end as they fall are made a fifth quicker by
256 (SmolLM2, docs/performance.md), since the products' rate rises with the rows."""

_COLUMNS = 512
"""Tokens of a row, prompt and answer, that memory must suffice for; of longer ones there are fewer rows, and a chunk that does not fit is halved."""
_SHARE, _SMALL = 0.8, 0.25
"""How much memory the rows may take: of a GPU's free memory (the rest is for what is cut to other sizes, and for the prompts of newcomers), and of
all the memory of a machine without one. Of all, since the number of rows may change a text in half precision: what else runs there must not."""
_ROWS, _TOKENS = 4, 128
"""What is measured."""
_COPIES = 4
"""Of a row's logits in float32, while its token is drawn; more than it takes where rows are so many that they draw one part after the other."""


def usual_rows(model: SubjectModel) -> int:
    """Return how many rows are decoded together where nobody says how many; on a GPU by one short forward pass.

    Raises:
        EngineError: the model cannot read a short text, or does not fit into memory.
    """
    if model.device.type == "cpu":
        columns = min(_COLUMNS, model.max_tokens or _COLUMNS)
        return MANY if MANY * columns * token_bytes(model) <= _SMALL * psutil.virtual_memory().total else USUAL
    if model.device.type != "cuda":
        return USUAL
    fit = _SHARE * free_bytes(model.device) / row_bytes(model)
    return min(CHUNK, 2 ** floor(log2(fit))) if fit >= 1 else 1


def rows_of(columns: int, rows: int) -> int:
    """Return how many of ``rows`` are decoded together where the longest text may have so many tokens.

    Above 512 of them more than 128 rows are fewer in proportion, since memory suffices for rows of 512; up to 128 rows were asked for, or are usual.
    """
    return min(rows, max(USUAL, rows * _COLUMNS // columns))


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
