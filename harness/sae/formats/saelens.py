"""SAELens' own folders: ``cfg.json`` and ``sae_weights.safetensors``, of any version since its first.

BatchTopK and Matryoshka dictionaries are published for inference as ``jumprelu``, which needs nothing. Their training checkpoints hold a
threshold for all features and are made into the same: decoder norms folded in where the SAE rescales by them, as SAELens does on export.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from harness.errors import DictionaryError
from harness.sae.checks import refuse_architecture
from harness.sae.formats.published import Published, Weights, read_json
from harness.sae.formats.tensors import check_tensors, incomplete, line, stored
from harness.types import Json

CFG_FILE = "cfg.json"
WEIGHTS_FILE = "sae_weights.safetensors"

_SAVE = "give a folder that SAELens' save_model wrote"
_CHECKPOINTS = ("batchtopk", "matryoshka_batchtopk")
_OF_FEATURES: dict[str, tuple[str, ...]] = {
    "jumprelu": ("b_enc", "threshold"),
    "gated": ("b_gate", "b_mag", "r_mag"),
    "matching_pursuit": (),
}


def open_folder(folder: Path) -> Published:
    """A dictionary of SAELens.

    Raises:
        DictionaryError: the folder is incomplete or damaged, the weights do not fit the configuration, or it is of an architecture whose
            single features cannot be set.
    """
    path, weights_path = folder / CFG_FILE, folder / WEIGHTS_FILE
    raw = read_json(path)
    if not weights_path.is_file():
        raise incomplete(folder, CFG_FILE, WEIGHTS_FILE)
    architecture = str(raw.get("architecture", "standard"))
    checkpoint = architecture in _CHECKPOINTS and "topk_threshold" in stored(weights_path)
    if checkpoint:
        raw["architecture"] = "jumprelu"
        raw["metadata"] = {"training_architecture": architecture} | (raw.get("metadata") or {})
    else:
        refuse_architecture(architecture, str(folder))
    cfg = _defaulted(raw, path)
    refuse_architecture(str(cfg.get("architecture")), str(folder))
    _check(weights_path, cfg, checkpoint)
    rescaled = bool(raw.get("rescale_acts_by_decoder_norm"))  # checkpoints from before the option were not

    def weights(device: str, dtype: torch.dtype) -> Weights:
        from sae_lens.loading.pretrained_sae_loaders import sae_lens_disk_loader

        state: Weights = sae_lens_disk_loader(folder, device, {"dtype": str(dtype).removeprefix("torch.")})[1]
        if checkpoint:
            _to_inference(state, rescaled, weights_path)
        if "log_threshold" in state:  # training checkpoints of SAELens' first JumpReLU
            state["threshold"] = state.pop("log_threshold").exp()
        return state

    return Published(cfg, weights)


def _defaulted(raw: dict[str, Json], path: Path) -> dict[str, Any]:
    """The configuration as SAELens 6 would have written it."""
    from sae_lens.loading.pretrained_sae_loaders import handle_config_defaulting

    try:
        cfg: dict[str, Any] = handle_config_defaulting(dict(raw))
        cfg["metadata"] = dict(cfg.get("metadata") or {})
        cfg["d_in"], cfg["d_sae"] = int(cfg["d_in"]), int(cfg["d_sae"])
    except KeyError as error:
        raise DictionaryError(f"{path} is not a SAELens configuration: it does not give {line(error)}", given=path, hint=_SAVE) from error
    except (TypeError, ValueError) as error:
        raise DictionaryError(f"{path} is not a SAELens configuration: {line(error)}", given=path, hint=_SAVE) from error
    return cfg


def _check(weights: Path, cfg: dict[str, Any], checkpoint: bool) -> None:
    d_in, d_sae, architecture = cfg["d_in"], cfg["d_sae"], str(cfg["architecture"])
    found = stored(weights)
    if "log_threshold" in found and "threshold" not in found:
        found["threshold"] = found["log_threshold"]
    expected: dict[str, tuple[int, ...]] = {"W_dec": (d_sae, d_in), "b_dec": (d_in,)}
    if architecture != "matching_pursuit":
        expected["W_enc"] = (d_in, d_sae)
    expected |= dict.fromkeys(("b_enc",) if checkpoint else _OF_FEATURES.get(architecture, ("b_enc",)), (d_sae,))
    if checkpoint:
        expected["topk_threshold"] = ()
    check_tensors(weights, found, expected, architecture, f"{CFG_FILE} asks for")


def _to_inference(state: Weights, rescaled: bool, path: Path) -> None:
    """A BatchTopK checkpoint's weights as a JumpReLU SAE's, in place of each other."""
    threshold = float(state.pop("topk_threshold"))
    if not threshold > 0:
        message = f"{path} has the threshold {threshold:g}, so its training had not begun"
        raise DictionaryError(message, given=threshold, allowed="above 0", hint="use a later checkpoint")
    if rescaled:
        norms = state["W_dec"].norm(dim=-1)
        state["W_dec"] = state["W_dec"] / norms[:, None]
        state["W_enc"] = state["W_enc"] * norms
        state["b_enc"] = state["b_enc"] * norms
    state["threshold"] = torch.full_like(state["b_enc"], threshold)
