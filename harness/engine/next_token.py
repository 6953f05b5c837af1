"""Logits of the next token after given texts. Texts of one group that begin alike read their beginning once.

A question about one text for many concepts differs at its end alone. Its beginning is read in one pass, and what that pass hands on (attention's
keys and values) is given to all ends, which are read in another. Not every architecture bears that, so it is tried on short texts once a
model, and taken only where it gives what whole texts give.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from harness.engine.rows import head_reads
from harness.errors import DataError, EngineError
from harness.files.timing import CLOCK, READING
from harness.model.activations import Row, check_lengths, pad_right, row_lengths
from harness.model.cache import cache_names
from harness.model.loading import SubjectModel
from harness.model.memory import TokenBudget, halving, is_out_of_memory

_WORTH = 0.25
"""Share of a group's tokens that must be saved for its beginning to be read by itself: two passes cost more than one."""
_PROBE = "When the rain stopped, we went down to the river: 3 boats lay there."
_BEGINNING, _ENDS = 8, (3, 9, 1)
"""Tokens of what is tried: the ends are of different lengths, so that a state which ran over padding shows."""

_sharing: WeakKeyDictionary[torch.nn.Module, bool] = WeakKeyDictionary()
"""Whether a model reads ends after a beginning as it reads whole texts."""


def next_logits(model: SubjectModel, groups: Sequence[Sequence[Row]], wanted: Sequence[int]) -> Iterator[Tensor]:
    """Return for each group, in order, the logits of some tokens right after each of its texts: float32 ``[texts, wanted]``.

    A text's logits do not depend on its neighbours but for rounding. A pass that does not fit into memory is halved.

    Args:
        model: the subject model, unedited.
        groups: texts as token ids; those of one group may begin alike.
        wanted: ids of the tokens whose logits are wanted.

    Raises:
        DataError: at once, for an empty text, or one that is longer than the model's context.
        EngineError: while iterating, where a single text does not fit into memory, or logits are not finite.
    """
    texts = [text for group in groups for text in group]
    lengths = row_lengths(texts)
    if len(texts) and not lengths.min():
        empty = int(lengths.argmin())
        raise DataError(f"text {empty} (counted from 0) has no tokens", given=empty, hint="leave empty texts out")
    check_lengths(model, lengths)
    return _next_logits(model, groups, list(wanted))


def _next_logits(model: SubjectModel, groups: Sequence[Sequence[Row]], wanted: list[int]) -> Iterator[Tensor]:
    budget = TokenBudget.usual(model.device)
    starts = [_shared(group) for group in groups]
    if any(starts) and not _can_share(model):
        starts = [0] * len(groups)
    whole = _whole(model, [text for start, group in zip(starts, groups, strict=True) if not start for text in group], wanted, budget)
    for start, group in zip(starts, groups, strict=True):
        rows = list(_after(model, group, start, wanted, budget)) if start else [next(whole) for _ in group]
        found = torch.stack(rows) if rows else torch.empty(0, len(wanted))
        if not bool(found.isfinite().all()):
            raise EngineError(f"{model.name} gives logits that are not finite", given=model.name, hint="use --dtype float32")
        yield found


def _shared(group: Sequence[Row]) -> int:
    """Return how many tokens the texts of a group begin with in common, and one at least is left of each; 0 where sharing them saves too little."""
    if len(group) < 2:
        return 0
    shortest = min(len(text) for text in group) - 1
    table = np.stack([np.asarray(text[:shortest], dtype=np.int64) for text in group])
    alike = (table == table[0]).all(axis=0)
    shared = shortest if alike.all() else int(alike.argmin())
    return shared if shared * (len(group) - 1) >= _WORTH * sum(map(len, group)) else 0


def _whole(model: SubjectModel, texts: Sequence[Row], wanted: list[int], budget: TokenBudget) -> Iterator[Tensor]:
    """Yield ``[wanted]`` for each text, read from its first token on."""

    def width(first: int) -> int:  # texts stay in their order, so a longer one may come after a short one
        return max(len(text) for text in texts[first : first + max(1, budget.size // len(texts[first]))])

    def forward(part: slice) -> Tensor:
        return _read(model, *pad_right(model, texts[part]), wanted)

    for _, found in halving(len(texts), budget, forward, device=model.device, alone=_too_large(model, texts), width=width):
        yield from found


def _after(model: SubjectModel, group: Sequence[Row], start: int, wanted: list[int], budget: TokenBudget) -> Iterator[Tensor]:
    """Yield ``[wanted]`` for each text of a group, whose first ``start`` tokens are read once."""
    alone = _too_large(model, group)
    beginning = next(halving(1, budget, lambda _: _begin(model, group[0][:start]), device=model.device, alone=alone))[1]
    ends = [text[start:] for text in group]
    longest = max(map(len, ends))

    def forward(part: slice) -> Tensor:
        return _read(model, *pad_right(model, ends[part]), wanted, beginning)

    # the beginning's keys and values are copied for each row: little work, and as much memory as its tokens
    for _, found in halving(len(ends), budget, forward, device=model.device, alone=alone, width=lambda _: longest + start // 8):
        yield from found


@dataclass(frozen=True, eq=False)
class _Beginning:
    """What all rows stand after: its tokens, what the pass over them handed on, and under which name the model takes that."""

    n_tokens: int
    cache: Any
    argument: str


def _begin(model: SubjectModel, ids: Row) -> _Beginning:
    tokens, real = pad_right(model, [ids])
    with CLOCK.part(READING, model.device, 1), torch.no_grad(), head_reads(model, real.sum(dim=1) - 1):
        output = model.hf(input_ids=tokens, attention_mask=real.long(), use_cache=True)
    names = cache_names(model.hf, output)
    if names is None:
        raise EngineError(f"{type(model.hf).__name__} hands nothing on from one pass to the next", given=model.name)
    return _Beginning(len(ids), names.value(output), names.argument)


def _read(model: SubjectModel, tokens: Tensor, real: Tensor, wanted: list[int], after: _Beginning | None = None) -> Tensor:
    """Return float32 ``[rows, wanted]`` after the last real token of each row.

    Args:
        model: the subject model.
        tokens: ``[rows, columns]`` int64, padded on the right.
        real: ``[rows, columns]`` bool.
        wanted: ids of tokens.
        after: what stands before all rows.
    """
    start = 0 if after is None else after.n_tokens
    arguments: dict[str, Any] = {
        "input_ids": tokens,
        "attention_mask": torch.cat([real.new_ones(len(real), start), real], dim=1).long(),
        "use_cache": after is not None,
    }
    if "position_ids" in inspect.signature(model.hf.forward).parameters:
        arguments["position_ids"] = torch.arange(start, start + tokens.shape[1], device=tokens.device).expand(len(tokens), -1)
    if after is not None:
        cache = copy.deepcopy(after.cache)  # a forward pass adds to it
        cache.batch_repeat_interleave(len(tokens))
        arguments[after.argument] = cache
    last = real.sum(dim=1) - 1
    with CLOCK.part(READING, model.device, len(tokens)), torch.no_grad(), head_reads(model, last):
        logits: Tensor = model.hf(**arguments).logits
    logits = logits[:, -1] if logits.shape[1] == 1 else logits[torch.arange(len(last), device=last.device), last]
    return logits[:, torch.tensor(wanted, device=logits.device)].float()


def _can_share(model: SubjectModel) -> bool:
    """Return whether ends after a shared beginning are read as whole texts are; tried once a model."""
    if model.hf not in _sharing:
        _sharing[model.hf] = _tried(model)
    return _sharing[model.hf]


def _tried(model: SubjectModel) -> bool:
    ids = model.encode(_PROBE)
    beginning, rest = ids[:_BEGINNING], ids[_BEGINNING:]
    texts = [[*beginning, *rest[place : place + n]] for place, n in enumerate(_ENDS)]
    longest = _BEGINNING + max(_ENDS)
    if max(map(len, texts)) < longest or (model.max_tokens is not None and longest > model.max_tokens):
        return False
    every = list(range(model.vocab_size))
    whole = torch.stack(list(_whole(model, texts, every, TokenBudget(3 * longest))))
    try:
        shared = torch.stack(list(_after(model, texts, _BEGINNING, every, TokenBudget(3 * longest))))
    except Exception as error:  # whatever an architecture cannot do: the other way does without
        if isinstance(error, RuntimeError) and is_out_of_memory(error):
            raise
        return False
    if shared.shape != whole.shape:
        return False
    tolerance = max(1e-3, 16 * torch.finfo(model.dtype).eps)
    spread = (whole - whole.mean(dim=-1, keepdim=True)).norm(dim=-1)
    return bool(((shared - whole).norm(dim=-1) <= tolerance * spread).all())


def _too_large(model: SubjectModel, texts: Sequence[Row]) -> Callable[[int], EngineError]:
    def alone(place: int) -> EngineError:
        length = len(texts[place])
        return EngineError(f"out of memory on {model.device} with one text of {length} tokens", given=length, hint="cut it, or use another device")

    return alone
