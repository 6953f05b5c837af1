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
from pydantic import Field

from harness.errors import DictionaryError
from harness.sae.checks import refuse_architecture, same_model
from harness.sae.formats.published import Name, Positive, Published, Settings, Weights, Whole, configuration, parse_settings, read_json
from harness.sae.formats.sites import same_site, stated_model, stated_site
from harness.sae.formats.tensors import check_tensors, read, stored
from harness.sae.formats.weight_files import find_weights
from harness.types import Json

CFG_FILE = "cfg.json"
WEIGHTS_FILE = "sae.safetensors"

_NAMES = {"encoder.weight": "W_enc", "encoder.bias": "b_enc", "W_dec": "W_dec", "b_dec": "b_dec"}
_INPUTS = {
    "skip_connection": "it adds a linear map of its input to its output",
    "embed_skip": "it adds a linear map of the embeddings to its output",
    "gram_lookup": "it subtracts a table of n-grams from its input, which is not in the file",
}


class SparsifySettings(Settings):
    """What a configuration of sparsify sets, as far as it matters here; 0 latents are as many as the factor gives."""

    d_in: Positive
    k: Positive
    expansion_factor: Whole | None = None
    num_latents: Whole = Field(0, ge=0)
    signed: bool = False
    activation: Name = "topk"
    transcode: bool = False
    skip_connection: bool = False
    embed_skip: bool = False
    gram_lookup: bool = False

    @property
    def d_sae(self) -> int:
        return self.num_latents or self.d_in * (self.expansion_factor or 0)


_SITES = {"mlp": "hook_mlp_out", "attention": "hook_attn_out", "attn": "hook_attn_out", "self_attn": "hook_attn_out"}


def is_sparsify(cfg: dict[str, object]) -> bool:
    """Return whether a configuration is one of sparsify's, not of SAELens'."""
    return "d_sae" not in cfg and bool({"expansion_factor", "num_latents", "normalize_decoder"} & cfg.keys())


def open_folder(folder: Path) -> Published:
    """Return a dictionary of sparsify.

    Args:
        folder: of one hookpoint, named by it (``layers.10``); the run's ``config.json``, where it lies above, names the model.

    Raises:
        DictionaryError: a file is missing or damaged, its shapes do not fit its configuration, or it is not an SAE of a residual site.
    """
    path = folder / CFG_FILE
    raw = read_json(path)
    cfg = parse_settings(SparsifySettings, raw, path)
    if cfg.transcode:
        refuse_architecture("transcoder", str(folder))
    refused = next((why for key, why in _INPUTS.items() if getattr(cfg, key)), "")
    if refused:
        message = f"{folder} cannot be used: {refused}, which no feature accounts for"
        raise DictionaryError(message, given=folder, hint="give an SAE without it")
    if cfg.activation != "topk":
        message = f"{folder} is of sparsify's activation {cfg.activation!r}, which cannot be used"
        raise DictionaryError(message, given=cfg.activation, allowed=("topk",))
    d_in, d_sae, k = cfg.d_in, cfg.d_sae, cfg.k
    if d_sae < 1:
        message = f"{path} gives num_latents = {raw.get('num_latents')!r} and expansion_factor = {raw.get('expansion_factor')!r}"
        raise DictionaryError(message, given=cfg.expansion_factor, allowed="one of them above 0", hint="correct it")
    if k > d_sae:
        raise DictionaryError(f"{path} gives k = {k}", given=k, allowed=f"at most {d_sae}, the number of its features")
    weights_path = find_weights(folder, WEIGHTS_FILE, CFG_FILE)
    shapes = {"encoder.weight": (d_sae, d_in), "encoder.bias": (d_sae,), "W_dec": (d_sae, d_in), "b_dec": (d_in,)}
    found = stored(weights_path)
    check_tensors(weights_path, found, shapes, "topk", f"{CFG_FILE} asks for")
    other = sorted(set(found) - set(shapes))
    if other:
        message = f"{weights_path[0]} holds {', '.join(other[:5])}, which no TopK SAE of sparsify has"
        raise DictionaryError(message, given=tuple(other), allowed=tuple(shapes), hint="give a TopK SAE of sparsify")
    architecture = "abstopk" if cfg.signed else "topk"
    hook_name, model_name = _site(folder, raw, path), _model_name(folder, raw, path)
    settings = configuration(architecture, d_in, d_sae, bias=True, hook_name=hook_name, model_name=model_name)

    def weights(device: str, dtype: torch.dtype) -> Weights:
        state = read(weights_path, _NAMES, device, dtype)
        state["W_enc"] = state["W_enc"].T  # a view: the same numbers, not a second copy
        return state

    return Published(settings | {"k": k, "rescale_acts_by_decoder_norm": False}, weights)


def _hookpoint(folder: Path) -> Path:
    """Return the folder named by the hookpoint: the one above where a run kept several seeds."""
    folder = folder.absolute()
    return folder.parent if re.fullmatch(r"seed\d+", folder.name) else folder


def _hook_name(folder: Path) -> str:
    """Return the site in SAELens' words; empty where the folder was renamed."""
    name = _hookpoint(folder).name
    if "embed" in name:
        return "hook_embed"
    match = re.fullmatch(r"(?:[A-Za-z_]\w*\.)*(?:layers|h|blocks)[._](\d+)((?:\.\w+)*)", name)
    if match is None:
        return ""
    module = match[2].removeprefix(".")
    site = _SITES.get(module, f"hook_{module}") if module else "hook_resid_post"
    return f"blocks.{match[1]}.{site}"


def _site(folder: Path, raw: dict[str, Json], path: Path) -> str:
    """Return the hook's name in SAELens' words, of the folder's name and of what a configuration says that was written by hand.

    Raises:
        DictionaryError: they contradict each other.
    """
    named, (stated, _) = _hook_name(folder), stated_site(raw, path)
    if not named or not stated:
        return named or stated
    if named != stated and not same_site(named, stated):
        message = f"{path} gives the site {stated!r}, but the folder's name {_hookpoint(folder).name!r} is {named}"
        raise DictionaryError(message, given=stated, allowed=named, hint="correct the file, or give the folder the name it was published with")
    return named


def _model_name(folder: Path, raw: dict[str, Json], path: Path) -> str:
    """Return the model that the run's configuration names, or one that was written by hand; raises DictionaryError where they differ."""
    run, stated = _hookpoint(folder).parent / "config.json", stated_model(raw, path)
    named = read_json(run).get("model") if run.is_file() else None
    if named is not None and not isinstance(named, str):
        raise DictionaryError(f"{run} gives model = {named!r:.80}", given=named, allowed="a text", hint="correct it")
    if named and stated and not same_model(named, stated):
        message = f"{path} names the model {stated}, and {run} names {named}"
        raise DictionaryError(message, given=stated, allowed=named, hint="correct the one that is wrong")
    return named or stated
