"""EleutherAI sparsify's dictionaries: ``layers.10/cfg.json`` and ``layers.10/sae.safetensors``.

TopK: f = the k largest of relu((x − b_dec) W_encᵀ + b_enc), x̂ = f W_dec + b_dec; the older ``signed`` ones take the k largest by magnitude
and keep their signs (SAELens' ``abstopk``). The files are read here, not by SAELens 6.54's own sparsify loader: that one transposes ``W_dec``,
which sparsify stores as [features, d_in], and takes ``normalize_decoder``, which is about training, to mean that b_dec is not subtracted
from the input, which sparsify always does (``sparsify/sparse_coder.py``).
"""

from __future__ import annotations

import re
from pathlib import Path

import torch

from harness.errors import DictionaryError
from harness.sae.checks import refuse_architecture
from harness.sae.formats.published import Published, Weights, configuration, positive_integer, read_json
from harness.sae.formats.tensors import check_tensors, incomplete, read, stored

CFG_FILE = "cfg.json"
WEIGHTS_FILE = "sae.safetensors"

_NAMES = {"encoder.weight": "W_enc", "encoder.bias": "b_enc", "W_dec": "W_dec", "b_dec": "b_dec"}
_INPUTS = {
    "skip_connection": "it adds a linear map of its input to its output",
    "embed_skip": "it adds a linear map of the embeddings to its output",
    "gram_lookup": "it subtracts a table of n-grams from its input, which is not in the file",
}
_SITES = {"mlp": "hook_mlp_out", "attention": "hook_attn_out", "attn": "hook_attn_out", "self_attn": "hook_attn_out"}


def is_sparsify(cfg: dict[str, object]) -> bool:
    """Whether a configuration is one of sparsify's, not of SAELens'."""
    return "d_sae" not in cfg and bool({"expansion_factor", "num_latents", "normalize_decoder"} & cfg.keys())


def open_folder(folder: Path) -> Published:
    """A dictionary of sparsify.

    Args:
        folder: of one hookpoint, named by it (``layers.10``); the run's ``config.json``, where it lies above, names the model.

    Raises:
        DictionaryError: a file is missing or damaged, its shapes do not fit its configuration, or it is not an SAE of a residual site.
    """
    path, weights_path = folder / CFG_FILE, folder / WEIGHTS_FILE
    if not path.is_file():
        raise incomplete(folder, WEIGHTS_FILE, CFG_FILE)
    cfg = read_json(path)
    if cfg.get("transcode"):
        refuse_architecture("transcoder", str(folder))
    refused = next((why for key, why in _INPUTS.items() if cfg.get(key)), "")
    if refused:
        message = f"{folder} cannot be used: {refused}, which no feature accounts for"
        raise DictionaryError(message, given=folder, hint="give an SAE without it")
    activation = str(cfg.get("activation") or "topk")
    if activation != "topk":
        message = f"{folder} is of sparsify's activation {activation!r}, which cannot be used"
        raise DictionaryError(message, given=activation, allowed=("topk",))
    d_in, k = positive_integer(cfg, "d_in", path), positive_integer(cfg, "k", path)
    # 0 latents means, in sparsify, as many as the factor gives
    factored = not cfg.get("num_latents")
    d_sae = d_in * positive_integer(cfg, "expansion_factor", path) if factored else positive_integer(cfg, "num_latents", path)
    if k > d_sae:
        raise DictionaryError(f"{path} gives k = {k}", given=k, allowed=f"at most {d_sae}, the number of its features")
    if not weights_path.is_file():
        raise incomplete(folder, CFG_FILE, WEIGHTS_FILE)
    shapes = {"encoder.weight": (d_sae, d_in), "encoder.bias": (d_sae,), "W_dec": (d_sae, d_in), "b_dec": (d_in,)}
    found = stored(weights_path)
    check_tensors(weights_path, found, shapes, "topk", f"{CFG_FILE} asks for")
    other = sorted(set(found) - set(shapes))
    if other:
        message = f"{weights_path} holds {', '.join(other[:5])}, which no TopK SAE of sparsify has"
        raise DictionaryError(message, given=tuple(other), allowed=tuple(shapes), hint="give a TopK SAE of sparsify")
    architecture = "abstopk" if cfg.get("signed") else "topk"
    settings = configuration(architecture, d_in, d_sae, bias=True, hook_name=_hook_name(folder), model_name=_model_name(folder))

    def weights(device: str, dtype: torch.dtype) -> Weights:
        state = read(weights_path, _NAMES, device, dtype)
        state["W_enc"] = state["W_enc"].T  # a view: the same numbers, not a second copy
        return state

    return Published(settings | {"k": k, "rescale_acts_by_decoder_norm": False}, weights)


def _hookpoint(folder: Path) -> Path:
    """The folder named by the hookpoint: the one above where a run kept several seeds."""
    folder = folder.absolute()
    return folder.parent if re.fullmatch(r"seed\d+", folder.name) else folder


def _hook_name(folder: Path) -> str:
    """The site in SAELens' words; empty where the folder was renamed."""
    name = _hookpoint(folder).name
    if "embed" in name:
        return "hook_embed"
    match = re.fullmatch(r"(?:[A-Za-z_]\w*\.)*(?:layers|h|blocks)[._](\d+)((?:\.\w+)*)", name)
    if match is None:
        return ""
    module = match[2].removeprefix(".")
    site = _SITES.get(module, f"hook_{module}") if module else "hook_resid_post"
    return f"blocks.{match[1]}.{site}"


def _model_name(folder: Path) -> str:
    run = _hookpoint(folder).parent / "config.json"
    return str(read_json(run).get("model") or "") if run.is_file() else ""
