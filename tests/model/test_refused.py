"""Folders with a model that harness does not take: one line says what kind it is, and nothing is run or asked meanwhile."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import transformers
from helpers.models import byte_tokenizer

from harness.errors import ModelError
from harness.model.loading import load_model
from harness.model.refused import explained


def refusal(folder: Path, **config: Any) -> str:
    """What is said of a folder with this config.json."""
    folder.mkdir(exist_ok=True)
    byte_tokenizer().save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ModelError) as error:
        load_model(folder, device="cpu")
    assert error.value.given == str(folder)
    assert "\n" not in str(error.value)
    assert error.value.hint
    return str(error.value)


@pytest.mark.parametrize("kind", ["t5", "bart", "whisper"])
def test_encoder_decoders(kind: str, tmp_path: Path) -> None:
    """Of the last two transformers would make a decoder alone, which was never trained."""
    said = refusal(tmp_path / "model", model_type=kind)
    assert f"is an encoder-decoder model ({kind}); allowed: causal" in said


def test_models_without_a_language_model(tmp_path: Path) -> None:
    said = refusal(tmp_path / "model", model_type="vit")
    assert "is a ViT model, of which transformers has no causal language model" in said
    assert "files" not in said.rpartition(";")[2], "they are complete"


def test_an_architecture_that_transformers_does_not_know(tmp_path: Path) -> None:
    said = refusal(tmp_path / "model", model_type="brandnew9")
    assert f"'brandnew9', which transformers {transformers.__version__} does not know" in said
    assert "newer transformers" in said


def test_a_library_that_is_missing() -> None:
    """As for a quantised model."""
    said = explained("folder", ImportError("Loading a GPTQ quantized model requires optimum (`pip install optimum`)"))
    assert "optimum" in said.message
    assert said.hint.startswith("install the library")
    assert "files are complete" in explained("folder", OSError("no file named model.safetensors")).hint


def test_code_in_the_folder_is_neither_run_nor_asked_about(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(*given: object) -> str:
        raise AssertionError("transformers asks on the terminal")

    monkeypatch.setattr("builtins.input", asked)
    folder, ran = tmp_path / "model", tmp_path / "ran"
    folder.mkdir()
    for name in ("configuration_x", "modeling_x"):
        (folder / f"{name}.py").write_text(f"open({str(ran)!r}, 'w')\nclass X: pass\n", encoding="utf-8")
    auto = {"AutoConfig": "configuration_x.X", "AutoModelForCausalLM": "modeling_x.X"}
    assert "needs code of its own, which is not run" in refusal(folder, model_type="brandnew9", auto_map=auto)
    assert not ran.exists()


def test_a_model_that_transformers_has_needs_no_code_of_the_folder(tiny_model_path: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_model_path, tmp_path / "model")
    (tmp_path / "model").chmod(0o755)
    config = json.loads((tiny_model_path / "config.json").read_text(encoding="utf-8"))
    config["auto_map"] = {"AutoConfig": "configuration_x.X", "AutoModelForCausalLM": "modeling_x.X"}
    (tmp_path / "model" / "config.json").unlink()
    (tmp_path / "model" / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assert load_model(tmp_path / "model", device="cpu").n_layers == config["num_hidden_layers"]
