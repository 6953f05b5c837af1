"""Products of an MLP's weights with few tokens on the CPU in bfloat16, made so that the tokens are rearranged and not the weights.

``F.linear`` in bfloat16 needs its second factor in blocks, so a weight ``[out, in]`` is rearranged at every call. Turned round, as ``W x^T``, the
tokens are, of which there are few; the result lies the other way round then. In an MLP that costs nothing: what stands between its products keeps
the layout, and the last of them takes it as it is. So only these are turned, and what leaves the MLP lies as usual. Measured in docs/performance.md;
every sum is made in the same order, so the results are the same to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

FEWEST, MOST = 32, 128
"""Numbers of tokens of a call that are multiplied so."""
PAGE = 2048
"""Weights whose rows lie so many numbers apart, or a multiple of it (4 kB), meet in the same places of a cache; turned, the product loses by it."""
_WIDER = 2
"""An MLP's inner width as a multiple of its outer one, at least."""


@contextmanager
def turned_products(hf: Any) -> Iterator[None]:
    """Within the context the MLPs of ``hf`` (a transformers model) multiply few tokens the other way round; nothing is left on it afterwards.

    An MLP is a module whose linear layers widen a vector and narrow it again. It is left alone where one of them is no plain ``nn.Linear`` (an
    adapter's, a quantised one) or has a ``forward`` of its own. Nothing happens to a model that is not on the CPU or in another number format, nor on
    a processor on which this was not measured.
    """
    changed: list[nn.Linear] = []
    try:
        if getattr(hf, "dtype", None) == torch.bfloat16 and hf.device.type == "cpu" and _is_measured():
            for widening, narrowing in _mlps(hf):
                for linear, forward in [*((own, _widen(own)) for own in widening), *((own, _narrow(own)) for own in narrowing)]:
                    if "forward" not in vars(linear):  # one that several modules hold comes again
                        changed.append(linear)
                        linear.forward = forward  # type: ignore[assignment,method-assign]
        yield
    finally:
        for linear in changed:
            vars(linear).pop("forward", None)


def turned(weight: Tensor, x: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return ``x W^T + b`` with the weight on the left: ``[tokens, in]`` → ``[tokens, out]``, whose first side is the one without gaps."""
    if bias is None:
        return torch.mm(weight, x.t()).t()
    return torch.addmm(bias[:, None], weight, x.t()).t()


def _is_measured() -> bool:
    """Whether the processor multiplies bfloat16 by AVX-512 and has no unit for tiles."""
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    found = [getattr(torch.cpu, name, None) for name in names]
    return all(found) and found[0]() and not found[1]() and torch.backends.mkldnn.is_available()  # type: ignore[misc,no-untyped-call]


def _mlps(hf: nn.Module) -> Iterator[tuple[list[nn.Linear], list[nn.Linear]]]:
    """Yield the widening and the narrowing layers of each MLP."""
    for module in hf.modules():
        children: list[Any] = [child for child in module.children() if hasattr(child, "in_features") and hasattr(child, "out_features")]
        outer = min((child.out_features for child in children), default=0)
        widening = [own for own in children if own.in_features == outer and own.out_features > _WIDER * outer]
        narrowing = [own for own in children if own.out_features == outer and own.in_features > _WIDER * outer]
        whole = widening and narrowing and len(widening) + len(narrowing) == len(children)
        if whole and all(type(own) is nn.Linear and own.in_features % PAGE and "forward" not in vars(own) for own in children):
            yield widening, narrowing


def _widen(linear: nn.Linear) -> Callable[[Tensor], Tensor]:
    """Return a forward method whose result lies the other way round."""

    def forward(input: Tensor) -> Tensor:
        if not (_may(linear, input) and input.is_contiguous()):
            return nn.Linear.forward(linear, input)
        flat = input.view(-1, linear.in_features)
        return turned(linear.weight, flat, linear.bias).view(*input.shape[:-1], linear.out_features)

    return forward


def _narrow(linear: nn.Linear) -> Callable[[Tensor], Tensor]:
    """Return a forward method that takes what lies the other way round; its result lies as usual."""

    def forward(input: Tensor) -> Tensor:
        if not _may(linear, input) or input.is_contiguous():
            return nn.Linear.forward(linear, input)
        flat = input.reshape(-1, linear.in_features)
        return turned(linear.weight, flat, linear.bias).view(*input.shape[:-1], linear.out_features).contiguous()

    return forward


def _may(linear: nn.Linear, x: Tensor) -> bool:
    """Whether vectors ``[…, in]`` are as many as it pays for, and lie with the weight where it was measured."""
    weight = linear.weight
    plain = type(weight) in (nn.Parameter, Tensor) and weight.is_contiguous() and x.dtype == weight.dtype == torch.bfloat16
    many = FEWEST * linear.in_features <= x.numel() <= MOST * linear.in_features
    return plain and many and weight.device.type == x.device.type == "cpu" and not torch.is_grad_enabled()
