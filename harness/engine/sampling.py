"""Choosing the next token: repetition penalty, temperature, nucleus; one uniform number per (request, step).

Sampling inverts the cumulative distribution in descending order of probability, so a row's text depends on its own logits and its own
uniform numbers, whatever else is in the batch. Only as much of the vocabulary is sorted as the nucleus and the draw need.
"""

from __future__ import annotations

from math import inf

import torch
from torch import Tensor

from harness.errors import EngineError
from harness.types import Decoding

_FIRST_CANDIDATES = 64
_GROWTH = 8


def check_decoding(decoding: Decoding) -> None:
    """Raise EngineError for settings that no sampler can run."""
    bounds = [
        ("max_new_tokens", decoding.max_new_tokens >= 1, "at least 1"),
        ("min_new_tokens", 0 <= decoding.min_new_tokens <= decoding.max_new_tokens, "from 0 to max_new_tokens"),
        ("temperature", decoding.temperature == 0 or 1e-6 <= decoding.temperature < inf, "0 (greedy), or from 1e-6 up"),
        ("top_p", 0 < decoding.top_p <= 1, "above 0 and at most 1"),
        ("repetition_penalty", 0 < decoding.repetition_penalty < inf, "above 0 (1 = none)"),
        ("penalty_scope", decoding.penalty_scope in ("all", "generated"), "'all' or 'generated'"),
    ]
    for name, good, allowed in bounds:
        if not good:
            given = getattr(decoding, name)
            raise EngineError(f"decoding option {name} is {given!r}", given=given, allowed=allowed)


def penalise(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Repetition penalty (Keskar et al. 2019): logits of seen tokens are divided by ``penalty`` where positive, multiplied where negative.

    A token that occurs several times is penalised once.

    Args:
        logits: ``[rows, vocabulary]`` float32.
        seen: ``[rows, n]`` token ids; -1 marks a place without a token (padding).
    """
    if seen.shape[1] == 0 or penalty == 1.0:
        return logits
    # A scratch column takes what belongs to padding, so that padding penalises no token.
    width = logits.shape[1]
    padded = torch.cat([logits, logits.new_zeros(logits.shape[0], 1)], dim=1)
    index = torch.where(seen < 0, width, seen)
    values = padded.gather(1, index)
    padded.scatter_(1, index, torch.where(values > 0, values / penalty, values * penalty))
    return padded[:, :width]


def choose(logits: Tensor, uniforms: Tensor, temperature: float, top_p: float) -> Tensor:
    """Return the next token of each row.

    Args:
        logits: ``[rows, vocabulary]`` float32; -inf rules a token out.
        uniforms: ``[rows]`` float64 in [0, 1), on the same device; unused when greedy.
        temperature: 0 is greedy.
        top_p: the nucleus (Holtzman et al. 2020): the smallest set of most probable tokens whose probability reaches ``top_p``.

    Returns:
        ``[rows]`` int64.
    """
    if temperature == 0:
        return logits.argmax(dim=-1)
    # The largest logit becomes 0 first, so that no temperature, however low, overflows.
    scaled = (logits - logits.amax(dim=-1, keepdim=True)) / temperature
    total = torch.logsumexp(scaled, dim=-1, keepdim=True)
    tokens = torch.empty(logits.shape[0], dtype=torch.long, device=logits.device)
    rest = torch.arange(logits.shape[0], device=logits.device)
    size = min(_FIRST_CANDIDATES, logits.shape[1])
    while True:
        values, order = scaled.topk(size, dim=-1)
        cumulative = (values - total).double().exp().cumsum(dim=-1)
        enough, picked = _invert(cumulative, uniforms, top_p, complete=size == logits.shape[1])
        tokens[rest[enough]] = order[enough].gather(1, picked[enough, None]).squeeze(1)
        open_rows = ~enough
        rest = rest[open_rows]
        if len(rest) == 0:
            return tokens
        scaled, total, uniforms = scaled[open_rows], total[open_rows], uniforms[open_rows]
        size = min(size * _GROWTH, logits.shape[1])


def _invert(cumulative: Tensor, uniforms: Tensor, top_p: float, complete: bool) -> tuple[Tensor, Tensor]:
    """Return which rows can be drawn from the candidates seen so far, and the index drawn among them.

    The nucleus' mass is the first cumulative value that reaches ``top_p``; without a nucleus it is 1. A draw below the mass seen so far is
    settled whatever comes later, so long as the nucleus' own mass is known.
    """
    last = cumulative[:, -1]
    if top_p < 1:
        end = torch.searchsorted(cumulative, torch.full_like(cumulative[:, :1], top_p)).squeeze(1)
        known = end < cumulative.shape[1]
        end = end.clamp(max=cumulative.shape[1] - 1)
        mass = cumulative.gather(1, end[:, None]).squeeze(1)
    else:
        end = torch.full_like(uniforms, cumulative.shape[1] - 1, dtype=torch.long)
        known, mass = uniforms < last, torch.ones_like(last)
    if complete:
        # Rounding may leave the whole vocabulary's mass a little off 1; then that mass is the distribution's.
        mass = torch.where(known & (top_p < 1), mass, last)
        known = torch.ones_like(known)
    picked = torch.searchsorted(cumulative, (uniforms * mass)[:, None], right=True).squeeze(1)
    return known, torch.minimum(picked, end)
