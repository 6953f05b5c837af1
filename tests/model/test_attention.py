"""Grouped attention for one new token: equal to SDPA, switched on only where it may be, and switched back."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers.generation import generate
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from harness.engine.base import GenerationRequest
from harness.model.attention import NAME, _attend, fast_decoding, keep_caps
from harness.model.loading import SubjectModel
from harness.types import Decoding


def inputs(heads: int, groups: int, length: int = 1, dtype: torch.dtype = torch.float32) -> tuple[torch.nn.Module, list[torch.Tensor]]:
    """A stand-in for the attention module with the one attribute that is read, and query, keys, values of 3 rows × 11 tokens."""
    module = torch.nn.Module()
    module.num_key_value_groups = heads // groups  # type: ignore[assignment]
    generator = torch.Generator().manual_seed(0)
    shapes = [(3, heads, length, 8), (3, groups, 11, 8), (3, groups, 11, 8)]
    return module, [torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes]


def left_padding(length: int = 1) -> torch.Tensor:
    """0, 4 and 10 padded tokens; the last row sees itself alone. ``[3, 1, length, 11]``."""
    return (torch.arange(11)[None] >= torch.tensor([0, 4, 10])[:, None])[:, None, None].expand(3, 1, length, 11)


@pytest.mark.parametrize(("heads", "groups"), [(4, 4), (8, 4), (6, 1)])
@pytest.mark.parametrize("kind", ["none", "bool", "additive", "each head"])
@pytest.mark.parametrize("scaling", [None, 0.2])
def test_it_is_sdpa(heads: int, groups: int, kind: str, scaling: float | None) -> None:
    module, (query, key, value) = inputs(heads, groups)
    mask: torch.Tensor | None = left_padding()
    if kind == "none":
        mask = None
    elif kind == "additive":
        mask = torch.zeros(3, 1, 1, 11).masked_fill(~left_padding(), float("-inf"))
    elif kind == "each head":
        mask = torch.randn(3, heads, 1, 11, generator=torch.Generator().manual_seed(1)).masked_fill(~left_padding(), float("-inf"))
    expected, _ = sdpa_attention_forward(module, query, key, value, mask, scaling=scaling)
    found, weights = _attend(module, query, key, value, mask, scaling=scaling)
    assert weights is None
    assert found.shape == expected.shape == (3, 1, heads, 8)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_longer_queries_and_biases_go_to_sdpa_itself() -> None:
    module, (query, key, value) = inputs(4, 2, length=3)
    mask = left_padding(3)
    assert torch.equal(_attend(module, query, key, value, mask)[0], sdpa_attention_forward(module, query, key, value, mask)[0])
    module, (query, key, value) = inputs(4, 2)
    with pytest.raises(ValueError, match="softcap"):  # what transformers says: scores are never left uncapped in silence
        _attend(module, query, key, value, None, softcap=30.0)


def test_bf16_is_as_near_to_the_exact_result_as_sdpa() -> None:
    module, (query, key, value) = inputs(8, 2, dtype=torch.bfloat16)
    exact, _ = sdpa_attention_forward(module, query.double(), key.double(), value.double(), left_padding())
    ours, theirs = (attend(module, query, key, value, left_padding())[0] for attend in (_attend, sdpa_attention_forward))
    assert (ours - exact).norm() < 2 * (theirs - exact).norm() + 2**-9 * exact.norm()


@pytest.mark.parametrize(
    ("name", "switched"),
    [
        ("llama", True),
        ("mistral", True),
        ("gemma3", True),
        ("gpt2", True),
        ("gpt_neox", True),
        ("gemma2", False),
        ("falcon", False),
        ("bloom", False),
    ],
)
def test_where_it_is_switched_on(make_hf: Callable[[str], Any], name: str, switched: bool, caplog: pytest.LogCaptureFixture) -> None:
    """Not for Gemma-2, which caps its scores, nor where attention is built in; without a warning either way."""
    hf = make_hf(name)
    before = hf.config._attn_implementation
    logging.getLogger("transformers").addHandler(caplog.handler)
    try:
        with fast_decoding(hf):
            assert hf.config._attn_implementation == (NAME if switched else before)
    finally:
        logging.getLogger("transformers").removeHandler(caplog.handler)
    assert hf.config._attn_implementation == before
    assert not caplog.records


def test_the_engine_decodes_with_it(tiny_model: SubjectModel) -> None:
    """Within the engine the model has it, and after each text its own again."""
    names = []
    handle = tiny_model.layers[0].register_forward_hook(lambda *_: names.append(tiny_model.hf.config._attn_implementation))
    try:
        for _ in generate(tiny_model, [GenerationRequest("0", [1, 300], 0)], Decoding(max_new_tokens=3, temperature=0.0)):
            assert tiny_model.hf.config._attn_implementation == "sdpa"
    finally:
        handle.remove()
    assert set(names) == {NAME}


def test_a_loaded_model_that_caps_its_scores_does_cap_them(make_hf: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Also with versions of transformers that give it SDPA, which leaves them uncapped."""
    hf = copy.deepcopy(make_hf("gemma2"))
    hf.config.attn_logit_softcapping = 0.01
    for layer in hf.model.layers:
        layer.self_attn.attn_logit_softcapping = 0.01
        layer.self_attn.q_proj.weight.data *= 30
    tokens = torch.arange(3, 15)[None]
    monkeypatch.setattr(type(hf), "_supports_sdpa", True)  # as it was before transformers refused it
    hf.config._attn_implementation = "sdpa"
    keep_caps(hf)
    assert hf.config._attn_implementation == "eager"
    capped = hf(tokens).logits
    for layer in hf.model.layers:
        layer.self_attn.attn_logit_softcapping = None
    assert not torch.allclose(capped, hf(tokens).logits, atol=1e-3)
