"""Attention for one new token on the CPU, without copying the keys of grouped-query attention.

torch's CPU kernel for scaled dot-product attention is made for long queries, and transformers repeats keys and values for each query head
before it. For a single query a grouped matrix product is several times as fast; everything else goes to transformers' own function.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

NAME = "harness_grouped"
_registered = False


def _attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, Tensor | None]:
    """transformers' attention interface: query ``[B, heads, T, d]``, key and value ``[B, groups, S, d]`` → ``[B, T, heads, d]``."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    special = any(kwargs.get(name) is not None for name in ("softcap", "s_aux", "position_bias"))
    rows, heads, length, width = query.shape
    groups = key.shape[1]
    if length != 1 or special or heads % groups:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)  # type: ignore[no-any-return]
    scaling = kwargs.get("scaling") or width**-0.5
    grouped = query.reshape(rows, groups, heads // groups, width)
    scores = torch.matmul(grouped, key.transpose(2, 3)).float() * scaling
    if attention_mask is not None:
        mask = attention_mask[..., : key.shape[2]]
        scores = scores.masked_fill(~mask, float("-inf")) if mask.dtype == torch.bool else scores + mask
    weights = torch.softmax(scores, dim=-1).to(value.dtype)
    return torch.matmul(weights, value).reshape(rows, 1, heads, value.shape[-1]), None


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
    """Within the context, ``hf`` (a transformers model on the CPU that uses SDPA) decodes with grouped attention; restored afterwards."""
    implementation = getattr(hf.config, "_attn_implementation", None)
    if implementation != "sdpa" or hf.device.type != "cpu":
        yield
        return
    _register()
    hf.set_attn_implementation(NAME)
    try:
        yield
    finally:
        hf.set_attn_implementation(implementation)
