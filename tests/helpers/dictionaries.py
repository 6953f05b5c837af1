"""Small random dictionaries in every published format, their formulas, and what a refusal looks like."""

from __future__ import annotations

import json
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
from harness.sae.dictionary import Dictionary

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
