"""Gemma Scope's dictionaries as they are published: ``params.npz`` (Gemma 2), ``params.safetensors`` with ``config.json`` (Gemma 3).

The first release's files hold weights and nothing else, so layer, site and model are read from the names of the folders, as SAELens reads them
(``gemma-scope-2b-pt-res/layer_20/width_16k/average_l0_71/params.npz``); the second's name them in ``config.json``, where they have one. Both
are JumpReLU: f = relu(x W_enc + b_enc) where that is above the threshold, x̂ = f W_dec + b_dec. Names are SAELens', so that a file
and the same dictionary from SAELens' registry have one digest.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from harness.errors import DictionaryError
from harness.sae.checks import NOT_A_DICTIONARY, refuse_architecture, same_model
from harness.sae.formats.published import Name, Positive, Published, Settings, Weights, configuration, parse_settings, read_json
from harness.sae.formats.tensors import Files, Stored, check_tensors, read, stored
from harness.sae.formats.weight_files import find_weights

NPZ_FILE = "params.npz"
SAFETENSORS_FILE = "params.safetensors"
CONFIG_FILE = "config.json"
SPLIT_FILES = "params_layer_*.safetensors"
"""The files of a crosscoder or a cross-layer transcoder, one per layer."""

_NAMES = {name.lower(): name for name in ("W_enc", "W_dec", "b_enc", "b_dec", "threshold")}
_FIRST = re.compile(r"gemma-scope-(\d+b)-(pt|it)(?:-(res|mlp|att|transcoders))?(?![a-z0-9])")
_SECOND = re.compile(r"gemma-scope-2-(\d+[mb])-(pt|it)(?![a-z0-9])")
_LAYERS = re.compile(r"(?<![a-z0-9])layer_([0-9]{1,6})((?:_[0-9]+)*)(?![0-9a-z])")
_SITES = {
    "resid_post": "blocks.{}.hook_resid_post",
    "attn_out": "blocks.{}.attn.hook_z",
    "mlp_out": "blocks.{}.hook_mlp_out",
    "res": "blocks.{}.hook_resid_post",
    "att": "blocks.{}.attn.hook_z",
    "mlp": "blocks.{}.hook_mlp_out",
}
_MODULES = {
    "": "blocks.{}.hook_resid_post",
    ".self_attn.o_proj.input": "blocks.{}.attn.hook_z",
    ".post_feedforward_layernorm": "blocks.{}.hook_mlp_out",
    ".pre_feedforward_layernorm": "blocks.{}.hook_mlp_in",
}


@dataclass(frozen=True)
class _Named:
    """What the names of a file's folders tell; empty or None where they do not."""

    layer: int | None
    hook_name: str
    model_name: str
    width: int | None = None


class GemmaScope2Settings(Settings):
    """What Gemma Scope 2's ``config.json`` says, as far as it matters here."""

    hf_hook_point_in: Name = ""
    hf_hook_point_out: Name = ""
    width: Positive | None = None
    model_name: Name = ""
    architecture: Name = ""
    affine_connection: bool = False
    type: Name = ""


def open_npz(path: Path) -> Published:
    """Return a dictionary of Gemma Scope's first release.

    Args:
        path: its ``.npz`` file.

    Raises:
        DictionaryError: it is damaged, holds other tensors or other shapes, or its folders' names show that it is not an SAE of a residual site.
    """
    text = path.absolute().as_posix()
    release = _last(_FIRST, text)
    size, kind, site = (release[1], release[2], release[3] or "res") if release else ("", "", "res")
    if site == "transcoders":
        refuse_architecture("transcoder", str(path))
    layer = _layer(path)
    hook_name = "hook_embed" if "embedding" in path.absolute().parts else "" if layer is None else _SITES[site].format(layer)
    model_name = f"gemma-2-{size}{'-it' if kind == 'it' else ''}" if release else ""
    return _published((path,), stored(path), _Named(layer, hook_name, model_name))


def open_safetensors(folder: Path) -> Published:
    """Return a dictionary of Gemma Scope 2.

    Args:
        folder: of its ``params.safetensors``; ``config.json`` is read where it lies beside.

    Raises:
        DictionaryError: as :func:`open_npz`; also where the configuration contradicts the names of the folders or the weights.
    """
    path, config = folder / SAFETENSORS_FILE, folder / CONFIG_FILE
    files = find_weights(folder, SAFETENSORS_FILE, CONFIG_FILE)
    found = stored(files)
    if "affine_skip_connection" in found:
        refuse_architecture("transcoder", str(path))
    if "w_dec" in found and len(found["w_dec"].shape) == 3:
        refuse_architecture("crosscoder", str(path))
    if not config.is_file():
        return _published(files, found, _from_folders(path))
    named = _from_config(parse_settings(GemmaScope2Settings, read_json(config), config), config)
    layer, release = _layer(path), _release_2(path)
    if None not in (layer, named.layer) and layer != named.layer:
        message = f"{config} gives layer {named.layer}, but the folder's name gives layer {layer}"
        raise DictionaryError(message, given=layer, allowed=named.layer, hint="fetch the folder again under the name it was published with")
    if named.model_name and release and not same_model(named.model_name, release):
        message = f"{config} names the model {named.model_name}, but the release's folder is of {release}"
        raise DictionaryError(message, given=release, allowed=named.model_name, hint="fetch the folder again under the name it was published with")
    return _published(files, found, named)


def refuse_split(folder: Path) -> None:
    """Raises DictionaryError for a folder of files, one per layer."""
    raise DictionaryError(
        f"{folder} holds {SPLIT_FILES}, a crosscoder or cross-layer transcoder, which cannot be used: {NOT_A_DICTIONARY['crosscoder']}",
        given=folder,
        hint="give an SAE of one layer",
    )


# ------------------------------------------------------------------------------------------------------------------------------- inside


def _published(files: Files, found: Mapping[str, Stored], named: _Named) -> Published:
    path, names = files[0], {name: _NAMES[name.lower()] for name in found if name.lower() in _NAMES}
    other = sorted(set(found) - set(names))
    if other:
        message = f"{path} holds {', '.join(other[:5])}, which no Gemma Scope SAE has"
        raise DictionaryError(message, given=tuple(other), allowed=tuple(_NAMES.values()), hint="give an SAE of Gemma Scope")
    twice = sorted(name for name in names if list(names.values()).count(names[name]) > 1)
    if twice:
        raise DictionaryError(f"{path} holds {' and '.join(twice)}", given=tuple(twice), allowed="one of them", hint="fetch it again")
    by_name = {new: found[old] for old, new in names.items()}
    # The biases give the widths, since a matrix alone may be transposed.
    d_in, d_sae = _width(path, by_name, "b_dec"), _width(path, by_name, "b_enc")
    expected = {"b_dec": (d_in,), "b_enc": (d_sae,), "W_enc": (d_in, d_sae), "W_dec": (d_sae, d_in), "threshold": (d_sae,)}
    check_tensors(files, by_name, expected, "jumprelu", "its biases ask for")
    if named.width not in (None, d_sae):
        message = f"{path} has {d_sae} features, but {CONFIG_FILE} gives width {named.width}"
        raise DictionaryError(message, given=named.width, allowed=d_sae, hint="fetch both files again")
    cfg = configuration("jumprelu", d_in, d_sae, bias=False, hook_name=named.hook_name, model_name=named.model_name)

    def weights(device: str, dtype: torch.dtype) -> Weights:
        return read(files, names, device, dtype)

    return Published(cfg, weights)


def _width(path: Path, found: Mapping[str, Stored], bias: str) -> int:
    """Return the length of a bias; 0 where there is none, which the check of all tensors reports."""
    shape = found[bias].shape if bias in found else (0,)
    if bias in found and (len(shape) != 1 or shape[0] < 1):
        raise DictionaryError(f"{path}: {bias} is {list(shape)}", given=shape, allowed="a vector", hint="fetch it again")
    return shape[0]


def _from_config(config: GemmaScope2Settings, path: Path) -> _Named:
    """Return the site and model of Gemma Scope 2's ``config.json``."""
    kind, architecture = config.type or "sae", config.architecture or "jump_relu"
    site, out = config.hf_hook_point_in, config.hf_hook_point_out
    several = "crosscoder" if "{" in site else ""
    if kind != "sae" or several:
        refuse_architecture(several or {"clt": "cross-layer transcoder"}.get(kind, kind), str(path.parent))
    if config.affine_connection or (out and out != site):
        refuse_architecture("transcoder", str(path.parent))
    if architecture != "jump_relu":
        message = f"{path} is of architecture {architecture!r}"
        raise DictionaryError(message, given=architecture, allowed="'jump_relu', as Gemma Scope 2's are", hint="give an SAE of Gemma Scope 2")
    match = re.fullmatch(r"(?:\w+\.)*layers\.([0-9]{1,6})(.*?)(?:\.output)?", site)
    if match is None or match[2] not in _MODULES:
        message = f"{path} gives hf_hook_point_in = {site!r}, which is not a known site"
        raise DictionaryError(message, given=site, allowed="model.layers.N.output")
    return _Named(int(match[1]), _MODULES[match[2]].format(int(match[1])), _model(config.model_name), config.width)


def _from_folders(path: Path) -> _Named:
    parts = path.absolute().parts
    for part in parts[-4:]:
        if re.match(r"(transcoder|crosscoder|clt)(_|$)", part):
            refuse_architecture("crosscoder" if part.startswith("crosscoder") else "transcoder", str(path))
    layer = _layer(path)
    site = next((site for part in reversed(parts) for site in ("resid_post", "attn_out", "mlp_out") if part.startswith(site)), "resid_post")
    hook_name = "" if layer is None else _SITES[site].format(layer)
    return _Named(layer, hook_name, _release_2(path))


def _release_2(path: Path) -> str:
    """Return the model of the release in whose folder a file of Gemma Scope 2 lies; empty where no name tells."""
    release = _last(_SECOND, path.absolute().as_posix())
    return _model(f"gemma-3-{release[1]}-{release[2]}") if release else ""


def _model(name: str) -> str:
    """Return a model as SAELens names it: with its owner, and the smallest pretrained one without the suffix that the hub's does not have."""
    if not name:
        return ""
    name = (name if name.startswith("google/") else f"google/{name}").replace("-v3", "-3")
    return name.replace("-pt", "") if "270m" in name else name


def _layer(path: Path) -> int | None:
    """Returns the layer in the innermost folder's name (or the file's), None where no name holds one."""
    for part in reversed(path.absolute().with_suffix("").parts):
        match = _last(_LAYERS, part)
        if match and match[2]:
            refuse_architecture("crosscoder", str(path))
        if match:
            return int(match[1])
    return None


def _last(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    return next(reversed(list(pattern.finditer(text))), None)
