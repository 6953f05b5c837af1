"""What a decoder layer's attention and MLP add to the residual stream: which modules give it, found by watching one short forward pass.

A layer is understood where its output is its input plus the outputs of two modules. That holds for layers in a row (Llama) and side by side
(GPT-J); with norms behind attention and MLP (Gemma-2: the norm's output is what is added); and where a module adds the residual stream itself
(BLOOM, MPT: a module inside of it gives what is added).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from harness.errors import ModelError
from harness.model.structure import hidden_of, with_hidden

_ATTENTION = re.compile(r"attn|attention", re.IGNORECASE)
_ROUNDING = 8
"""Machine precisions by which a sum of three numbers may be off, in units of their absolute sum."""


@dataclass(frozen=True)
class Parts:
    """Module names within a layer, e.g. ``self_attn`` and ``mlp``, of what adds to the residual stream."""

    attention: str
    mlp: str


@dataclass
class _Seen:
    """What one layer did in the probe: its input and output, and the output of each module in it that ran once, in the order of their ends."""

    x: torch.Tensor | None = None
    output: torch.Tensor | None = None
    modules: dict[str, torch.Tensor | None] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """Return the modules whose output may be added to the residual stream."""
        return tuple(name for name, x in self.modules.items() if x is not None and self.x is not None and x.numel() == self.x.numel())

    def of(self, name: str) -> torch.Tensor:
        """Return a module's output in the shape of the layer's input."""
        x = self.modules[name]
        assert x is not None
        assert self.x is not None
        return _wide(x.reshape(self.x.shape))

    def misfit(self, pair: tuple[str, str]) -> float | None:
        """By how much the input and the outputs of two modules miss the layer's output, in all; None where that is more than rounding."""
        if self.x is None or self.output is None or self.output.shape != self.x.shape:
            return None
        terms = [_wide(self.x), *(self.of(name) for name in pair)]
        size = torch.stack([term.abs() for term in terms]).sum(dim=0)
        error = (terms[0] + terms[1] + terms[2] - _wide(self.output)).abs()
        if not bool((error <= _ROUNDING * torch.finfo(self.output.dtype).eps * size).all()):
            return None
        return float((error / size.clamp(min=torch.finfo(torch.float32).tiny)).sum())


def _wide(x: torch.Tensor) -> torch.Tensor:
    """Return ``x`` in float32 or more."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def stream_of(output: Any, rows: int) -> torch.Tensor:
    """Return the stream ``[rows, tokens, d_model]`` in what a module returned; OPT's MLP returns ``[rows · tokens, d_model]``."""
    x = hidden_of(output)
    return x if x.dim() == 3 else x.reshape(rows, -1, x.shape[-1])


def with_stream(output: Any, x: torch.Tensor) -> Any:
    """Return what a module returned, with its stream replaced by ``x``, in the shape that the module gave it."""
    return with_hidden(output, x.reshape(*hidden_of(output).shape[:-1], x.shape[-1]))


def find_parts(hf: Any, layers: Sequence[nn.Module], probe: Sequence[Sequence[int]] = ((1, 2, 3), (1, 2, 4))) -> list[Parts | None]:
    """Return the modules that give what attention and MLP add, of each layer; None for a layer whose build does not let them be told apart.

    Layers that hold the same modules are judged together: two modules count where they fit all of these layers, and fit them best. Which of the
    two is attention is in its name.

    Args:
        hf: the transformers model.
        layers: its decoder layers.
        probe: short texts to show it, as token ids.
    """
    with _watched(layers) as seen, torch.no_grad():
        hf(input_ids=torch.tensor(probe, device=next(hf.parameters()).device), use_cache=False)
    found: list[Parts | None] = [None] * len(layers)
    alike: dict[tuple[str, ...], list[int]] = {}
    for place, layer in enumerate(seen):
        alike.setdefault(layer.names, []).append(place)
    for names, places in alike.items():
        parts = _best(names, [seen[place] for place in places])
        for place in places:
            found[place] = parts
    return found


def _best(names: Sequence[str], layers: Sequence[_Seen]) -> Parts | None:
    fits: dict[tuple[str, str], float] = {}
    for pair in itertools.combinations(_distinct(names, layers), 2):
        misfits = [misfit for layer in layers if (misfit := layer.misfit(pair)) is not None]
        if len(misfits) == len(layers):
            fits[pair] = sum(misfits)
    if not fits:
        return None
    pair = min(fits, key=lambda pair: fits[pair])
    attention = [name for name in pair if _ATTENTION.search(name)]
    mlp = [name for name in pair if name not in attention]
    return Parts(attention[0], mlp[0]) if len(attention) == len(mlp) == 1 else None


def _distinct(names: Sequence[str], layers: Sequence[_Seen]) -> list[str]:
    """Return one module of each set whose outputs are the same (a block, its last projection, its dropout): the outermost, then the first to end."""
    distinct: list[str] = []
    for name in sorted(names, key=lambda name: name.count(".")):
        if not any(all(torch.equal(layer.of(name), layer.of(other)) for layer in layers) for other in distinct):
            distinct.append(name)
    return distinct


@contextmanager
def _watched(layers: Sequence[nn.Module]) -> Iterator[list[_Seen]]:
    """Within the context each layer is watched; the hooks are gone afterwards, whatever happened. Copies are kept: Falcon adds in place."""
    seen = [_Seen() for _ in layers]
    handles = []

    def copied(output: Any) -> torch.Tensor | None:
        try:
            x = hidden_of(output)
        except (ModelError, TypeError, LookupError):
            return None
        return x.detach().clone() if x.is_floating_point() and x.dim() >= 2 else None

    def watch(layer: nn.Module, record: _Seen) -> None:
        def begin(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            record.x = copied(args[0] if args else kwargs.get("hidden_states"))

        def end(module: nn.Module, args: Any, output: Any) -> None:
            record.output = copied(output)

        handles.append(layer.register_forward_pre_hook(begin, with_kwargs=True))
        handles.append(layer.register_forward_hook(end))
        for name, module in layer.named_modules():
            if name:
                handles.append(module.register_forward_hook(note(record, name)))

    def note(record: _Seen, name: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            record.modules[name] = None if name in record.modules else copied(output)  # what runs twice does not add just once

        return hook

    try:
        for layer, record in zip(layers, seen, strict=True):
            watch(layer, record)
        yield seen
    finally:
        for handle in handles:
            handle.remove()
