"""A model from one layer's output to the next token's logits: one prompt, a residual stream of its own in each row."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from harness.files.timing import CLOCK, READING
from harness.model.cache import CacheNames, cache_names
from harness.model.loading import SubjectModel
from harness.model.structure import hidden_of, with_hidden


class Continuation:
    """A model from one layer's output on, for many residual streams over one prompt. Gradients should be off.

    The quick way shares what rows have in common: one row runs up to the layer, whose hook then returns all rows in place of that one (masks
    and positions are the same for all, so they broadcast); keys and values of the tokens before ``start`` come from a cache. Not every
    architecture bears rows that multiply on the way, so both ways are compared once, and the quick one is taken only where they agree.

    Args:
        model: the subject model.
        layer: zero-based layer whose output is edited.
        ids: token ids of the prompt, at least one.
        start: first token that is edited.

    Attributes:
        x: residual stream after the layer at the tokens from ``start`` on, ``[tokens, d_model]``.
        unedited: logits of the prompt's next token, ``[1, vocabulary]`` float32.
        quick: whether rows share what they can.
    """

    def __init__(self, model: SubjectModel, layer: int, ids: Sequence[int], start: int) -> None:
        self.model, self._layer, self._start = model, layer, start
        self._ids = torch.tensor([list(ids)], device=model.device)
        self._accepted = frozenset(inspect.signature(model.hf.forward).parameters)
        self._cache: Any = None
        self._names: CacheNames | None = None
        seen: list[Tensor] = []
        self.unedited = self._run(self._ids, lambda x: seen.append(x.clone()) or x)  # type: ignore[func-returns-value]
        self.x = seen[0][0, start:]
        self.quick = self._quick_is_right()

    def logits(self, edited: Tensor) -> Tensor:
        """Next token's logits ``[rows, vocabulary]`` float32 for residual streams ``[rows, tokens, d_model]`` at the tokens from start on."""
        # contiguous: on other layouts, which broadcasting can leave behind, torch multiplies row by row, thirty times as slow
        edited = edited.to(self.model.device, self.x.dtype).contiguous()
        return self._shared(edited) if self.quick else self._full(edited)

    def _quick_is_right(self) -> bool:
        probe = torch.stack([self.x, self.x.flip(-1)])
        try:
            if self._start:
                before = self._ids[:, : self._start]
                output = self.model.hf(**self._arguments(before, None), use_cache=True)
                self._names = cache_names(self.model.hf, output)
                self._cache = None if self._names is None else self._names.value(output)
                if self._cache is None:
                    return False
            shared = self._shared(probe)
        except Exception:  # whatever an architecture cannot do: the other way does without
            return False
        full = self._full(probe)
        if shared.shape != full.shape:
            return False
        tolerance = max(1e-3, 16 * torch.finfo(self.x.dtype).eps)
        spread = (full - full.mean(dim=-1, keepdim=True)).norm(dim=-1)
        return bool(((shared - full).norm(dim=-1) <= tolerance * spread).all())

    def _shared(self, edited: Tensor) -> Tensor:
        cache = copy.deepcopy(self._cache)  # a forward pass adds to it
        if cache is not None:
            for after in cache.layers[self._layer + 1 :]:
                after.batch_repeat_interleave(len(edited))
        return self._run(self._ids[:, self._start :], lambda x: edited, cache)

    def _full(self, edited: Tensor) -> Tensor:
        tokens = self._ids.expand(len(edited), -1)
        return self._run(tokens, lambda x: torch.cat([x[:, : self._start], edited], dim=1))

    def _run(self, tokens: Tensor, change: Callable[[Tensor], Tensor], cache: Any = None) -> Tensor:
        """Next token's logits, with the layer's output changed. The hooks are always removed afterwards."""
        handles = [
            self.model.layers[self._layer].register_forward_hook(lambda m, a, output: with_hidden(output, change(hidden_of(output)))),
            # only the last token is wanted; contiguous, since torch multiplies a view with gaps row by row
            self.model.unembedding.register_forward_pre_hook(lambda m, a: (a[0][:, -1:].contiguous(), *a[1:])),
        ]
        try:
            with CLOCK.part(READING, self.model.device, len(tokens)):
                output = self.model.hf(**self._arguments(tokens, cache), use_cache=cache is not None)
        finally:
            for handle in handles:
                handle.remove()
        return output.logits[:, -1].float()  # type: ignore[no-any-return]

    def _arguments(self, tokens: Tensor, cache: Any) -> dict[str, Any]:
        first = 0 if cache is None else self._start
        stop = first + tokens.shape[1]
        mask = torch.ones(len(tokens), stop, dtype=torch.long, device=tokens.device)
        arguments: dict[str, Any] = {"input_ids": tokens, "attention_mask": mask}
        if "position_ids" in self._accepted:
            arguments["position_ids"] = torch.arange(first, stop, device=tokens.device).expand(len(tokens), -1)
        return arguments if cache is None or self._names is None else {**arguments, self._names.argument: cache}
