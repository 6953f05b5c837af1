"""How long a text a model reads, by its configuration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_CONTEXT = ("max_position_embeddings", "max_seq_len")
"""What the longest text is called; the second by MPT, whose table of biases ends there."""


def longest_text(config: Any) -> int | None:
    """Return the most tokens of a text, by the configuration of a language model; None where it does not say.

    Models of two sets of rotary frequencies (LongRoPE, in Phi-3 and Phi-4-mini) read all texts of a forward pass by the second set as soon as one
    of them is longer than the context that they were first trained with, and leave keys in the cache that were made by the first. So a text would
    depend on its neighbours, and change under way: such a model reads no longer ones here.
    """
    longest = next((value for name in _CONTEXT if isinstance(value := getattr(config, name, None), int)), None)
    first = [value for value in _first_contexts(config) if isinstance(value, int)]
    return min([*first, *([] if longest is None else [longest])], default=None)


def _first_contexts(config: Any) -> Iterator[Any]:
    """Yield the length at which each set of LongRoPE ends; by transformers' version it is the configuration's or that of its rotary parameters."""
    given = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None)
    if not isinstance(given, Mapping):
        return
    for rope in (given, *given.values()):  # one set, or one for each kind of layer
        if isinstance(rope, Mapping) and "longrope" in (rope.get("rope_type"), rope.get("type")):
            yield rope.get("original_max_position_embeddings") or getattr(config, "original_max_position_embeddings", None)
