"""Logits of given texts under an intervention: forward passes without generation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext

import torch
from torch import Tensor

from harness.engine.placing import Hooked, Reading, place
from harness.errors import DataError, EngineError
from harness.files.timing import CLOCK, READING
from harness.interventions import Edit, EditContext
from harness.model.activations import Row, check_lengths, pad_right, row_lengths
from harness.model.adapters import Adapter
from harness.model.loading import SubjectModel
from harness.model.memory import TokenBudget, halving

_LOGITS = 1 << 27
"""Logits of one forward pass at most (512 MB in float32)."""


def logits(
    model: SubjectModel, texts: Sequence[Row], edits: Sequence[Edit] = (), adapter: Adapter | None = None, reading: Reading | None = None
) -> Iterator[Tensor]:
    """Return for each text, in order, the logits at each of its tokens: float32 ``[tokens, vocabulary]``, on the model's device.

    Consecutive texts share a forward pass, as many as fit; a pass that does not fit into memory is halved.

    Args:
        model: the subject model.
        texts: token ids of each; to an edit they are prompts.
        edits: applied to every text.
        adapter: the adapter that the model wears meanwhile, or None.
        reading: how streams are edited in a forward pass; None stands for hooks.

    Raises:
        DataError: at once, for an empty text, or one that is longer than the model's context.
        EngineError: while iterating, where a single text does not fit into memory.
    """
    lengths = row_lengths(texts)
    if len(lengths) and not lengths.min():
        empty = int(lengths.argmin())
        raise DataError(f"text {empty} (counted from 0) has no tokens", given=empty, hint="leave empty texts out")
    check_lengths(model, lengths)
    return _logits(model, texts, lengths.tolist(), tuple(edits), adapter, reading or Hooked(model))


def _logits(
    model: SubjectModel, texts: Sequence[Row], lengths: Sequence[int], edits: tuple[Edit, ...], adapter: Adapter | None, reading: Reading
) -> Iterator[Tensor]:
    def alone(text: int) -> EngineError:
        return EngineError(
            f"out of memory on {model.device} with the logits of one text of {lengths[text]} tokens",
            given=lengths[text],
            hint="cut it, or use another device",
        )

    def width(first: int) -> int:  # of those that might follow: texts stay in their order, so a longer one may come after a short one
        return max(lengths[first : first + max(1, budget.size // lengths[first])])

    def forward(part: slice) -> Tensor:
        return _forward(model, texts[part], edits, adapter, reading)

    budget = TokenBudget(min(TokenBudget.usual(model.device).size, max(1, _LOGITS // model.vocab_size)))
    for part, found in halving(len(texts), budget, forward, device=model.device, alone=alone, width=width):
        for row, length in enumerate(lengths[part]):
            yield found[row, :length].float()


def _forward(model: SubjectModel, texts: Sequence[Row], edits: tuple[Edit, ...], adapter: Adapter | None, reading: Reading) -> Tensor:
    """Return logits ``[rows, tokens, vocabulary]`` in the model's dtype."""
    with CLOCK.part(READING, model.device, len(texts)):
        return _edited(model, texts, edits, adapter, reading)


def _edited(model: SubjectModel, texts: Sequence[Row], edits: tuple[Edit, ...], adapter: Adapter | None, reading: Reading) -> Tensor:
    tokens, real = pad_right(model, texts)
    context = EditContext.of(real, torch.zeros_like(real))
    placed = place([edits] * len(texts), model.device)

    def forward() -> Tensor:
        return model.hf(input_ids=tokens, attention_mask=real.long(), use_cache=False).logits  # type: ignore[no-any-return]

    with torch.no_grad(), nullcontext() if adapter is None else adapter.worn():
        return reading.read(forward, placed, context, prompt=True, generated=False)
