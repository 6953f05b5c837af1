"""Subject models: their parts in any architecture, loading, identity, and what goes wrong."""

from __future__ import annotations

import json
import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.errors import ModelError
from harness.model import SubjectModel, hidden_of, load_model, with_hidden

TEXT = [1, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49]


def logits_scaled(model: SubjectModel, logits: torch.Tensor) -> torch.Tensor:
    """What Gemma does to its logits after the unembedding."""
    cap = getattr(model.hf.config, "final_logit_softcapping", None)
    return torch.tanh(logits / cap) * cap if cap else logits


def test_parts_are_found_in_every_architecture(random_model: SubjectModel) -> None:
    model = random_model
    assert (model.n_layers, model.d_model, model.vocab_size) == (3, 32, 320)
    assert dict(model.hf.named_modules())[model.layer_path(1)] is model.layers[1]
    assert not model.hf.training
    assert not any(p.requires_grad for p in model.hf.parameters())

    seen: list[torch.Tensor] = []
    handles = [layer.register_forward_hook(lambda m, a, o: seen.append(hidden_of(o))) for layer in model.layers]
    with torch.no_grad():
        out = model.hf(input_ids=torch.tensor([TEXT]), output_hidden_states=True)
        logits = model.unembedding(model.final_norm(seen[-1]))
    for handle in handles:
        handle.remove()
    for layer in range(model.n_layers - 1):  # the last hidden state that transformers reports has the final norm applied
        torch.testing.assert_close(seen[layer], out.hidden_states[layer + 1])
    torch.testing.assert_close(logits_scaled(model, logits), out.logits)


def test_a_hook_can_replace_the_residual_stream(random_model: SubjectModel) -> None:
    """What with_hidden puts in is what the next layer gets."""
    model, ids = random_model, torch.tensor([TEXT])
    got: list[torch.Tensor] = []
    edit = model.layers[0].register_forward_hook(lambda m, a, o: with_hidden(o, torch.full_like(hidden_of(o), 0.5)))
    look = model.layers[1].register_forward_pre_hook(lambda m, a, k: got.append(a[0] if a else k["hidden_states"]), with_kwargs=True)
    try:
        with torch.no_grad():
            edited = model.hf(input_ids=ids).logits
    finally:
        edit.remove()
        look.remove()
    with torch.no_grad():
        plain = model.hf(input_ids=ids).logits
    assert torch.equal(got[0], torch.full_like(got[0], 0.5))
    assert not torch.allclose(edited, plain)


def test_with_hidden_keeps_the_shape_of_what_a_layer_returned() -> None:
    old, new, other = torch.zeros(1, 2, 3), torch.ones(1, 2, 3), torch.full((1,), 7.0)
    pair = namedtuple("pair", "hidden cache")
    assert with_hidden(old, new) is new
    assert with_hidden((old, other), new) == (new, other)
    assert with_hidden([old, other], new) == [new, other]
    assert with_hidden(pair(old, other), new) == pair(new, other)
    assert hidden_of((old, other)) is old
    with pytest.raises(ModelError) as error:
        with_hidden({"x": old}, new)
    assert error.value.given == "dict"
    assert "tuple" in str(error.value.allowed)


def test_a_vision_tower_of_the_same_depth_is_not_taken_for_the_layers(make_tokenizer: Any) -> None:
    from transformers import AutoModelForCausalLM, Gemma3Config

    text = {"vocab_size": 320, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "head_dim": 8}
    vision = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "image_size": 28,
        "patch_size": 14,
    }
    ids = {"image_token_index": 300, "boi_token_index": 301, "eoi_token_index": 302}
    hf = AutoModelForCausalLM.from_config(Gemma3Config(text_config={**text, "num_key_value_heads": 2}, vision_config=vision, **ids))
    model = SubjectModel(hf, make_tokenizer(), name="gemma3 with eyes")
    assert (model.n_layers, model.d_model) == (3, 32)
    assert "language_model" in model.layer_path(0)


def test_models_that_look_ahead_are_refused(make_tokenizer: Any) -> None:
    from transformers import AutoModelForCausalLM, BertConfig

    hf = AutoModelForCausalLM.from_config(
        BertConfig(vocab_size=320, hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=64)
    )
    with pytest.raises(ModelError) as error:
        SubjectModel(hf, make_tokenizer(), name="bert")
    assert error.value.given == type(hf).__name__
    assert "causal" in str(error.value.allowed)
    assert error.value.hint


def test_a_model_without_a_stack_of_layers_is_refused(make_tokenizer: Any, make_hf: Any) -> None:
    import copy

    hf = copy.deepcopy(make_hf("llama"))
    hf.config.num_hidden_layers = 2  # a stack of three is not what the configuration says
    hooks = [(len(module._forward_hooks), len(module._forward_pre_hooks)) for module in hf.modules()]
    with pytest.raises(ModelError) as error:
        SubjectModel(hf, make_tokenizer(), name="odd")
    assert error.value.given == type(hf).__name__
    assert "2 modules" in error.value.message
    assert "stack of decoder layers" in str(error.value.allowed)
    assert [(len(module._forward_hooks), len(module._forward_pre_hooks)) for module in hf.modules()] == hooks


def test_layers_that_do_not_exist(tiny_model: SubjectModel) -> None:
    assert tiny_model.layer_path(4) == "model.layers.4"
    for layer in (-1, 5):
        with pytest.raises(ModelError) as error:
            tiny_model.layer_path(layer)
        assert (error.value.given, error.value.allowed) == (layer, "0 to 4")


# ------------------------------------------------------------------------------------------------------------------------ loading


def test_a_real_folder(tiny_model: SubjectModel, tiny_model_path: Path) -> None:
    model = tiny_model
    assert model.name == "stories260K"
    assert model.source == str(tiny_model_path.resolve())
    assert (model.n_layers, model.d_model, model.vocab_size, model.max_tokens) == (5, 64, 512, 512)
    assert (model.bos_id, model.eos_ids, model.dtype, model.device.type) == (1, frozenset({2}), torch.float32, "cpu")
    assert model.encode("Once upon a time")[0] == 1
    assert model.decode(model.encode("Once upon a time")) == "Once upon a time"
    assert "stories260K" in repr(model)


def test_every_architecture_survives_a_round_trip_through_a_folder(
    architecture: str, make_hf: Any, make_tokenizer: Any, tmp_path: Path
) -> None:
    make_hf(architecture).save_pretrained(tmp_path)
    make_tokenizer().save_pretrained(tmp_path)
    lines: list[str] = []
    model = load_model(tmp_path, device="cpu", dtype="float32", progress=lines.append)
    with torch.no_grad():
        got, expected = model.hf(torch.tensor([TEXT])).logits, make_hf(architecture)(torch.tensor([TEXT])).logits
    torch.testing.assert_close(got, expected)
    assert lines == [f"loading {tmp_path}"]


def test_a_hub_name_is_read_from_the_hub_cache(tiny_model_path: Path, tmp_path: Path) -> None:
    """A cache as the hub's client lays it out, used without a network."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    repo = tmp_path / "models--someone--stories"
    shutil.copytree(tiny_model_path, repo / "snapshots" / commit)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(commit)
    model = load_model("someone/stories", device="cpu", dtype="float32", cache_dir=tmp_path)
    assert (model.name, model.source) == ("someone/stories", f"someone/stories@{commit}")
    assert model.digest == load_model(tiny_model_path, device="cpu", dtype="float32").digest
    assert load_model("someone/stories", device="cpu", revision=commit, cache_dir=tmp_path).source.endswith(commit)


def one_line(error: pytest.ExceptionInfo[ModelError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


def test_what_cannot_be_found_is_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelError) as error:
        load_model("someone/no-such-model", device="cpu", cache_dir=tmp_path)
    assert error.value.given == "someone/no-such-model"
    assert "HF_HUB_OFFLINE" in error.value.hint
    assert "smollm2-135m-instruct" in error.value.hint
    one_line(error)
    for missing in (tmp_path / "nothing", "./nothing", str(tmp_path / "nothing"), "a/b/c"):
        with pytest.raises(ModelError) as error:
            load_model(missing, device="cpu")
        assert error.value.given == Path(missing)
        assert "smollm2-135m-instruct" in str(error.value.allowed)
        one_line(error)
    (tmp_path / "config.json").touch()
    with pytest.raises(ModelError, match="is a file; allowed: a folder"):
        load_model(tmp_path / "config.json", device="cpu")
    (tmp_path / "config.json").unlink()
    with pytest.raises(ModelError) as error:
        load_model(tmp_path, device="cpu")
    assert error.value.given == tmp_path
    assert "config.json" in error.value.message
    assert "save_pretrained" in error.value.hint


@pytest.mark.parametrize("damage", ["truncated", "weights missing", "tokenizer missing", "config broken", "unknown architecture"])
def test_incomplete_folders_are_refused_in_one_line(damage: str, tiny_model_path: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_model_path, folder)
    for file in folder.iterdir():
        file.chmod(0o644)
    folder.chmod(0o755)
    weights = folder / "model.safetensors"
    if damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:500_000])
    elif damage == "weights missing":
        weights.unlink()
    elif damage == "tokenizer missing":
        (folder / "tokenizer.json").unlink()
    elif damage == "config broken":
        (folder / "config.json").write_text('{"model_type": "llama",')
    else:
        (folder / "config.json").write_text('{"model_type": "no-such-architecture"}')
    with pytest.raises(ModelError) as error:
        load_model(folder, device="cpu")
    assert error.value.given == str(folder)
    assert str(folder) in one_line(error)
    assert error.value.hint


def test_missing_weights_are_not_made_up(tiny_model_path: Path, tmp_path: Path) -> None:
    """transformers fills them with random numbers, and only warns."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(tiny_model_path, tmp_path / "model")
    weights = load_file(tiny_model_path / "model.safetensors")
    weights.pop("model.layers.3.mlp.up_proj.weight")
    (tmp_path / "model").chmod(0o755)
    (tmp_path / "model" / "model.safetensors").unlink()
    save_file(weights, tmp_path / "model" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError) as error:
        load_model(tmp_path / "model", device="cpu")
    assert error.value.given == str(tmp_path / "model")
    assert "1 weights" in one_line(error)
    assert "model.layers.3.mlp.up_proj.weight" in one_line(error)
    assert error.value.hint


# ----------------------------------------------------------------------------------------------------------------------- identity


def test_the_digest_is_of_the_content(tiny_model_path: Path, tmp_path: Path) -> None:
    from harness.model.identity import folder_digest

    folder = tmp_path / "another name"
    shutil.copytree(tiny_model_path, folder)
    for path in (folder, *folder.iterdir()):
        path.chmod(0o755)
    original = folder_digest(tiny_model_path)
    assert folder_digest(folder) == original

    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "transformers_version": "9", "torch_dtype": "bfloat16"}))
    assert folder_digest(folder) == original  # who wrote the file does not matter
    (folder / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 1e-6}))
    assert folder_digest(folder) != original
    (folder / "config.json").write_text(json.dumps(config))

    (folder / "chat_template.jinja").write_text("{{ messages }}")
    assert folder_digest(folder) != original
    (folder / "chat_template.jinja").unlink()

    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[700_000] ^= 1
    (folder / "model.safetensors").write_bytes(weights)
    assert folder_digest(folder) != original


def test_large_weight_files_are_sampled(tmp_path: Path) -> None:
    from harness.model.identity import folder_digest

    size = 65 * 2**20
    for name, change in (("a", None), ("same", None), ("header", 8), ("end", size - 1)):
        folder = tmp_path / name
        folder.mkdir()
        with (folder / "model.safetensors").open("wb") as file:
            file.truncate(size)
            if change is not None:
                file.seek(change)
                file.write(b"x")
    digests = {name: folder_digest(tmp_path / name) for name in ("a", "same", "header", "end")}
    assert digests["a"] == digests["same"]
    assert len({digests["a"], digests["header"], digests["end"]}) == 3


def test_a_folder_that_cannot_be_read(tmp_path: Path) -> None:
    from harness.model.identity import folder_digest

    with pytest.raises(ModelError) as error:
        folder_digest(tmp_path / "gone")
    assert error.value.given == tmp_path / "gone"
    assert error.value.hint


# ------------------------------------------------------------------------------------------------------------------ special tokens


def test_end_tokens_come_from_every_place_that_names_them(make_hf: Any, make_tokenizer: Any) -> None:
    import copy

    from transformers import GenerationConfig

    hf = copy.deepcopy(make_hf("llama"))
    hf.generation_config = GenerationConfig(eos_token_id=[7, 9999])  # the model has 320 tokens
    template = "{% for m in messages %}<turn>{{ m['content'] }}<end>\n{% endfor %}{% if add_generation_prompt %}<turn>{% endif %}"
    model = SubjectModel(hf, make_tokenizer(template=template), name="x")
    assert model.eos_ids == {7, 2, 4}
    assert model.pad_id == 0

    tokenizer = make_tokenizer()
    tokenizer.pad_token = None
    hf.config.pad_token_id = hf.generation_config.pad_token_id = None
    assert SubjectModel(hf, tokenizer, name="x").pad_id == 2
