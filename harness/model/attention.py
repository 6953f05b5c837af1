"""Attention for one new token on the CPU, without copying the keys of grouped-query attention.

torch's CPU kernel for scaled dot-product attention is made for long queries, and older versions of transformers repeat keys and values for
each query head before it. For a single query a grouped matrix product is faster (measured: a decoding step of SmolLM2-135M in bf16, 32 to 64
rows, takes .82 to .85 of the time); everything else goes to transformers' own function.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from harness.model.structure import text_config

NAME = "harness_grouped"
_registered = False
_AROUND = 64
"""Columns around the shown ones up to which these are read, too; more are cut off by a copy."""


def show_in(whole: Tensor, start: int, end: int) -> Tensor:
    """Return some columns of keys or values, with a note of where they lie: products of small number formats need tensors without gaps.

    Args:
        whole: ``[B, groups, columns, d]`` without gaps, finite everywhere.
        start: the first column to show.
        end: the one after the last.
    """
    shown = whole[:, :, start:end]
    shown.lies_in = (whole, start)  # type: ignore[attr-defined]  # torch's tensors take attributes; whatever is computed from them has none
    return shown


def _attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, Tensor | None]:
    """Return transformers' attention interface: query ``[B, heads, T, d]``, key and value ``[B, groups, S, d]`` → ``[B, T, heads, d]``."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    if kwargs.get("softcap") is not None:
        raise ValueError("scaled dot-product attention cannot cap its scores (softcap); load the model with eager attention")
    special = any(kwargs.get(name) is not None for name in ("s_aux", "position_bias"))
    rows, heads, length, width = query.shape
    groups, columns = key.shape[1:3]
    per_head = attention_mask is not None and attention_mask.shape[1] != 1  # a mask for each head, e.g. ALiBi's biases
    if length != 1 or special or per_head or heads % groups:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)  # type: ignore[no-any-return]
    scaling = kwargs.get("scaling") or width**-0.5
    grouped = query.reshape(rows, groups, heads // groups, width)
    key, value, start = _without_gaps(key, value)
    scores = torch.matmul(grouped, key.transpose(2, 3)).float() * scaling
    end = start + columns
    if attention_mask is not None:
        mask, own = attention_mask[..., :columns], scores[..., start:end]
        if mask.dtype == torch.bool:
            own.masked_fill_(~mask, float("-inf"))
        else:
            own += mask
    scores[..., :start] = scores[..., end:] = float("-inf")
    weights = torch.softmax(scores, dim=-1).to(value.dtype)
    return torch.matmul(weights, value).reshape(rows, 1, heads, value.shape[-1]), None


def _without_gaps(key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, int]:
    """Return keys and values that products are quick with, and the column at which the given ones begin in them; what is around is to be left out.

    Products of bfloat16 with tensors that have gaps take four times as long, or copy them, at every step: a tenth of a step of SmolLM2 (64 rows).
    """
    if key.dtype == torch.float32:
        return key, value, 0
    (keys, start), (values, other) = (getattr(x, "lies_in", (x, -1)) for x in (key, value))
    if start == other >= 0 and keys.shape[2] == values.shape[2] <= key.shape[2] + _AROUND:
        return keys, values, start
    return key.contiguous(), value, 0


def _register() -> None:
    global _registered
    if _registered:
        return
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(NAME, _attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    _registered = True


@contextmanager
def fast_decoding(hf: Any) -> Iterator[None]:
    """Within the context, ``hf`` (a transformers model) decodes with grouped attention; its own is restored afterwards.

    Nothing happens to a model that is not on the CPU, does not use SDPA (models that cap their attention scores), has its attention built in
    (Falcon), or has parts other than text, each with an attention of its own.
    """
    if not can_switch(hf):
        yield
        return
    _register()
    hf.set_attn_implementation(NAME)
    try:
        yield
    finally:
        hf.set_attn_implementation("sdpa")


def keep_caps(hf: Any) -> None:
    """Gives eager attention to a model that caps its attention scores (Gemma-2).

    SDPA cannot cap them, and older versions of transformers left the scores uncapped without a warning.
    """
    if _caps(hf) and getattr(hf.config, "_attn_implementation", None) == "sdpa":
        hf.set_attn_implementation("eager")


def _caps(hf: Any) -> bool:
    return getattr(text_config(hf), "attn_logit_softcapping", None) is not None


def can_switch(hf: Any) -> bool:
    """Return whether the attention of ``hf`` can be replaced by another function for a while; see :func:`fast_decoding`."""
    config = hf.config
    if _caps(hf):
        return False
    if getattr(config, "_attn_implementation", None) != "sdpa" or hf.device.type != "cpu" or text_config(hf) is not config:
        return False
    return bool(getattr(type(hf), "_can_set_attn_implementation", lambda: True)())
