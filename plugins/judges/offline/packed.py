"""Log-probabilities of many rows of tokens: without padding, and what rows begin with in common is read once.

Attention is the one part of a decoder in which tokens see each other; all else treats each token by itself. Where transformers lets attention be
replaced, tokens of many rows stand one after another in passes of one shape, and each row attends to its own. A third of the tokens is saved
that way. That is for the CPU; on other devices, and with models that are not read rightly so, rows are padded (:class:`Padded`).
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .batches import in_batches, padded_width

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from harness.model.loading import SubjectModel

Floats = NDArray[np.float32]
Places = NDArray[np.int64]

NAME = "harness_offline_packed"
TOLERANCE = 0.001
"""Nats by which a log-probability may differ for packing to count as right. Hybrid models, whose convolutions and states see neighbours, are off by
a tenth and more; float32 rounds to a hundred-thousandth, and bfloat16, whose rounding shows, must be the same to the last bit."""


@dataclass(frozen=True, eq=False)
class Row:
    """Token ids, and the spans of them whose log-probabilities are wanted (each begins at 1 or later)."""

    ids: list[int]
    spans: tuple[tuple[int, int], ...]


class Scorer(Protocol):
    """Reads rows."""

    def score(self, rows: Sequence[Row]) -> list[tuple[Floats, ...]]:
        """Return the log-probabilities in nats of each span of each row."""
        ...


def scorer(model: SubjectModel, budget: int, example: Sequence[Row]) -> Scorer:
    """Return the quickest way to read rows that is right for a model.

    Args:
        model: the subject model.
        budget: tokens of a pass.
        example: rows on which the two ways are compared, some of them with a beginning in common.
    """
    from harness.model.memory import is_out_of_memory

    padded = Padded(model, budget)
    if not can_pack(model):
        return padded
    packed = Packed(model, budget)
    try:
        found = packed.score(example)
    except Exception as error:  # whatever an architecture cannot do
        if isinstance(error, RuntimeError) and is_out_of_memory(error):
            raise
        return padded
    pairs = [pair for row, other in zip(found, padded.score(example), strict=True) for pair in zip(row, other, strict=True)]
    difference = np.concatenate([abs(one - other) for one, other in pairs]).max()
    return packed if difference <= TOLERANCE else padded  # a NaN is not


def can_pack(model: SubjectModel) -> bool:
    """Return whether a model's attention can be replaced, and its positions be given."""
    from harness.model.attention import can_switch

    return can_switch(model.hf) and "position_ids" in inspect.signature(model.hf.forward).parameters


class Padded:
    """Rows side by side in batches of fixed shapes, each read from its first token on."""

    def __init__(self, model: SubjectModel, budget: int) -> None:
        self._model, self._budget = model, budget

    def score(self, rows: Sequence[Row]) -> list[tuple[Floats, ...]]:
        """See :class:`Scorer`."""
        import torch

        answers: list[tuple[Floats, ...]] = [()] * len(rows)
        with torch.inference_mode():
            for indices, ids, _ in in_batches([row.ids for row in rows], self._model.pad_id, self._budget, self._model.device):
                # Padding stands on the right, where a causal model does not look.
                logits = self._model.hf(input_ids=ids, use_cache=False).logits
                for place, index in enumerate(indices):
                    answers[index] = tuple(_chosen(logits[place, a - 1 : b - 1], rows[index].ids[a:b]) for a, b in rows[index].spans)
        return answers


class Packed:
    """Tokens of many rows in passes of one shape.

    Attention runs on the batches that :class:`Padded` would make, so a row's log-probabilities are those of a padded row to the last bit, whatever
    stands beside it, where a matrix product treats each of its rows alike (oneDNN's do).
    """

    def __init__(self, model: SubjectModel, budget: int) -> None:
        self._model, self._budget = model, budget

    def score(self, rows: Sequence[Row]) -> list[tuple[Floats, ...]]:
        """See :class:`Scorer`."""
        import torch

        answers: list[tuple[Floats, ...]] = [()] * len(rows)
        with torch.inference_mode(), _attending(self._model.hf):
            for indices, placed in pack([row.ids for row in rows], self._budget):
                logits = self._read(_Layout(placed, self._budget, self._model))
                for index, part in zip(indices, placed, strict=True):
                    spans = rows[index].spans
                    answers[index] = tuple(_chosen(logits[part.places[a - 1 : b - 1]], rows[index].ids[a:b]) for a, b in spans)
        return answers

    def _read(self, layout: _Layout) -> Tensor:
        """Return the logits ``[tokens, vocabulary]`` of a pass."""
        token = _LAYOUT.set(layout)
        try:
            logits: Tensor = self._model.hf(input_ids=layout.ids, position_ids=layout.positions, use_cache=False).logits[0]
            return logits
        finally:
            _LAYOUT.reset(token)


# ------------------------------------------------------------------------------------------------------------------------ packing


@dataclass(frozen=True, eq=False)
class Part:
    """A row in a pass.

    Attributes:
        ids: its tokens but the last, which is asked for, and predicts nothing that is.
        places: ``[len(ids)]``: where in the pass they stand.
        shared: how many of them, from the first on, stand there for an earlier row.
        width: of the batch in which the row would be padded, and attends.
    """

    ids: Sequence[int]
    places: Places
    shared: int
    width: int


def pack(rows: Sequence[Sequence[int]], budget: int) -> Iterator[tuple[list[int], list[Part]]]:
    """Yield ``rows`` of token ids in passes: (indices of the rows, the rows as they stand there), of ``budget`` tokens at most.

    Rows of one padded width that begin alike follow each other, and their common beginning stands in a pass once. (With rows of another width they
    share nothing, since attention may round otherwise in another shape.) A row that is longer than ``budget`` has a pass for itself.
    """
    order = sorted(range(len(rows)), key=lambda i: (padded_width(len(rows[i])), rows[i]))
    indices: list[int] = []
    parts: list[Part] = []
    used = 0
    for index in order:
        ids, width = rows[index][: max(1, len(rows[index]) - 1)], padded_width(len(rows[index]))
        shared = _common(parts[-1].ids, ids) if parts and parts[-1].width == width else 0
        if parts and used + len(ids) - shared > budget:
            yield indices, parts
            indices, parts, used, shared = [], [], 0, 0
        own = np.arange(used, used + len(ids) - shared)
        places = np.concatenate([parts[-1].places[:shared], own]) if shared else own
        indices.append(index)
        parts.append(Part(ids, places, shared, width))
        used += len(own)
    if parts:
        yield indices, parts


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two rows begin with in common."""
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


class _Layout:
    """What a pass reads, and the batches in which its rows attend.

    Attributes:
        ids, positions: ``[1, tokens]``.
    """

    def __init__(self, parts: Sequence[Part], budget: int, model: SubjectModel) -> None:
        import torch

        size = -(-(1 + max(int(part.places[-1]) for part in parts)) // budget) * budget
        ids, positions = np.full((1, size), model.pad_id, dtype=np.int64), np.zeros((1, size), dtype=np.int64)
        for part in parts:
            ids[0, part.places], positions[0, part.places] = part.ids, np.arange(len(part.ids))
        self.ids, self.positions = torch.from_numpy(ids).to(model.device), torch.from_numpy(positions).to(model.device)
        self._batches = [
            _Batch.of(same[start : start + rows], rows, width, model.device)
            for width, group in itertools.groupby(parts, key=lambda part: part.width)
            for same, rows in [(list(group), max(1, budget // width))]
            for start in range(0, len(same), rows)
        ]

    def attend(self, module: Any, query: Tensor, key: Tensor, value: Tensor, options: Mapping[str, Any]) -> Tensor:
        """Return what each token attends to, ``[1, tokens, heads, d]``; of padding, nothing."""
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        found = query.new_zeros(1, query.shape[2], query.shape[1], value.shape[3])
        for batch in self._batches:
            seen = sdpa_attention_forward(module, *map(batch.rows_of, (query, key, value)), None, **options)[0]
            found[0, batch.into] = seen.reshape(-1, *seen.shape[2:])[batch.own]
        return found


@dataclass(frozen=True, eq=False)
class _Batch:
    """Rows of one width that attend together.

    Attributes:
        shape: rows and width.
        places: ``[rows · width]``: the token of the pass that stands in each place; in padding any, since no token looks there.
        own: the places of tokens that stand in the pass for this row first.
        into: which tokens these are.
    """

    shape: tuple[int, int]
    places: Tensor
    own: Tensor
    into: Tensor

    @classmethod
    def of(cls, parts: Sequence[Part], rows: int, width: int, device: torch.device) -> _Batch:
        import torch

        places, own = np.zeros((rows, width), dtype=np.int64), np.zeros((rows, width), dtype=bool)
        for row, part in enumerate(parts):
            places[row, : len(part.ids)] = part.places
            own[row, part.shared : len(part.ids)] = True
        at = np.flatnonzero(own)
        return cls((rows, width), *(torch.from_numpy(array).to(device) for array in (places.ravel(), at, places.ravel()[at])))

    def rows_of(self, x: Tensor) -> Tensor:
        """Of ``[1, heads, tokens, d]``, the rows ``[rows, heads, width, d]``."""
        return x[0].transpose(0, 1)[self.places].view(*self.shape, x.shape[1], x.shape[3]).transpose(1, 2)


# ---------------------------------------------------------------------------------------------------------------------- attention

_LAYOUT: ContextVar[_Layout] = ContextVar("layout")
"""Of the pass that is under way."""


def _attend(module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **options: Any) -> tuple[Tensor, None]:
    """Transformers' attention interface for packed rows: query ``[1, heads, T, d]``, key and value ``[1, groups, T, d]`` → ``[1, T, heads, d]``."""
    unknown = [name for name in ("softcap", "s_aux", "position_bias", "sliding_window") if options.get(name) is not None]
    if unknown:
        raise ValueError(f"attention with {', '.join(unknown)} is not read in packed rows")
    return _LAYOUT.get().attend(module, query, key, value, options | {"is_causal": True}), None


def _no_mask(*arguments: Any, **options: Any) -> None:
    """Transformers' interface for masks: rows are parted by where they attend."""


@contextmanager
def _attending(hf: Any) -> Iterator[None]:
    """Within the context ``hf`` attends to packed rows; its own attention is restored afterwards."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(NAME, _attend)
    AttentionMaskInterface.register(NAME, _no_mask)
    own = hf.config._attn_implementation
    hf.set_attn_implementation(NAME)
    try:
        yield
    finally:
        hf.set_attn_implementation(own)


def _chosen(logits: Tensor, ids: Sequence[int]) -> Floats:
    """Log-probabilities ``[n]`` of the tokens ``ids`` ``[n]`` under ``logits`` ``[n, vocabulary]``."""
    import torch

    own = logits.float()  # row by row: a large vocabulary in float32 is large
    own -= own.amax(-1, keepdim=True)
    chosen = own.gather(-1, torch.tensor(ids, dtype=torch.long, device=own.device)[:, None])[:, 0]
    return np.asarray((chosen - own.exp_().sum(-1).log_()).cpu().numpy())  # in place: thrice as fast as logsumexp
