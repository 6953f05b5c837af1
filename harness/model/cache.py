"""What a model hands on from one forward pass to the next: attention's keys and values, recurrent states, or nothing.

Models differ in the name of it, and in what can be done with it. Both are looked up in what is there, never in a list of models.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch

NAMES = ("cache", "past_key_values", "cache_params", "state")
"""What transformers calls it: ``cache`` from 5.24 on; before, ``past_key_values`` (attention) and ``cache_params`` (Mamba); ``state`` in RWKV."""

_RESULTS = frozenset(("loss", "logits", "hidden_states", "last_hidden_state", "attentions", "cross_attentions", "router_logits"))
"""What else a forward returns."""

Cut = Literal["select", "reorder", "keep"]
"""How rows leave a cache: by its ``batch_select_indices``, by its ``reorder_cache`` (made for beams, but fewer will do), or not at all."""


@dataclass(frozen=True)
class CacheNames:
    """Under which names a model's cache goes in and comes out; they may differ.

    Attributes:
        argument: of the forward.
        field: of what the forward returns.
    """

    argument: str
    field: str

    def value(self, output: Any) -> Any:
        """The cache in what a forward returned."""
        return output[self.field] if isinstance(output, Mapping) else getattr(output, self.field)


def cache_names(hf: Any, output: Any) -> CacheNames | None:
    """The names of a model's cache, read off its forward's parameters and what a pass with ``use_cache=True`` returned.

    Returns:
        None where the pass returned none, or one that the forward takes under no name that could be found.
    """
    # Never by asking for a name: asking transformers' outputs for an old one writes a warning.
    fields = output if isinstance(output, Mapping) else vars(output) if hasattr(output, "__dict__") else {}
    held = [name for name, value in fields.items() if value is not None and name not in _RESULTS]
    held.sort(key=lambda name: NAMES.index(name) if name in NAMES else len(NAMES))
    parameters = inspect.signature(hf.forward).parameters
    for name in held:
        if name in parameters:
            return CacheNames(name, name)
    if not held:
        return None
    known = next((name for name in NAMES if name in parameters), None)
    if known is None and any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        known = held[0]
    return None if known is None else CacheNames(known, held[0])


def cache_argument(hf: Any) -> str:
    """Return under which name a model's forward takes a cache that is given to it.

    Raises:
        ValueError: under none that is known.
    """
    parameters = inspect.signature(hf.forward).parameters
    found = next((name for name in NAMES if name in parameters), None)
    if found is None:
        raise ValueError(f"{type(hf).__name__} takes no cache under any of {', '.join(NAMES)}")
    return found


def cut_rows(cache: Any, rows: torch.Tensor, how: Cut) -> None:
    """Leave only some rows in a cache, in place.

    Args:
        cache: of a transformers model.
        rows: ``[n]`` int64, the rows that stay.
        how: which of the cache's own methods does it; ``keep`` is none.

    Raises:
        Exception: whatever a cache raises that cannot do it.
    """
    if how == "select":
        cache.batch_select_indices(rows)
    elif how == "reorder":
        cache.reorder_cache(rows)
