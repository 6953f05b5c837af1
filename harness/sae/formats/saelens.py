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
from harness.sae.formats.saelens_settings import inference_settings, read_settings
from harness.sae.formats.tensors import Files, check_tensors, read, stored
from harness.sae.formats.weight_files import find_weights
from harness.types import Json

CFG_FILE = "cfg.json"
WEIGHTS_FILE = "sae_weights.safetensors"

_CHECKPOINTS = ("batchtopk", "matryoshka_batchtopk")
_OF_FEATURES: dict[str, tuple[str, ...]] = {
    "jumprelu": ("b_enc", "threshold"),
    "ensemble": ("b_enc", "threshold"),
    "gated": ("b_gate", "b_mag", "r_mag"),
    "matching_pursuit": (),
}
_SCALING = "scaling_factor"
"""A vector that SAELens' first versions wrote; all ones, unless it was fitted afterwards."""


def is_saelens(cfg: dict[str, Json]) -> bool:
    """Return whether a configuration is one of SAELens', however it was written."""
    return any(key in cfg for key in ("d_in", "d_sae", "architecture", "hook_name", "hook_point", "metadata", "cfg", "sae_cfg", "sae_config"))


def open_folder(folder: Path) -> Published:
    """Return a dictionary of SAELens.

    Raises:
        DictionaryError: the folder is incomplete or damaged, its configuration contradicts itself, the weights do not fit it, or it is of an
            architecture whose single features cannot be set.
    """
    path = folder / CFG_FILE
    raw = read_json(path)
    settings = read_settings(raw, path)
    # a checkpoint is told from a configuration without its weights by its threshold
    training = settings.architecture if settings.architecture in _CHECKPOINTS else ""
    cfg = inference_settings(settings, raw, path, "jumprelu" if training else settings.architecture)
    files = find_weights(folder, WEIGHTS_FILE, CFG_FILE)
    found = stored(files)
    if training and "topk_threshold" not in found:
        refuse_architecture(training, str(folder))
    if training:
        cfg["metadata"] = {"training_architecture": training} | cfg["metadata"]
    _check(files, found, cfg, bool(training))

    def weights(device: str, dtype: torch.dtype) -> Weights:
        state = read(files, {name: name for name in found}, device, dtype)
        if _SCALING in state and not bool((state.pop(_SCALING) == 1).all()):
            message, hint = f"{files[0]} holds a {_SCALING} that was fitted, and not folded in", "fold it into W_dec first"
            raise DictionaryError(message, given=_SCALING, allowed="all ones", hint=hint)
        if training:
            # checkpoints from before the option were not rescaled
            _to_inference(state, settings.rescale_acts_by_decoder_norm, files[0])
        if "log_threshold" in state:  # training checkpoints of SAELens' first JumpReLU
            state["threshold"] = state.pop("log_threshold").exp()
        return state

    return Published(cfg, weights)


def _check(files: Files, found: dict[str, Any], cfg: dict[str, Any], checkpoint: bool) -> None:
    d_in, d_sae, architecture = cfg["d_in"], cfg["d_sae"], str(cfg["architecture"])
    found = dict(found)
    if "log_threshold" in found:
        if "threshold" in found:
            message = f"{files[0]} holds threshold and log_threshold"
            raise DictionaryError(message, given="log_threshold", allowed="one of them", hint="remove the one that is wrong")
        found["threshold"] = found["log_threshold"]
    expected: dict[str, tuple[int, ...]] = {"W_dec": (d_sae, d_in), "b_dec": (d_in,)}
    if architecture != "matching_pursuit":
        expected["W_enc"] = (d_in, d_sae)
    expected |= dict.fromkeys(("b_enc",) if checkpoint else _OF_FEATURES.get(architecture, ("b_enc",)), (d_sae,))
    if checkpoint:
        expected["topk_threshold"] = ()
    check_tensors(files, found, expected, architecture, f"{CFG_FILE} asks for")


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
