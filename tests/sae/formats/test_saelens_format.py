"""SAELens' folders: configurations of every form, training checkpoints, what contradicts itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.dictionaries import (
    D_IN,
    D_SAE,
    K,
    refused,
    write_saelens,
)
from safetensors.torch import load_file, save_file

from harness import sae as harness_sae
from harness.sae.checks import NOT_A_DICTIONARY
from harness.sae.dictionary import Dictionary


@pytest.mark.parametrize("architecture", ["standard", "topk", "jumprelu", "gated"])
def test_saelens_training_checkpoints_are_what_they_export(architecture: str, tmp_path: Path) -> None:
    checkpoint, exported = train_and_save(architecture, tmp_path)
    assert_same_function(harness_sae.load(checkpoint, dtype="float64"), harness_sae.load(exported, dtype="float64"))


@pytest.mark.parametrize("architecture", ["batchtopk", "matryoshka_batchtopk"])
@pytest.mark.parametrize("rescale", [True, False])
def test_batchtopk_checkpoints_with_their_threshold(architecture: str, rescale: bool, tmp_path: Path) -> None:
    checkpoint, exported = train_and_save(architecture, tmp_path, rescale_acts_by_decoder_norm=rescale)
    assert json.loads((exported / "cfg.json").read_text())["architecture"] == "jumprelu", "what SAELens publishes"
    loaded, reference = harness_sae.load(checkpoint, dtype="float64"), harness_sae.load(exported, dtype="float64")
    assert loaded.architecture == "jumprelu"
    assert loaded.cfg["metadata"]["training_architecture"] == architecture
    assert_same_function(loaded, reference)


def train_and_save(architecture: str, root: Path, **options: Any) -> tuple[Path, Path]:
    """SAELens' own checkpoint and export of a training SAE with random weights."""
    import sae_lens  # noqa: F401
    from sae_lens.registry import get_sae_training_class

    sae_class, config_class = get_sae_training_class(architecture)
    options |= {"k": K} if "topk" in architecture else {}
    options |= {"matryoshka_widths": [10, D_SAE]} if "matryoshka" in architecture else {}
    config = config_class(d_in=D_IN, d_sae=D_SAE, dtype="float64", **options)
    config.metadata.hook_name, config.metadata.model_name = "model.layers.3", "random"
    sae: Any = sae_class(config)
    generator = torch.Generator().manual_seed(1)
    for name, parameter in sae.named_parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * 0.5
        if "threshold" in name:
            parameter.data = parameter.data.abs()
    if hasattr(sae, "topk_threshold"):
        sae.topk_threshold.fill_(0.7)
    sae.save_model(root / "checkpoint")
    sae.save_inference_model(root / "exported")
    return root / "checkpoint", root / "exported"


def assert_same_function(one: Dictionary, other: Dictionary) -> None:
    x = torch.randn(8, D_IN, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    assert (other.encode(x) != 0).any()
    torch.testing.assert_close(one.decode(one.encode(x)), other.decode(other.encode(x)), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(one.clamp(x, 5, 1.5) - x, other.clamp(x, 5, 1.5 * scale_of(other, one, x)) - x, rtol=1e-8, atol=1e-8)


def scale_of(other: Dictionary, one: Dictionary, x: torch.Tensor) -> float:
    """How many of ``other``'s units one of ``one``'s is, at feature 5 (an export may fold the decoder's norms in)."""
    return float(one.decoder_norms()[5] / other.decoder_norms()[5])


def test_a_checkpoint_from_before_the_training_began(tmp_path: Path) -> None:
    checkpoint, _ = train_and_save("batchtopk", tmp_path)
    path = checkpoint / "sae_weights.safetensors"
    save_file(load_file(path) | {"topk_threshold": torch.tensor(0.0)}, path)
    refused(checkpoint, 0.0, str(path), "threshold", "above 0")


def test_the_first_jumprelu_checkpoints_hold_logarithms(tmp_path: Path) -> None:
    folder = write_saelens(tmp_path)
    reference, tensors = harness_sae.load(folder), load_file(folder / "sae_weights.safetensors")
    tensors["log_threshold"] = tensors.pop("threshold").log()
    save_file(tensors, folder / "sae_weights.safetensors")
    torch.testing.assert_close(harness_sae.load(folder).sae.threshold, reference.sae.threshold)


def test_a_saelens_folder_that_writes_another_site(tmp_path: Path) -> None:
    folder = write_saelens(tmp_path)
    cfg = json.loads((folder / "cfg.json").read_text())
    cfg["metadata"]["hook_name_out"] = "blocks.3.hook_mlp_out"
    (folder / "cfg.json").write_text(json.dumps(cfg))
    refused(folder, "blocks.3.hook_mlp_out", "allowed: blocks.3.hook_resid_post", NOT_A_DICTIONARY["transcoder"])


def test_saelens_metadata_are_filled_in(tmp_path: Path) -> None:
    folder = write_saelens(tmp_path)
    cfg = json.loads((folder / "cfg.json").read_text())
    cfg["metadata"] = {"sae_lens_version": "6.20.0"}
    (folder / "cfg.json").write_text(json.dumps(cfg))
    refused(folder, str(folder), "metadata.hook_name")
    dictionary = harness_sae.load(folder, layer=4, model_name="gpt2")
    assert (dictionary.hook_name, dictionary.model_name) == ("blocks.4.hook_resid_post", "gpt2")
