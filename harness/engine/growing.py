"""A cache of attention that rows join and leave: what stays is copied for none of them, and not for each new token.

transformers' dynamic layers concatenate keys and values at every token, and index them anew for every row that leaves. Here the keys and values
of a batch lie in one buffer a layer, with room for more columns and rows; the model is handed views of it, and attention is told of the room around
them (:func:`harness.model.attention.show_in`). Columns are taken off on the left as they become padding in every row. Layers of another kind
(sliding windows, recurrent states) are concatenated and cut as they are.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cache as once
from functools import partial
from typing import Any

import torch
from torch import Tensor

from harness.model.attention import show_in
from harness.model.cache import Cut, cut_rows

_AHEAD = 32
"""Columns that are made room for at a time. A step reads the room, too, and a move copies all that is there: so much of either costs little."""


class _Growing:
    """What such a layer does: keys and values ``[rows, heads, columns, width]`` as views of buffers with room on all sides but the left."""

    keys: Tensor
    values: Tensor
    is_initialized: bool

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__()
        self._rows, self._longest = rows, columns
        self._n = self._start = self._end = 0
        self._received = 0, 0

    def begin(self, keys: Tensor, values: Tensor) -> None:
        """Take in the first rows."""
        self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True
        self._n, self._end = len(keys), keys.shape[2]
        self._buffers = [_room(x, max(self._rows, self._n), self._ahead(self._end)) for x in (keys, values)]
        for buffer, x in zip(self._buffers, (keys, values), strict=True):
            buffer[: self._n, :, : self._end] = x
        self._show()

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Append the new tokens, and return all keys and values."""
        if not self.is_initialized:
            self.begin(key_states, value_states)
            return key_states, value_states
        new = key_states.shape[2]
        if self._end + new > self._buffers[0].shape[2]:
            width = self._end - self._start + new
            self._lay(0, width if self._start >= _AHEAD else self._ahead(width))
        for buffer, x in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[: self._n, :, self._end : self._end + new] = x
        self._end += new
        self._show()
        return self.keys, self.values

    def leave(self, n: int, to: Tensor, of: Tensor) -> None:
        """Keep ``n`` rows, the rows ``of`` moved to the places ``to``."""
        if len(to):
            for buffer in self._buffers:
                buffer[to, :, self._start : self._end] = buffer[of, :, self._start : self._end]
        self._n = n
        self._show()

    def trim(self, columns: int) -> None:
        """Drop columns on the left."""
        self._start += columns
        self._show()

    def receive(self, keys: Tensor, values: Tensor) -> None:
        """Write down rows behind those that are here, without having them among these yet; what is narrower has whatever numbers lie on its left."""
        more, width = keys.shape[2] - (self._end - self._start), keys.shape[2]
        if self._n + len(keys) > len(self._buffers[0]):
            self._buffers = [_room(b, self._n + len(keys), b.shape[2], b) for b in self._buffers]
        if more > self._start:
            self._lay(more, self._ahead(self._end - self._start + more))
        self._start -= max(0, more)
        self._received = len(keys), width
        for buffer, x in zip(self.received(), (keys, values), strict=True):
            buffer[:] = x
        self._show()

    def select(self, index: Tensor) -> None:
        """Keep some of the rows that have been received, in another order."""
        for buffer in self.received():
            buffer[: len(index)] = buffer[index]
        self._received = len(index), self._received[1]

    def take(self) -> None:
        """Have the rows that have been received among those that are here."""
        self._n += self._received[0]
        self._show()

    def received(self) -> list[Tensor]:
        """Return keys and values of the rows that have been received, as views."""
        n, width = self._received
        return [buffer[self._n : self._n + n, :, self._end - width : self._end] for buffer in self._buffers]

    def _lay(self, start: int, room: int) -> None:
        """Move the columns to begin at ``start``, in larger buffers where there is not ``room`` for so many."""
        width, columns = self._end - self._start, self._buffers[0].shape[2]
        for place, buffer in enumerate(self._buffers):
            shown = buffer[: self._n, :, self._start : self._end]
            if room > columns:
                buffer = _room(buffer, len(buffer), room)
                self._buffers[place] = buffer
            else:
                shown = shown.clone()  # of the buffer itself, and the two may overlap
            buffer[: self._n, :, start : start + width] = shown
        self._start, self._end = start, start + width

    def _ahead(self, columns: int) -> int:
        """Return for how many columns room is made where so many are needed: for some more, but not beyond the longest text there may be.

        Texts that are that long and come one after the other move on to the right, and need room for that.
        """
        if columns + 2 * _AHEAD >= self._longest > columns:
            return self._longest  # once for all: to move once more takes time, and for a while the memory of both
        return columns + _AHEAD

    def _show(self) -> None:
        self.keys, self.values = (show_in(buffer[: self._n], self._start, self._end) for buffer in self._buffers)


class _Landing:
    """What a layer does whose keys and values, those of rows that read their prompts, go to a growing layer at once."""

    keys: Tensor
    values: Tensor
    is_initialized: bool

    def __init__(self, into: _Growing) -> None:
        super().__init__()
        self._into = into

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Hand over the prompts' keys and values, and return them.

        Raises:
            ValueError: they come in several parts.
        """
        if self.is_initialized:
            raise ValueError("prompts whose keys and values go to a batch are read in one pass")
        self._into.receive(key_states, value_states)
        self.dtype, self.device, self.is_initialized = key_states.dtype, key_states.device, True
        self.keys, self.values = self._into.received()
        return key_states, value_states

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep some of the rows."""
        self._into.select(indices)
        self.keys, self.values = self._into.received()

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Keep some of the rows."""
        self.batch_select_indices(beam_idx)


@once
def landing_class() -> Any:
    """Return the class of layers whose rows are about to join others, a kind of transformers' ``DynamicLayer``."""
    from transformers.cache_utils import DynamicLayer

    class LandingLayer(_Landing, DynamicLayer):  # type: ignore[misc]
        """Keys and values on their way."""

    return LandingLayer


def landing(cache: Any) -> Any:
    """Return an empty cache for rows that read their prompts and then join those of another; None where one of its layers does not grow.

    What they keep is written beside the others' at once, so that it never lies in memory twice. The others must be as they are until :func:`join`.

    Args:
        cache: of :func:`enlarge`.
    """
    if not all(isinstance(layer, layer_class()) for layer in cache.layers):
        return None
    coming = copy.copy(cache)
    coming.layers = [landing_class()(layer) for layer in cache.layers]
    return coming


@once
def layer_class() -> Any:
    """Return the class of such layers, a kind of transformers' ``DynamicLayer``."""
    from transformers.cache_utils import DynamicLayer

    class GrowingLayer(_Growing, DynamicLayer):  # type: ignore[misc]
        """Keys and values of attention, as transformers' models take them."""

    return GrowingLayer


def enlarge(cache: Any, rows: int, columns: int) -> None:
    """Replace the plain attention layers of a transformers cache by growing ones, in place.

    Args:
        cache: after the first forward pass of a batch.
        rows: there will be at most, later ones included.
        columns: there will be at most.
    """
    from transformers.cache_utils import DynamicLayer

    for place, layer in enumerate(cache.layers):
        if type(layer) is DynamicLayer and layer.keys is not None and layer.keys.dim() == 4:
            cache.layers[place] = layer_class()(rows, columns)
            cache.layers[place].begin(layer.keys, layer.values)


def all_grow(cache: Any) -> bool:
    """Return whether :func:`growing` gives a cache of the same kind as this one, which was enlarged."""
    from transformers import DynamicCache

    return type(cache) is DynamicCache and all(isinstance(layer, layer_class()) for layer in cache.layers)


def growing(rows: int, columns: int) -> Any:
    """Return an empty cache of growing layers, for a model all of whose layers are of attention over all tokens.

    Args:
        rows: there will be at most, later ones included.
        columns: there will be at most.
    """
    from transformers import DynamicCache

    cache = DynamicCache()
    cache.layer_class_to_replicate = partial(layer_class(), rows, columns)
    return cache


def leave(cache: Any, order: Sequence[int], index: Tensor, how: Cut = "select") -> None:
    """Keep some rows.

    Args:
        cache: of :func:`enlarge`.
        order: the rows that stay, in their new order.
        index: the same as a tensor on the model's device.
        how: rows leave the layers that do not grow.
    """
    moves = [(to, of) for to, of in enumerate(order) if to != of]
    to, of = (torch.tensor(places, dtype=torch.long, device=index.device) for places in (zip(*moves, strict=True) if moves else ((), ())))
    for layer in cache.layers:
        if isinstance(layer, layer_class()):
            layer.leave(len(order), to, of)
        else:
            cut_rows(layer, index, how)


def trim(cache: Any, columns: int, width: int) -> None:
    """Drop columns on the left.

    Args:
        cache: of :func:`enlarge`.
        columns: how many.
        width: of the cache before.
    """
    for layer in cache.layers:
        if isinstance(layer, layer_class()):
            layer.trim(columns)
        elif (window := _window(layer)) is not None:
            layer.cumulative_length -= columns
            kept = min(width - columns, window - 1)
            layer.keys, layer.values = (x[:, :, x.shape[2] - kept :] for x in (layer.keys, layer.values))
        elif _has_columns(layer):
            layer.keys, layer.values = layer.keys[:, :, columns:], layer.values[:, :, columns:]


def join(cache: Any, other: Any, width: int, other_width: int) -> None:
    """Take in the rows of another cache, after those of the first; the narrower of the two is padded on the left.

    Args:
        cache: of :func:`enlarge`.
        other: of the same model.
        width: columns of the first.
        other_width: columns of the other.

    Raises:
        ValueError: a layer of a kind that is not known.
    """
    longest = max(width, other_width)
    for layer, new in zip(cache.layers, other.layers, strict=True):
        if isinstance(layer, layer_class()):
            if not isinstance(new, landing_class()):
                layer.receive(new.keys, new.values)
            layer.take()
        else:
            _join(layer, new, longest)


def _join(layer: Any, new: Any, width: int) -> None:
    """Join a layer that does not grow: its columns, and the states that have none."""
    known = not any(isinstance(value, Tensor) for value in vars(layer).values())  # a layer that keeps nothing
    if _has_columns(layer):
        window = _window(layer)
        columns = width if window is None else min(width, window - 1)
        layer.keys, layer.values = (
            torch.cat([_widened(ours, columns), _widened(theirs, columns)])
            for ours, theirs in ((layer.keys, new.keys), (layer.values, new.values))
        )
        if window is not None:
            layer.cumulative_length = width
        known = True
    for name in ("conv_states", "recurrent_states"):
        states = getattr(layer, name, None)
        if isinstance(states, dict):
            theirs = getattr(new, name)
            setattr(layer, name, {key: x if x is None else torch.cat([x, theirs[key]]) for key, x in states.items()})
            known = True
    if not known:
        raise ValueError(f"a cache has a layer of the kind {type(layer).__name__}")


def _has_columns(layer: Any) -> bool:
    keys = getattr(layer, "keys", None)
    return isinstance(keys, Tensor) and keys.dim() == 4


def _window(layer: Any) -> int | None:
    """Return the width of a layer's sliding window, None where it has none."""
    return layer.sliding_window if hasattr(layer, "cumulative_length") and hasattr(layer, "sliding_window") else None


def _widened(x: Tensor, columns: int) -> Tensor:
    """``[rows, heads, columns, width]`` with zeros on the left."""
    return torch.nn.functional.pad(x, (0, 0, columns - x.shape[2], 0))


def _room(like: Tensor, rows: int, columns: int, keep: Tensor | None = None) -> Tensor:
    """Return a buffer of zeros: numbers that nobody may see must still be finite, since the weight 0 of a NaN is a NaN."""
    buffer = like.new_zeros(rows, like.shape[1], columns, like.shape[3])
    if keep is not None:
        buffer[: len(keep)] = keep
    return buffer
