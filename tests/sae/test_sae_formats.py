"""Published formats: each as it is laid out, against its formula and against SAELens' own loaders; and damaged copies of each."""

from __future__ import annotations

import io
import json
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from harness import sae as harness_sae
from harness.errors import DictionaryError
from harness.sae.checks import NOT_A_DICTIONARY
from harness.sae.dictionary import Dictionary
from harness.sae.formats import open_published
from harness.sae.formats.tensors import stored
from harness.sae.identity import identity

D_IN, D_SAE, K = 12, 40, 7
GEMMA = "gemma-scope-9b-it-res/layer_20/width_16k/average_l0_47"
GEMMA_3 = "gemma-scope-2-270m-it/resid_post/layer_12_width_16k_l0_small"
GEMMA_3_CONFIG = {
    "hf_hook_point_in": "model.layers.12.output",
    "hf_hook_point_out": "model.layers.12.output",
    "width": D_SAE,
    "model_name": "google/gemma-3-270m-it",
    "architecture": "jump_relu",
    "l0": 20,
    "affine_connection": False,
    "type": "sae",
}
SPARSIFY = "sae-pythia-70m-32k/layers.10"
SPARSIFY_CFG = {"expansion_factor": 32, "normalize_decoder": True, "num_latents": D_SAE, "k": K, "signed": False, "d_in": D_IN}


def save_npz(path: Path, tensors: dict[str, Any]) -> None:
    np.savez(path, **tensors)


def weights(seed: int = 0) -> dict[str, np.ndarray[Any, np.dtype[np.float32]]]:
    """Random weights [d_in, d_sae] under SAELens' names."""
    random = np.random.default_rng(seed)
    shapes = {"W_enc": (D_IN, D_SAE), "W_dec": (D_SAE, D_IN), "b_enc": (D_SAE,), "b_dec": (D_IN,), "threshold": (D_SAE,)}
    made = {name: random.normal(size=shape).astype(np.float32) * 0.5 for name, shape in shapes.items()}
    return made | {"threshold": np.abs(made["threshold"])}


def write_npz(root: Path, folder: str = GEMMA, dtype: str = "float32", **changes: Any) -> Path:
    path = root / folder
    path.mkdir(parents=True, exist_ok=True)
    tensors = {name: array.astype(dtype) for name, array in weights().items()} | changes
    save_npz(path / "params.npz", tensors)
    return path


def write_gemma_3(
    root: Path, folder: str = GEMMA_3, dtype: torch.dtype = torch.float32, config: dict[str, Any] | None = GEMMA_3_CONFIG
) -> Path:
    path = root / folder
    path.mkdir(parents=True, exist_ok=True)
    if config is not None:
        (path / "config.json").write_text(json.dumps(config))
    names = {name: name.replace("W_", "w_") for name in weights()}
    save_file({names[name]: torch.from_numpy(array).to(dtype) for name, array in weights().items()}, path / "params.safetensors")
    return path


def write_sparsify(root: Path, folder: str = SPARSIFY, dtype: torch.dtype = torch.float32, **changes: Any) -> Path:
    path = root / folder
    path.mkdir(parents=True, exist_ok=True)
    (path / "cfg.json").write_text(json.dumps(SPARSIFY_CFG | changes))
    (path.parent / "config.json").write_text(json.dumps({"model": "EleutherAI/pythia-70m", "dataset": "the pile"}))
    made = {name: torch.from_numpy(array).to(dtype) for name, array in weights().items()}
    tensors = {"encoder.weight": made["W_enc"].T, "encoder.bias": made["b_enc"], "W_dec": made["W_dec"], "b_dec": made["b_dec"]}
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path / "sae.safetensors")
    return path


def write_saelens(root: Path, folder: str = "saelens", dtype: torch.dtype = torch.float32) -> Path:
    path = root / folder
    path.mkdir(parents=True, exist_ok=True)
    metadata = {"sae_lens_version": "6.20.0", "hook_name": "blocks.3.hook_resid_post", "model_name": "gpt2-small"}
    cfg = {
        "architecture": "jumprelu",
        "d_in": D_IN,
        "d_sae": D_SAE,
        "dtype": "float32",
        "apply_b_dec_to_input": False,
        "metadata": metadata,
    }
    (path / "cfg.json").write_text(json.dumps(cfg))
    save_file({name: torch.from_numpy(array).to(dtype) for name, array in weights().items()}, path / "sae_weights.safetensors")
    return path


@dataclass(frozen=True)
class Format:
    """How to write a format, its file of weights, and what a dictionary of it says of itself."""

    write: Callable[..., Path]
    file: str
    says: tuple[str, int, str, str]


FORMATS = {
    "gemma scope": Format(write_npz, "params.npz", ("jumprelu", 20, "blocks.20.hook_resid_post", "gemma-2-9b-it")),
    "gemma scope 2": Format(write_gemma_3, "params.safetensors", ("jumprelu", 12, "blocks.12.hook_resid_post", "google/gemma-3-270m-it")),
    "sparsify": Format(write_sparsify, "sae.safetensors", ("topk", 10, "blocks.10.hook_resid_post", "EleutherAI/pythia-70m")),
    "saelens": Format(write_saelens, "sae_weights.safetensors", ("jumprelu", 3, "blocks.3.hook_resid_post", "gpt2-small")),
}
each_format = pytest.mark.parametrize("name", FORMATS)


def formula(
    architecture: str, x: np.ndarray[Any, Any], w: dict[str, np.ndarray[Any, Any]]
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Activations and reconstruction, as the formats' makers define them."""
    if architecture == "jumprelu":
        pre = x @ w["W_enc"] + w["b_enc"]
        f = np.where(pre > w["threshold"], np.maximum(pre, 0), 0)
    else:
        pre = (x - w["b_dec"]) @ w["W_enc"] + w["b_enc"]
        size = np.abs(pre) if architecture == "abstopk" else np.maximum(pre, 0)
        kept = size >= np.sort(size, axis=-1)[..., -K][..., None]
        f = np.where(kept, pre if architecture == "abstopk" else size, 0)
    return f, f @ w["W_dec"] + w["b_dec"]


def agrees(dictionary: Dictionary, architecture: str, w: dict[str, np.ndarray[Any, Any]], seed: int = 3) -> None:
    """Encoding, decoding and clamping are the formula's."""
    x = np.random.default_rng(seed).normal(size=(2, 5, D_IN))
    f, decoded = formula(architecture, x, {name: array.astype(np.float64) for name, array in w.items()})
    tensor = torch.from_numpy(x)
    np.testing.assert_allclose(dictionary.encode(tensor).numpy(), f, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(dictionary.decode(torch.from_numpy(f)).numpy(), decoded, rtol=1e-9, atol=1e-9)
    changed = f.copy()
    changed[..., [4, 11]] = [2.5, -1.0]
    w_dec, b_dec = w["W_dec"].astype(np.float64), w["b_dec"].astype(np.float64)
    np.testing.assert_allclose(
        dictionary.clamp(tensor, [4, 11], [2.5, -1.0]).numpy(), changed @ w_dec + b_dec + x - decoded, rtol=1e-9, atol=1e-9
    )


def refused(path: Path | str, given: Any, *parts: str, **stated: Any) -> None:
    """The dictionary at ``path`` is refused in one line that names ``parts``, with the offending value and advice as fields."""
    with pytest.raises(DictionaryError) as caught:
        harness_sae.load(path, **stated)
    assert "\n" not in str(caught.value), "an error is one line"
    assert caught.value.given == given
    assert caught.value.allowed is not None or caught.value.hint
    assert [part for part in parts if part not in str(caught.value)] == []


# ------------------------------------------------------------------------------------------------------------------------- what is read


@each_format
def test_a_format_is_its_formula(name: str, tmp_path: Path) -> None:
    form = FORMATS[name]
    folder = form.write(tmp_path)
    dictionary = harness_sae.load(folder, dtype="float64")
    assert (dictionary.architecture, dictionary.layer, dictionary.hook_name, dictionary.model_name) == form.says
    assert (dictionary.d_in, dictionary.d_sae) == (D_IN, D_SAE)
    agrees(dictionary, dictionary.architecture, weights())
    assert harness_sae.load(folder / form.file) == dictionary, "by its file"
    assert str(folder) == dictionary.source


def test_signed_sparsify_keeps_the_sign(tmp_path: Path) -> None:
    dictionary = harness_sae.load(write_sparsify(tmp_path, signed=True), dtype="float64")
    assert dictionary.architecture == "abstopk"
    agrees(dictionary, "abstopk", weights())
    assert (dictionary.encode(torch.randn(20, D_IN, generator=torch.Generator().manual_seed(0))) < 0).any()


def test_sparsify_by_its_expansion_factor(tmp_path: Path) -> None:
    folder = write_sparsify(tmp_path, num_latents=0, expansion_factor=3)
    tensors = load_file(folder / "sae.safetensors")
    save_file({n: t[:36].contiguous() if len(t) == D_SAE else t for n, t in tensors.items()}, folder / "sae.safetensors")
    assert harness_sae.load(folder).d_sae == 36


@each_format
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_weights_of_every_precision(name: str, dtype: str, tmp_path: Path) -> None:
    if name == "gemma scope" and dtype == "bfloat16":
        # NumPy has no bfloat16: such an array comes out as two bytes that mean nothing
        refused(write_npz(tmp_path, b_enc=weights()["b_enc"].astype("float16").view("V2")), "|V2", "b_enc", "float16, bfloat16")
        return
    own = dtype if name == "gemma scope" else getattr(torch, dtype)
    dictionary = harness_sae.load(FORMATS[name].write(tmp_path, dtype=own), dtype="float64")
    assert dictionary.dtype == torch.float64
    rounded = {key: torch.from_numpy(array).to(getattr(torch, dtype)).double().numpy() for key, array in weights().items()}
    agrees(dictionary, dictionary.architecture, rounded)
    single = harness_sae.load(dictionary.source)
    assert {tensor.dtype for tensor in single.sae.state_dict().values()} == {torch.float32}


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


# ------------------------------------------------------------------------------------------------------------ SAELens' own loaders agree


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


def test_gemma_scope_2_and_the_registry_give_one_dictionary(hub: Path) -> None:
    local = harness_sae.load(write_gemma_3(hub))
    registered = harness_sae.load("gemma-scope-2-270m-it-res/layer_12_width_16k_l0_small")
    assert local == registered, "one digest"
    assert (local.layer, local.hook_name, local.model_name) == (registered.layer, registered.hook_name, registered.model_name)


# ------------------------------------------------------------------------------------------------------------------- what names must say


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


@each_format
def test_what_is_given_may_not_contradict_the_files(name: str, tmp_path: Path) -> None:
    form = FORMATS[name]
    folder = form.write(tmp_path)
    _, layer, hook_name, model_name = form.says
    again = harness_sae.load(folder, layer=layer, hook_name=f"model.layers.{layer}", model_name=model_name.upper())
    assert (again.layer, again.hook_name, again.model_name) == (layer, hook_name, model_name), "the files' own words are kept"
    refused(folder, 2, f"allowed: {layer};", f"blocks.{layer}.hook_resid_post", layer=2)
    refused(folder, 2, f"allowed: {layer};", hook_name="blocks.2.hook_resid_post")
    refused(folder, "llama", f"allowed: {model_name};", model_name="llama")


def test_layers_and_models_of_folder_names(tmp_path: Path) -> None:
    for folder, layer, model in [
        ("models--google--gemma-scope-2b-pt-res/snapshots/0a1b/layer_5/width_16k/average_l0_71", 5, "gemma-2-2b"),
        ("gemma-scope-27b-pt-res/layer_22/width_131k/average_l0_82", 22, "gemma-2-27b"),
        ("layer_7", 7, ""),
    ]:
        dictionary = harness_sae.load(write_npz(tmp_path, folder))
        assert (dictionary.layer, dictionary.model_name) == (layer, model)
    for folder, layer, model in [
        ("models--google--gemma-scope-2-1b-pt/snapshots/0a1b/resid_post_all/layer_3_width_262k_l0_big", 3, "google/gemma-3-1b-pt"),
        ("gemma-scope-2-270m-pt/resid_post/layer_9_width_16k_l0_medium", 9, "google/gemma-3-270m"),
        ("other/layer_4_width_16k_l0_small", 4, ""),
    ]:
        dictionary = harness_sae.load(write_gemma_3(tmp_path, folder, config=None))
        assert (dictionary.layer, dictionary.model_name) == (layer, model)
    for folder, layer in [
        ("a/gpt_neox.layers.3", 3),
        ("a/transformer.h.11", 11),
        ("a/model.layers.2", 2),
        ("a/layers_6", 6),
        ("a/layers.8/seed1", 8),
    ]:
        assert harness_sae.load(write_sparsify(tmp_path, folder)).layer == layer
    assert harness_sae.load(write_sparsify(tmp_path, "a/renamed"), layer=1).layer == 1


@pytest.mark.parametrize(
    ("write", "folder", "given", "named"),
    [
        (write_npz, "gemma-scope-2b-pt-att/layer_5/width_16k/average_l0_71", "blocks.5.attn.hook_z", "heads"),
        (write_npz, "gemma-scope-2b-pt-mlp/layer_5/width_16k/average_l0_71", "blocks.5.hook_mlp_out", "MLP"),
        (write_npz, "gemma-scope-2b-pt-transcoders/layer_5/width_16k/average_l0_71", "transcoder", NOT_A_DICTIONARY["transcoder"]),
        (write_npz, "gemma-scope-2b-pt-res/embedding/width_4k/average_l0_6", "hook_embed", "embeddings"),
        (write_sparsify, "run/layers.0.mlp", "blocks.0.hook_mlp_out", "MLP"),
        (write_sparsify, "run/layers.0.attention", "blocks.0.hook_attn_out", "attention block"),
        (write_sparsify, "run/embed_tokens", "hook_embed", "embeddings"),
    ],
)
def test_sites_that_are_not_a_layers_output(write: Callable[..., Path], folder: str, given: str, named: str, tmp_path: Path) -> None:
    refused(write(tmp_path, folder), given, named)


def test_a_renamed_folder_names_no_site(tmp_path: Path) -> None:
    folder = write_sparsify(tmp_path, "run/renamed")
    refused(folder, str(folder), "layers.15")


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
def test_what_gemma_scope_2s_configuration_says(
    folder: str, changes: dict[str, Any], given: str | int, named: str, tmp_path: Path
) -> None:
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


@pytest.mark.parametrize(
    ("changes", "given", "named"),
    [
        ({"transcode": True}, "transcoder", NOT_A_DICTIONARY["transcoder"]),
        ({"skip_connection": True}, None, "linear map of its input"),
        ({"gram_lookup": True}, None, "n-grams"),
        ({"activation": "groupmax"}, "groupmax", "allowed: topk"),
        ({"k": 0}, 0, "k = 0"),
        ({"k": D_SAE + 1}, D_SAE + 1, f"at most {D_SAE},"),
        ({"d_in": "x"}, "x", "d_in = 'x'"),
    ],
)
def test_what_sparsifys_configuration_says(changes: dict[str, Any], given: str | int | None, named: str, tmp_path: Path) -> None:
    folder = write_sparsify(tmp_path, **changes)
    refused(folder, folder if given is None else given, named, str(folder))


def test_a_number_that_sparsifys_configuration_lacks(tmp_path: Path) -> None:
    refused(write_sparsify(tmp_path, d_in=None), None, "d_in = None", "a positive whole number")


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


# ------------------------------------------------------------------------------------------------------------------------------- damaged


def rewrite(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the tensors of a file of weights (as torch's) in place."""
    if path.suffix == ".npz":
        with np.load(path) as archive:
            tensors = {name: torch.from_numpy(archive[name]) for name in archive}
        change(tensors)
        save_npz(path, {name: tensor.numpy() for name, tensor in tensors.items()})
        return
    tensors = load_file(path)
    change(tensors)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)


def named(tensors: dict[str, Any], what: str) -> str:
    """A format's own name of W_enc or W_dec."""
    return next(name for name in tensors if name.lower() == what.lower() or (what == "W_enc" and name == "encoder.weight"))


def turned(what: str) -> Callable[[dict[str, Any]], None]:
    return lambda tensors: tensors.update({named(tensors, what): tensors[named(tensors, what)].T})


@each_format
def test_transposed_weights(name: str, tmp_path: Path) -> None:
    form = FORMATS[name]
    for what in ("W_enc", "W_dec"):
        folder = form.write(tmp_path)
        rewrite(folder / form.file, turned(what))
        found = tuple(stored(folder / form.file)[named(stored(folder / form.file), what)].shape)
        refused(folder, found, what if name != "sparsify" else "", "transposed", f"allowed: {list(found[::-1])}")


@each_format
def test_square_weights_are_called_nothing(name: str, tmp_path: Path) -> None:
    """Where d_in = d_sae no shape tells whether a matrix is transposed, so a square one loads as the format has it."""
    form = FORMATS[name]
    folder = form.write(tmp_path)

    def cut(tensors: dict[str, Any]) -> None:
        for key, tensor in tensors.items():
            tensors[key] = tensor[tuple(slice(0, D_IN) for _ in tensor.shape)]

    rewrite(folder / form.file, cut)
    if (folder / "cfg.json").is_file():
        cfg = json.loads((folder / "cfg.json").read_text())
        (folder / "cfg.json").write_text(json.dumps(cfg | ({"d_sae": D_IN} if "d_sae" in cfg else {"num_latents": D_IN})))
    assert harness_sae.load(folder).d_sae == D_IN


@each_format
def test_missing_and_strange_tensors(name: str, tmp_path: Path) -> None:
    form = FORMATS[name]
    folder = form.write(tmp_path)
    rewrite(folder / form.file, lambda t: t.pop(named(t, "W_dec")))
    left = tuple(sorted({"w_enc": "W_enc"}.get(tensor, tensor) for tensor in stored(folder / form.file)))  # by SAELens' names where they differ
    refused(folder, left, "W_dec", str(folder / form.file))
    folder = form.write(tmp_path)
    rewrite(folder / form.file, lambda t: t.update(extra=torch.ones(2)))
    refused(folder, str(folder) if name == "saelens" else ("extra",), "extra")
    folder = form.write(tmp_path)
    rewrite(folder / form.file, lambda t: t.clear())
    refused(folder, (), str(folder / form.file), "nothing")


@each_format
def test_weights_that_are_no_numbers(name: str, tmp_path: Path) -> None:
    form = FORMATS[name]
    for bad in (float("nan"), float("inf")):
        folder = form.write(tmp_path)

        def spoil(tensors: dict[str, Any], bad: float = bad) -> None:
            tensors[named(tensors, "W_dec")][3, 4] = bad

        rewrite(folder / form.file, spoil)
        refused(folder, "W_dec", str(folder), "NaN")
    folder = form.write(tmp_path)
    rewrite(folder / form.file, lambda t: t.update({named(t, "W_enc"): (t[named(t, "W_enc")] * 9).to(torch.int8)}))
    refused(folder, "int8" if form.file.endswith(".npz") else "I8", "float64, float32, float16, bfloat16")


@each_format
def test_truncated_files(name: str, tmp_path: Path) -> None:
    form = FORMATS[name]
    folder = form.write(tmp_path)
    data = (folder / form.file).read_bytes()
    for length in (0, 5, len(data) // 2, len(data) - 40):
        (folder / form.file).write_bytes(data[:length])
        refused(folder, folder / form.file)


def test_a_flipped_bit_in_an_archive(tmp_path: Path) -> None:
    folder = write_npz(tmp_path)
    data = bytearray((folder / "params.npz").read_bytes())
    data[len(data) // 3] ^= 0x40
    (folder / "params.npz").write_bytes(bytes(data))
    refused(folder, folder / "params.npz", "Bad CRC-32")


@each_format
def test_missing_files(name: str, tmp_path: Path) -> None:
    form = FORMATS[name]
    folder = form.write(tmp_path)
    (folder / form.file).unlink()
    others = [item for item in ("cfg.json", "config.json") if (folder / item).is_file()] or ["cfg.json"]
    refused(folder, folder, form.file, *others)
    folder = form.write(tmp_path, "again")
    if (folder / "cfg.json").is_file():
        (folder / "cfg.json").unlink()
        refused(folder, folder, "cfg.json", form.file)
    (tmp_path / "link").mkdir()
    (tmp_path / "link" / form.file).symlink_to(tmp_path / "gone")
    (tmp_path / "link" / "cfg.json").write_text(json.dumps(SPARSIFY_CFG if name == "sparsify" else {"d_in": D_IN, "d_sae": D_SAE}))
    gone = tmp_path / "link" if form.file in ("sae.safetensors", "sae_weights.safetensors") else tmp_path / "link" / form.file
    refused(tmp_path / "link", gone, form.file)


class Bomb:
    """Would write a file if it were ever unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    fired = tmp_path / "fired"
    folder = write_npz(tmp_path)
    with zipfile.ZipFile(folder / "params.npz", "a") as archive:
        buffer = io.BytesIO()
        np.lib.format.write_array(buffer, np.array([Bomb(fired)], dtype=object), allow_pickle=True)
        archive.writestr("b_extra.npy", buffer.getvalue())
    refused(folder, folder / "params.npz", "b_extra", "pickle")
    (folder / "params.npz").write_bytes(pickle.dumps(Bomb(fired)))
    refused(folder, folder / "params.npz", "pickle")
    torch.save({"a": 1}, folder / "params.npz")
    refused(folder, folder / "params.npz", "pickle")
    for name in ("ae.pt", "sae.pth", "pytorch_model.bin", "sae.pkl"):
        own = tmp_path / name.replace(".", "_")
        own.mkdir()
        (own / name).write_bytes(pickle.dumps(Bomb(fired)))
        (own / "config.json").write_text(json.dumps({"trainer": {"dict_class": "BatchTopKSAE"}}))
        refused(own, own, name, "pickle")
        refused(own / name, own / name, "pickle")
    assert not fired.exists()
    pickle.loads(pickle.dumps(Bomb(fired)))
    assert fired.exists(), "the bomb works"


def test_strange_archives(tmp_path: Path) -> None:
    folder = write_npz(tmp_path, W_enc=weights()["W_enc"].astype(">f4"))
    agrees(harness_sae.load(folder, dtype="float64"), "jumprelu", weights())
    turned_round: dict[str, Any] = {name: np.asfortranarray(array) for name, array in weights().items()}
    np.savez_compressed(folder / "params.npz", **turned_round)
    agrees(harness_sae.load(folder, dtype="float64"), "jumprelu", weights())
    refused(write_npz(tmp_path, W_enc=weights()["W_enc"].astype(np.longdouble)), str(np.dtype(np.longdouble)), "W_enc")
    refused(write_npz(tmp_path, b_enc=np.float32(1)), (), "b_enc", "[]")


# ---------------------------------------------------------------------------------------------------------------- releases, identities


def test_a_release_of_several_dictionaries(tmp_path: Path) -> None:
    for layer in (9, 10, 2):
        write_sparsify(tmp_path, f"run/layers.{layer}")
    refused(tmp_path / "run", tmp_path / "run", "3 dictionaries", "layers.2, layers.9, layers.10")
    for layer in range(6):
        write_npz(tmp_path, f"scope/layer_{layer}/width_16k/average_l0_{layer}1")
    refused(tmp_path / "scope", tmp_path / "scope", "6 dictionaries", "layer_0/width_16k/average_l0_01, ", ", …")
    refused(tmp_path / "scope" / "layer_3", tmp_path / "scope" / "layer_3", "width_16k/average_l0_31")
    (tmp_path / "scope" / ".cache").mkdir()
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", tmp_path / "empty", "cfg.json", "params.npz", "sae.safetensors")


def test_identity_and_who_a_file_belongs_to(tmp_path: Path) -> None:
    dictionary = harness_sae.load(write_npz(tmp_path))
    own = identity(dictionary)
    assert own == {
        "model_name": "gemma-2-9b-it",
        "hook_name": "blocks.20.hook_resid_post",
        "layer": 20,
        "d_in": D_IN,
        "d_sae": D_SAE,
        "architecture": "jumprelu",
        "digest": dictionary.digest,
        "source": dictionary.source,
    }
    assert json.loads(json.dumps(own)) == own
    same = [
        {},
        {"source": "elsewhere"},
        {"model_name": "google/Gemma-2-9B-it"},
        {"model_name": ""},
        {"hook_name": "model.layers.20"},
        {"d_sae": "40"},
    ]
    for change in same:
        assert harness_sae.check_same(own | change, dictionary, "labels.parquet") == ""
    others: list[tuple[dict[str, Any], str]] = [
        ({"d_sae": 41}, "41 features, not 40"),
        ({"d_in": "13"}, "a residual stream of width 13, not 12"),
        ({"layer": 21}, "layer 21, not 20"),
        ({"layer": None, "hook_name": "blocks.21.hook_resid_post"}, "hook blocks.21.hook_resid_post, not blocks.20.hook_resid_post"),
        ({"layer": None, "hook_name": "blocks.20.hook_mlp_out"}, "hook blocks.20.hook_mlp_out, not blocks.20.hook_resid_post"),
        ({"hook_name": "blocks.20.hook_mlp_out"}, "hook blocks.20.hook_mlp_out, not blocks.20.hook_resid_post"),
        ({"model_name": "gemma-2-9b"}, "model gemma-2-9b, not gemma-2-9b-it"),
    ]
    for change, difference in others:
        with pytest.raises(DictionaryError) as caught:
            harness_sae.check_same(own | change, dictionary, "labels.parquet")
        assert caught.value.given == (difference,)
        assert caught.value.hint
        assert "labels.parquet" in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(DictionaryError) as caught:
        harness_sae.check_same(own | {"d_sae": "many"}, dictionary, "labels.parquet")
    assert (caught.value.given, caught.value.allowed) == ("many", "a whole number")
    assert "d_sae" in str(caught.value)
    assert "made with other weights (abc)" in harness_sae.check_same(own | {"digest": "abc"}, dictionary, "labels.parquet")
    assert "made with a gated dictionary" in harness_sae.check_same(own | {"architecture": "gated"}, dictionary, "labels.parquet")
    assert "does not say which dictionary" in harness_sae.check_same({}, dictionary, "labels.parquet")


@each_format
def test_info_on_the_command_line(name: str, tmp_path: Path) -> None:
    from click.testing import CliRunner

    from harness.cli.sae import command

    form = FORMATS[name]
    done = CliRunner().invoke(command, ["info", str(form.write(tmp_path)), "--json"])
    assert done.exit_code == 0, done.output
    info = json.loads(done.stdout)
    assert (info["architecture"], info["layer"], info["hook_name"], info["model_name"]) == form.says


@each_format
def test_what_contradicts_the_headers_is_found_before_the_weights_are_read(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    form = FORMATS[name]
    folder = form.write(tmp_path)
    for reader in (
        "harness.sae.formats.gemma_scope.read",
        "harness.sae.formats.sparsify.read",
        "sae_lens.loading.pretrained_sae_loaders.sae_lens_disk_loader",
    ):
        monkeypatch.setattr(reader, lambda *_: pytest.fail("weights were read"))
    refused(folder, 2, f"allowed: {form.says[1]};", layer=2)
    rewrite(folder / form.file, turned("W_enc"))
    refused(folder, tuple(stored(folder / form.file)[named(stored(folder / form.file), "W_enc")].shape), "transposed")


MEMORY = """
import json, resource, sys
import harness.sae
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
harness.sae.load(sys.argv[1])
before = peak()
harness.sae.load(sys.argv[2])
print(json.dumps(peak() - before))
"""


def test_one_copy_of_the_weights(tmp_path: Path) -> None:
    small = write_npz(tmp_path)
    big, (d_in, d_sae) = tmp_path / "layer_1", (512, 24_576)
    big.mkdir()
    zeros = {"W_enc": (d_in, d_sae), "W_dec": (d_sae, d_in), "b_enc": (d_sae,), "b_dec": (d_in,), "threshold": (d_sae,)}
    save_npz(big / "params.npz", {name: np.ones(shape, np.float32) for name, shape in zeros.items()})
    size = (big / "params.npz").stat().st_size
    assert size > 100e6
    done = subprocess.run([sys.executable, "-c", MEMORY, str(small), str(big)], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) < 1.35 * size
