"""Attention and MLP of a layer, found by what they add, in every family and number format, and refused where they cannot be told apart."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers.models import byte_tokenizer, hf_of

from harness.errors import ModelError
from harness.interventions import Site
from harness.model import SubjectModel, hidden_of, residuals
from harness.model.streams import Parts, stream_of, with_stream

USUAL = Parts("self_attn", "mlp")
NORMS = Parts("post_attention_layernorm", "post_feedforward_layernorm")
EXPECTED = {
    "llama": USUAL,
    "mistral": USUAL,
    "mixtral": USUAL,
    "qwen2": USUAL,
    "qwen3": USUAL,
    "gemma2": NORMS,
    "gemma3": NORMS,
    "olmo2": NORMS,
    "gpt2": Parts("attn", "mlp"),
    "gptj": Parts("attn", "mlp"),
    "gpt_neox": Parts("attention", "mlp"),
    "opt": Parts("self_attn", "fc2"),
    "phi": USUAL,
    "falcon": Parts("self_attention", "mlp"),
    "bloom": Parts("self_attention.dense", "mlp.dense_4h_to_h"),
    "mpt": Parts("attn", "ffn.down_proj"),
}
"""By reading the families' code: what is added to the residual stream."""

SIZE: dict[str, Any] = {"vocab_size": 320, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4}
OTHERS: dict[str, tuple[str, dict[str, Any], Parts | None]] = {
    "falcon with its new layers": ("FalconConfig", {**SIZE, "new_decoder_architecture": True, "num_kv_heads": 2}, EXPECTED["falcon"]),
    "falcon in a row": ("FalconConfig", {**SIZE, "parallel_attn": False}, EXPECTED["falcon"]),
    "gpt-neox in a row": ("GPTNeoXConfig", {**SIZE, "intermediate_size": 64, "use_parallel_residual": False}, EXPECTED["gpt_neox"]),
    "cohere": ("CohereConfig", {**SIZE, "intermediate_size": 64, "num_key_value_heads": 2, "pad_token_id": 0}, USUAL),
    "a scaled branch": ("GraniteConfig", {**SIZE, "intermediate_size": 64, "residual_multiplier": 0.5}, None),
    "a norm behind the sum": ("OPTConfig", {**SIZE, "ffn_dim": 64, "do_layer_norm_before": False, "word_embed_proj_dim": 32}, None),
}
ROWS = [[1, *range(10, 10 + n)] for n in (3, 11, 1, 7)]


def test_they_are_found_in_every_family(architecture: str, make_hf: Callable[[str], Any]) -> None:
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        model = SubjectModel(copy.deepcopy(make_hf(architecture)).to(dtype), byte_tokenizer(), name=architecture)
        layer = model.layers[1]
        assert model.stream_module(Site(1)) is layer
        assert model.stream_module(Site(1, "attention")) is layer.get_submodule(EXPECTED[architecture].attention), dtype
        assert model.stream_module(Site(1, "mlp")) is layer.get_submodule(EXPECTED[architecture].mlp), dtype


@pytest.mark.parametrize("name", OTHERS)
def test_they_are_found_or_refused_in_other_builds(name: str) -> None:
    kind, options, expected = OTHERS[name]
    model = SubjectModel(hf_of(kind, **options), byte_tokenizer(), name=name)
    for stream in ("attention", "mlp"):
        site = Site(2, stream)  # type: ignore[arg-type]
        if expected is not None:
            assert model.stream_module(site) is model.layers[2].get_submodule(getattr(expected, stream))
            continue
        with pytest.raises(ModelError) as error:
            model.stream_module(site)
        assert error.value.given == stream
        assert f"layer 2 of {name}" in str(error.value)
        assert "DecoderLayer" in str(error.value)
        assert "residual" in error.value.hint
        assert "\n" not in str(error.value)
        with pytest.raises(ModelError) as error:
            residuals(model, ROWS, site)
        assert error.value.given == stream
    assert model.stream_module(Site(2)) is model.layers[2]


def test_a_stream_or_layer_that_does_not_exist(tiny_model: SubjectModel) -> None:
    with pytest.raises(ModelError) as error:
        tiny_model.stream_module(Site(1, "head"))  # type: ignore[arg-type]
    assert (error.value.given, error.value.allowed) == ("head", ("residual", "attention", "mlp"))
    with pytest.raises(ModelError) as error:
        tiny_model.stream_module(Site(5, "mlp"))
    assert (error.value.given, error.value.allowed) == (5, "0 to 4")


def test_what_is_read_adds_up_to_the_residual_stream(random_model: SubjectModel) -> None:
    """Texts of several lengths in one batch, padding among them; compared row by row, since batches are in the same order."""
    read = {
        (layer, stream): list(residuals(random_model, ROWS, Site(layer, stream), token_budget=24))  # type: ignore[arg-type]
        for layer in (1, 2)
        for stream in ("residual", "attention", "mlp")
        if (layer, stream) != (1, "attention")
    }
    for before, attention, mlp, after in zip(
        read[1, "residual"], read[2, "attention"], read[2, "mlp"], read[2, "residual"], strict=True
    ):
        assert before.rows == attention.rows == after.rows
        assert attention.x.shape == mlp.x.shape == after.x.shape
        real = after.real
        torch.testing.assert_close((before.x + attention.x + mlp.x)[real], after.x[real], rtol=1e-4, atol=1e-3)
        assert float(attention.x[real].abs().mean()) > 1e-3


def test_what_comes_after_the_site_does_not_run(tiny_model: SubjectModel) -> None:
    ran: list[str] = []
    names = {module: name for name, module in tiny_model.hf.named_modules()}
    watched = [part for layer in tiny_model.layers for part in (layer.self_attn, layer.mlp)]
    tiny_model.stream_module(Site(1, "attention"))  # to find it takes a pass of its own
    handles = [module.register_forward_pre_hook(lambda module, arguments: ran.append(names[module])) for module in watched]
    try:
        list(residuals(tiny_model, ROWS, Site(1, "attention"), token_budget=100))
    finally:
        for handle in handles:
            handle.remove()
    assert ran == ["model.layers.0.self_attn", "model.layers.0.mlp", "model.layers.1.self_attn"]


def test_no_hook_stays(random_model: SubjectModel) -> None:
    def count() -> int:
        return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in random_model.hf.modules())

    before = count()
    random_model.__dict__.pop("_parts", None)
    random_model.stream_module(Site(0, "mlp"))
    list(residuals(random_model, ROWS, Site(1, "mlp")))
    assert count() == before


def test_flat_outputs_are_read_and_written_in_their_own_shape() -> None:
    flat = torch.arange(24.0).reshape(6, 4)
    x = stream_of((flat, "weights"), 2)
    assert x.shape == (2, 3, 4)
    changed = with_stream((flat, "weights"), x + 1)
    assert torch.equal(changed[0], flat + 1)
    assert changed[1] == "weights"
    assert hidden_of(changed).shape == (6, 4)
