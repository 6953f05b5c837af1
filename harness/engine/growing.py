"""A cache of attention that rows join and leave: what stays is copied for none of them, and not for each new token.

transformers' dynamic layers concatenate keys and values at every token, and index them anew for every row that leaves. Here the keys and values
of a batch lie in one buffer a layer, with room for more columns and rows; the model is handed views of it, and attention is told of the room around
them (:func:`harness.model.attention.show_in`). Columns are taken off on the left as they become padding in every row. Layers of another kind
(sliding windows, recurrent states) are concatenated and cut as they are.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from harness.engine.growing_layers import landing_class, layer_class
from harness.model.cache import Cut, cut_rows


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
