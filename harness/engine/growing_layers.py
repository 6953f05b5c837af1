"""Layers of a cache of attention that rows join and leave (:mod:`harness.engine.growing`): their buffers, and how they are written."""

from __future__ import annotations

from functools import cache as once
from typing import Any

from torch import Tensor

from harness.model.attention import show_in

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
        """Append the new tokens, and return all keys and values. The signature is that of ``DynamicLayer``."""
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
        """Hand over the prompts' keys and values, and return them. The signature is that of ``DynamicLayer``.

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
def layer_class() -> Any:
    """Return the class of such layers, a kind of transformers' ``DynamicLayer``."""
    from transformers.cache_utils import DynamicLayer

    class GrowingLayer(_Growing, DynamicLayer):  # type: ignore[misc]
        """Keys and values of attention, as transformers' models take them."""

    return GrowingLayer


@once
def landing_class() -> Any:
    """Return the class of layers whose rows are about to join others, a kind of transformers' ``DynamicLayer``."""
    from transformers.cache_utils import DynamicLayer

    class LandingLayer(_Landing, DynamicLayer):  # type: ignore[misc]
        """Keys and values on their way."""

    return LandingLayer


def _room(like: Tensor, rows: int, columns: int, keep: Tensor | None = None) -> Tensor:
    """Return a buffer of zeros: numbers that nobody may see must still be finite, since the weight 0 of a NaN is a NaN."""
    buffer = like.new_zeros(rows, like.shape[1], columns, like.shape[3])
    if keep is not None:
        buffer[: len(keep)] = keep
    return buffer
