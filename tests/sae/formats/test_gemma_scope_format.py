"""Gemma Scope's files: against SAELens' own loaders, what their names and configurations say, odd archives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.dictionaries import (
    D_IN,
    D_SAE,
    GEMMA_3_CONFIG,
    agrees,
    refused,
    weights,
    write_gemma_3,
    write_npz,
)
from helpers.hub import Hub, using
from safetensors.torch import load_file, save_file

from harness import sae as harness_sae
from harness.sae.checks import NOT_A_DICTIONARY
from harness.sae.formats import open_published


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub on disk: SAELens' downloads come from this folder."""
    import sae_lens.loading.pretrained_sae_loaders as loaders

    def download(repo_id: str, filename: str, subfolder: str = "", force_download: bool = False) -> str:
        return str(tmp_path / repo_id.split("/")[-1] / subfolder / filename)

    def shapes(repo_id: str, filename: str) -> dict[str, list[int]]:
        return {name: list(tensor.shape) for name, tensor in load_file(download(repo_id, filename)).items()}

    monkeypatch.setattr(loaders, "hf_hub_download", download)
    monkeypatch.setattr(loaders, "get_safetensors_tensor_shapes", shapes)
    return tmp_path


@pytest.mark.parametrize(
    ("repo", "folder"),
    [
        ("google/gemma-scope-2b-pt-res", "layer_20/width_16k/average_l0_71"),
        ("google/gemma-scope-9b-it-res", "layer_31/width_131k/average_l0_109"),
    ],
)
def test_gemma_scope_as_saelens_reads_it(repo: str, folder: str, hub: Path) -> None:
    from sae_lens import JumpReLUSAEConfig
    from sae_lens.loading.pretrained_sae_loaders import gemma_2_sae_huggingface_loader, handle_config_defaulting

    own = write_npz(hub, f"{repo.split('/')[-1]}/{folder}")
    cfg, state, _ = gemma_2_sae_huggingface_loader(repo, folder, "cpu", False, None)
    published = open_published(own)
    for key, tensor in published.weights("cpu", torch.float32).items():
        torch.testing.assert_close(tensor, state.pop(key), rtol=0, atol=0)
    assert not state
    # SAELens takes the widths from the names, so those of a small file differ
    theirs = handle_config_defaulting(cfg) | {"d_in": D_IN, "d_sae": D_SAE}
    ours, reference = (JumpReLUSAEConfig.from_dict(config).to_dict() for config in (published.cfg, theirs))
    assert {ours["metadata"][key] for key in ("hook_name", "model_name")} == {
        reference["metadata"][key] for key in ("hook_name", "model_name")
    }
    assert {**ours, "metadata": None} == {**reference, "metadata": None}


def test_gemma_scope_2_and_the_registry_give_one_dictionary(tmp_path: Path) -> None:
    folder = write_gemma_3(tmp_path)
    local = harness_sae.load(folder)
    with Hub() as server:
        files = {f"resid_post/layer_12_width_16k_l0_small/{path.name}": path.read_bytes() for path in folder.iterdir()}
        server.add("google/gemma-scope-2-270m-it", files)
        with using(server, tmp_path / "cache"):
            registered = harness_sae.load("gemma-scope-2-270m-it-res/layer_12_width_16k_l0_small")
    assert local == registered, "one digest"
    assert (local.layer, local.hook_name, local.model_name) == (registered.layer, registered.hook_name, registered.model_name)


def test_a_file_out_of_its_folder_needs_a_layer(tmp_path: Path) -> None:
    path = write_npz(tmp_path, "downloads") / "params.npz"
    path.rename(tmp_path / "mine.npz")
    refused(tmp_path / "mine.npz", str(tmp_path / "mine.npz"), "layer=15")
    dictionary = harness_sae.load(tmp_path / "mine.npz", layer=20, model_name="gemma-2-2b")
    assert (dictionary.layer, dictionary.hook_name, dictionary.model_name) == (20, "blocks.20.hook_resid_post", "gemma-2-2b")
    by_hook = harness_sae.load(tmp_path / "mine.npz", hook_name="model.layers.20")
    assert (by_hook.layer, by_hook.hook_name, by_hook.model_name) == (20, "model.layers.20", "")
    refused(tmp_path / "mine.npz", "blocks.1.hook_mlp_out", "MLP", hook_name="blocks.1.hook_mlp_out")
    refused(tmp_path / "mine.npz", 3, "'model.layers.20'", "allowed: 20", hook_name="model.layers.20", layer=3)
    refused(tmp_path / "mine.npz", -1, "at least 0", layer=-1)


@pytest.mark.parametrize(
    ("folder", "changes", "given", "named"),
    [
        ("mlp_out/layer_12_w", {"hf_hook_point_in": "model.layers.12.post_feedforward_layernorm.output"}, "blocks.12.hook_mlp_out", "MLP"),
        ("attn_out/layer_12_w", {"hf_hook_point_in": "model.layers.12.self_attn.o_proj.input"}, "blocks.12.attn.hook_z", "heads"),
        (
            "transcoder/layer_12_w",
            {"type": "transcoder", "hf_hook_point_in": "model.layers.12.pre_feedforward_layernorm.output"},
            "transcoder",
            "jumprelu",
        ),
        ("x/layer_12_w", {"type": "", "hf_hook_point_out": "model.layers.13.output"}, "transcoder", NOT_A_DICTIONARY["transcoder"]),
        ("x/layer_12_w", {"affine_connection": True}, "transcoder", NOT_A_DICTIONARY["transcoder"]),
        (
            "crosscoder/layer_5_9_12_15_w",
            {"type": "crosscoder", "hf_hook_point_in": "model.layers.{5,9,12,15}.output"},
            "crosscoder",
            NOT_A_DICTIONARY["crosscoder"],
        ),
        (
            "clt/w",
            {"type": "clt", "hf_hook_point_in": "model.layers.{all}.pre_feedforward_layernorm.output"},
            "crosscoder",
            NOT_A_DICTIONARY["crosscoder"],
        ),
        ("x/layer_12_w", {"architecture": "topk"}, "topk", "'jump_relu'"),
        ("x/layer_12_w", {"hf_hook_point_in": "lm_head"}, "lm_head", "model.layers.N.output"),
        ("x/layer_3_w", {}, 3, "allowed: 12;"),
    ],
)
def test_what_gemma_scope_2s_configuration_says(folder: str, changes: dict[str, Any], given: str | int, named: str, tmp_path: Path) -> None:
    config = GEMMA_3_CONFIG | changes
    if "hf_hook_point_in" in changes and "hf_hook_point_out" not in changes:
        config["hf_hook_point_out"] = config["hf_hook_point_in"]
    refused(write_gemma_3(tmp_path, folder, config=config), given, named)


@pytest.mark.parametrize(
    ("folder", "given", "named"),
    [
        ("gemma-scope-2-4b-pt/transcoder_all/layer_5_width_16k_l0_big", "transcoder", NOT_A_DICTIONARY["transcoder"]),
        ("gemma-scope-2-4b-pt/crosscoder/layer_5_9_12_15_width_1m_l0_big", "crosscoder", NOT_A_DICTIONARY["crosscoder"]),
        ("gemma-scope-2-4b-pt/attn_out_all/layer_5_width_16k_l0_big", "blocks.5.attn.hook_z", "heads"),
        ("gemma-scope-2-4b-pt/mlp_out/layer_5_width_16k_l0_big", "blocks.5.hook_mlp_out", "MLP"),
    ],
)
def test_what_gemma_scope_2s_folders_say_where_it_has_no_configuration(folder: str, given: str, named: str, tmp_path: Path) -> None:
    refused(write_gemma_3(tmp_path, folder, config=None), given, named)


def test_gemma_scope_2_by_its_tensors(tmp_path: Path) -> None:
    folder = write_gemma_3(tmp_path)
    tensors = load_file(folder / "params.safetensors")
    save_file(tensors | {"affine_skip_connection": torch.zeros(D_IN, D_IN)}, folder / "params.safetensors")
    refused(folder, "transcoder", NOT_A_DICTIONARY["transcoder"])
    save_file(tensors | {"w_dec": torch.zeros(D_SAE, 4, D_IN)}, folder / "params.safetensors")
    refused(folder, "crosscoder", NOT_A_DICTIONARY["crosscoder"])
    split = tmp_path / "crosscoder"
    split.mkdir()
    save_file(tensors, split / "params_layer_0.safetensors")
    refused(split, split, NOT_A_DICTIONARY["crosscoder"])


def test_a_flipped_bit_in_an_archive(tmp_path: Path) -> None:
    folder = write_npz(tmp_path)
    data = bytearray((folder / "params.npz").read_bytes())
    data[len(data) // 3] ^= 0x40
    (folder / "params.npz").write_bytes(bytes(data))
    refused(folder, folder / "params.npz", "Bad CRC-32")


def test_strange_archives(tmp_path: Path) -> None:
    folder = write_npz(tmp_path, W_enc=weights()["W_enc"].astype(">f4"))
    agrees(harness_sae.load(folder, dtype="float64"), "jumprelu", weights())
    turned_round: dict[str, Any] = {name: np.asfortranarray(array) for name, array in weights().items()}
    np.savez_compressed(folder / "params.npz", **turned_round)
    agrees(harness_sae.load(folder, dtype="float64"), "jumprelu", weights())
    refused(write_npz(tmp_path, W_enc=weights()["W_enc"].astype(np.longdouble)), str(np.dtype(np.longdouble)), "W_enc")
    refused(write_npz(tmp_path, b_enc=np.float32(1)), (), "b_enc", "[]")
