"""Adapters: worn within a context and gone afterwards; what does not fit, or would change the model itself, is refused in one line."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.errors import EngineError
from harness.model.adapters import CONFIG, Adapters
from harness.model.loading import SubjectModel

IDS = torch.tensor([[1, 30, 31, 32, 33]])


def state(model: SubjectModel) -> tuple[list[int], set[str], dict[str, Any], bool]:
    """What must be as it was: the modules and their order, attributes, configuration, gradients."""
    hf = model.hf
    return [id(module) for module in hf.modules()], set(vars(hf)), hf.config.to_dict(), any(p.requires_grad for p in hf.parameters())


def logits(model: SubjectModel) -> torch.Tensor:
    with torch.no_grad():
        return model.hf(IDS).logits  # type: ignore[no-any-return]


TARGETS = {"llama": ["q_proj", "down_proj"], "gpt2": ["c_attn", "c_proj"], "opt": ["fc2"], "bloom": ["dense", "dense_4h_to_h"], "gemma2": ["o_proj"]}


@pytest.mark.parametrize("name", TARGETS)
def test_a_model_with_an_adapter_is_pefts_own(make_model: Callable[[str], SubjectModel], lora: Callable[..., Path], name: str) -> None:
    from peft import PeftModel

    model = make_model(name)
    folder = lora(model, TARGETS[name], fan_in_fan_out=name == "gpt2")
    before, weights, plain = state(model), {key: value.clone() for key, value in model.hf.state_dict().items()}, logits(model)
    adapter = Adapters(model).get(str(folder))
    assert state(model) == before
    with adapter.worn():
        worn = logits(model)
    expected = PeftModel.from_pretrained(copy.deepcopy(model.hf), folder).eval()
    with torch.no_grad():
        assert torch.equal(worn, expected(IDS).logits)
    assert not torch.allclose(worn, plain, atol=0.01)
    assert torch.equal(logits(model), plain)
    assert state(model) == before
    assert list(weights) == list(model.hf.state_dict())
    assert all(torch.equal(value, weights[key]) for key, value in model.hf.state_dict().items())


def test_it_is_taken_off_whatever_happens(tiny_model: SubjectModel, lora: Callable[..., Path]) -> None:
    before, plain = state(tiny_model), logits(tiny_model)
    adapter = Adapters(tiny_model).get(str(lora(tiny_model, ["v_proj"])))

    def broken() -> None:
        with adapter.worn():
            assert state(tiny_model) != before
            raise KeyError("broken")

    with pytest.raises(KeyError, match="broken"):
        broken()
    assert state(tiny_model) == before
    assert torch.equal(logits(tiny_model), plain)


def test_the_last_one_is_loaded_once(tiny_model: SubjectModel, lora: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.model import adapters

    loaded: list[str] = []
    real = adapters._load
    monkeypatch.setattr(adapters, "_load", lambda model, folder: loaded.append(folder) or real(model, folder))  # type: ignore[func-returns-value]
    one, two = (str(lora(tiny_model, ["v_proj"], seed)) for seed in (1, 2))
    shelf = Adapters(tiny_model)
    for folder in (one, one, two, two, one):
        shelf.get(folder)
    assert loaded == [one, two, one]
    with shelf.get(one).worn():
        first = logits(tiny_model)
    with shelf.get(two).worn():
        assert not torch.allclose(logits(tiny_model), first, atol=0.01)


def test_other_kinds_that_replace_modules_are_worn_too(make_model: Callable[[str], SubjectModel], tmp_path: Path) -> None:
    from peft import IA3Config, get_peft_model

    model = make_model("llama")
    wrapped = get_peft_model(copy.deepcopy(model.hf), IA3Config(target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"]))
    for name, parameter in wrapped.named_parameters():
        if "ia3" in name:
            parameter.data.fill_(1.5)
    wrapped.save_pretrained(tmp_path)
    with Adapters(model).get(str(tmp_path)).worn(), torch.no_grad():
        assert torch.equal(model.hf(IDS).logits, wrapped.eval()(IDS).logits)


def changed(folder: Path, **settings: Any) -> str:
    """The folder with another configuration."""
    path = folder / CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    return str(folder)


def test_what_cannot_be_worn_is_refused(make_model: Callable[[str], SubjectModel], lora: Callable[..., Path], tmp_path: Path) -> None:
    from peft import PromptTuningConfig, get_peft_model

    model, other = make_model("llama"), make_model("gpt2")
    before, plain = state(model), logits(model)
    prompts = tmp_path / "prompts"
    get_peft_model(copy.deepcopy(model.hf), PromptTuningConfig(num_virtual_tokens=3, task_type="CAUSAL_LM")).save_pretrained(prompts)
    (tmp_path / "empty").mkdir()
    torn, unnamed, partial = (tmp_path / name for name in ("torn", "unnamed", "partial"))
    for folder, text in ((torn, '{"peft_'), (unnamed, "{}")):
        folder.mkdir()
        (folder / CONFIG).write_text(text)
    source = lora(model, ["v_proj"])
    partial.mkdir()
    (partial / CONFIG).write_text((source / CONFIG).read_text())
    (partial / "adapter_model.safetensors").write_bytes((source / "adapter_model.safetensors").read_bytes())
    for folder, given, named in [
        (str(tmp_path / "empty"), None, CONFIG),
        (str(torn), torn / CONFIG, CONFIG),
        (str(unnamed), unnamed / CONFIG, "peft_type"),
        (str(prompts), None, "PROMPT_TUNING"),
        (str(lora(other, ["c_attn"], fan_in_fan_out=True)), None, "llama"),
        (changed(partial, target_modules=["v_proj", "o_proj"]), None, "missing adapter keys"),
        (changed(lora(model, ["v_proj"]), r=2), None, "llama"),
        (changed(lora(model, ["v_proj"]), bias="all"), "bias='all'", "bias='all'"),
        (changed(lora(model, ["v_proj"]), init_lora_weights="pissa"), "init_lora_weights='pissa'", "init_lora_weights='pissa'"),
    ]:
        with pytest.raises(EngineError) as error:
            Adapters(model).get(folder)
        assert error.value.given == (given or folder)
        assert folder in str(error.value)
        assert named in str(error.value)
        assert error.value.hint
        assert "\n" not in str(error.value)
        assert state(model) == before
    assert torch.equal(logits(model), plain)
