"""Finding, checking and loading SAELens dictionaries: a folder on disk, or a name of SAELens' registry."""

from __future__ import annotations

import difflib
import json
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from harness.errors import DictionaryError
from harness.sae.dictionary import ARCHITECTURES, NORMALIZATIONS, Dictionary
from harness.types import Json

if TYPE_CHECKING:
    from harness.lm.model import SubjectModel

CFG_FILE = "cfg.json"
WEIGHTS_FILE = "sae_weights.safetensors"

_PICKLES = (".pt", ".pth", ".pkl", ".pickle", ".bin", ".ckpt")
_NOT_A_DICTIONARY = {
    "transcoder": "a transcoder reads one site and writes another, so it reconstructs no residual stream whose error could be kept",
    "crosscoder": "a crosscoder reads several layers at once",
    "temporal": "a temporal SAE's activations depend on the tokens before, so no feature can be set at one token alone",
    "batchtopk": "it is a training checkpoint: export it with SAELens' save_inference_model, as jumprelu",
}
_LOADERS = {"transcoder": _NOT_A_DICTIONARY["transcoder"], "temporal": _NOT_A_DICTIONARY["temporal"], "hook_z": "it reads attention heads"}
_POINTS = {
    "hook_resid_mid": "it lies between attention and MLP, inside a layer",
    "hook_mlp_out": "it reads an MLP's output",
    "hook_mlp_in": "it reads an MLP's input",
    "hook_attn_out": "it reads an attention block's output",
    "hook_z": "it reads attention heads",
    "hook_embed": "it reads the embeddings, before the first layer",
}


def load(path_or_name: str | Path, *, device: torch.device | str | None = None, dtype: torch.dtype | str | None = None) -> Dictionary:
    """Load a dictionary.

    Args:
        path_or_name: a SAELens folder (``cfg.json`` and ``sae_weights.safetensors``), or a name of SAELens' registry, ``release/sae_id`` or
            ``release:id`` (``gemma-scope-2b-pt-res-canonical/layer_20/width_16k/canonical``). A folder that exists wins over a name.
        device: where the weights go; CPU by default.
        dtype: of the arithmetic: float32 (default) or float64. Weights stored in fewer bits are widened, exactly.

    Raises:
        DictionaryError: there is no such folder or name, the folder is incomplete, the weights do not fit the configuration or are not
            finite, or it is no SAE of a residual site whose single features can be set (transcoder, crosscoder, temporal SAE, heads, …).
    """
    name = str(path_or_name)
    arithmetic = _arithmetic_dtype(dtype)
    where = str(torch.device(device)) if device is not None else "cpu"
    path = Path(name).expanduser()
    if path.exists():
        sae = _from_folder(path, where, arithmetic)
    elif isinstance(path_or_name, Path) or name.startswith(("./", "../", "/", "~")):
        raise DictionaryError(
            f"no dictionary at {name}: give a SAELens folder ({CFG_FILE} and {WEIGHTS_FILE}) or a registry name release/sae_id"
        )
    else:
        sae = _from_registry(name, where, arithmetic)
    layer = _checked(sae, name)
    return Dictionary(sae, layer, name)


def residual_layer(hook_name: str) -> int:
    """Zero-based layer whose output a hook name means.

    ``model.layers.15`` (any module path that ends in a numbered layer) and ``blocks.15.hook_resid_post`` are the output of layer 15,
    ``blocks.15.hook_resid_pre`` that of layer 14.

    Raises:
        DictionaryError: the hook is no layer's output, with the reason.
    """
    match = re.fullmatch(r"blocks\.(\d+)\.hook_resid_(pre|post)", hook_name)
    if match:
        layer = int(match[1]) - (match[2] == "pre")
        if layer < 0:
            raise DictionaryError(f"hook {hook_name!r} is the input of the first layer: only outputs of layers can be edited")
        return layer
    match = re.fullmatch(r"(?:[A-Za-z_]\w*\.)*[A-Za-z_]\w*\.(\d+)", hook_name)
    if match:
        return int(match[1])
    reason = next((why for point, why in _POINTS.items() if point in hook_name), "it names no layer's output")
    raise DictionaryError(
        f"hook {hook_name!r} is no residual site ({reason}); allowed: blocks.N.hook_resid_post, blocks.N.hook_resid_pre, model.layers.N"
    )


def check_fits(dictionary: Dictionary, model: SubjectModel, *, allow_other_model: bool = False) -> str:
    """Whether a dictionary belongs to a model; answers with a note for the run's entry.

    Model names are compared by their last part, without regard to case, and through TransformerLens' aliases (``gpt2-small`` is
    ``openai-community/gpt2``); ``-it`` and ``-instruct`` count.

    Raises:
        DictionaryError: another width, a layer that the model lacks, or another model's dictionary without ``allow_other_model``.
    """
    if dictionary.d_in != model.d_model:
        raise DictionaryError(
            f"{dictionary.source} reads width {dictionary.d_in}, but {model.name} has a residual stream of {model.d_model}"
        )
    n_layers = len(model.layers)
    if dictionary.layer >= n_layers:
        raise DictionaryError(
            f"{dictionary.source} reads the output of layer {dictionary.layer} ({dictionary.hook_name}), "
            f"but {model.name} has layers 0 to {n_layers - 1}"
        )
    kwargs = dictionary.cfg["metadata"].get("model_from_pretrained_kwargs") or {}
    centred = "; it was made from activations with their mean removed (center_writing_weights), which these are not"
    note = centred if kwargs.get("center_writing_weights") else ""
    if not dictionary.model_name:
        return f"the dictionary does not say which model it was made for; used on {model.name}{note}"
    if _same_model(dictionary.model_name, model.name):
        return f"made for {dictionary.model_name}{note}"
    if not allow_other_model:
        raise DictionaryError(
            f"{dictionary.source} was made for {dictionary.model_name}, not for {model.name}: "
            "let the task allow another model's dictionary, or use its own"
        )
    return f"made for {dictionary.model_name}, another model of the same width; used on {model.name} with the task's leave{note}"


# ------------------------------------------------------------------------------------------------------------------------------ sources


def _from_folder(path: Path, device: str, dtype: torch.dtype) -> Any:
    folder = _folder(path)
    raw = _read_cfg(folder)
    weights = folder / WEIGHTS_FILE
    if not weights.is_file():
        raise DictionaryError(f"{folder} holds {CFG_FILE} but no {WEIGHTS_FILE}: the download is incomplete, fetch it again")
    from sae_lens import SAE
    from sae_lens.loading.pretrained_sae_loaders import handle_config_defaulting

    refuse_architecture(str(raw.get("architecture", "standard")), str(folder))
    try:
        cfg = handle_config_defaulting(dict(raw))
    except (KeyError, TypeError, ValueError) as error:
        raise DictionaryError(f"{folder / CFG_FILE} is no SAELens configuration: {_line(error)}") from error
    refuse_architecture(str(cfg.get("architecture")), str(folder))
    _check_tensors(weights, cfg)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # advice on loading the model through TransformerLens, which we do not
            return SAE.load_from_disk(folder, device=device, dtype=str(dtype).removeprefix("torch."))
    except (AssertionError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise DictionaryError(f"SAELens cannot load {folder}: {_line(error)}") from error


def _folder(path: Path) -> Path:
    """The SAELens folder that ``path`` means, or the reason why it means none."""
    if path.is_file():
        if path.name in (CFG_FILE, WEIGHTS_FILE):
            return path.parent
        if path.suffix.lower() in _PICKLES:
            raise DictionaryError(
                f"{path} is a pickle, which can run any code when read, and is never opened: convert it to a SAELens folder "
                f"({CFG_FILE} and {WEIGHTS_FILE}) first"
            )
        raise DictionaryError(f"{path} is a file: give a SAELens folder ({CFG_FILE} and {WEIGHTS_FILE}) or a registry name release/sae_id")
    if not (path / CFG_FILE).is_file():
        pickles = sorted(entry.name for entry in path.iterdir() if entry.suffix.lower() in _PICKLES)
        found = f"holds {pickles[0]}, a pickle, which is never opened" if pickles else f"has no {CFG_FILE}"
        raise DictionaryError(f"{path} is no SAELens folder: it {found}; a dictionary is {CFG_FILE} and {WEIGHTS_FILE}")
    return path


def _from_registry(name: str, device: str, dtype: torch.dtype) -> Any:
    from sae_lens import SAE

    release, sae_id = _registry_key(name, _registry())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return SAE.from_pretrained_with_cfg_and_sparsity(release, sae_id, device=device, dtype=str(dtype).removeprefix("torch."))[0]
    except Exception as error:  # the hub client, requests and the loaders of a dozen formats each raise their own
        raise DictionaryError(f"cannot load {name} from SAELens' registry: {type(error).__name__}: {_line(error)}") from error


def _registry() -> dict[str, Mapping[str, str]]:
    """SAELens' registry: of each release, its SAEs and where they lie."""
    from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory

    return {release: entry.saes_map for release, entry in get_pretrained_saes_directory().items()}


def check_registered(name: str) -> None:
    """Check that SAELens' registry has a dictionary of this name (``release/sae_id`` or ``release:id``); nothing is downloaded.

    Raises:
        DictionaryError: no such release, or no such SAE in it (names the nearest); a release of transcoders, temporal SAEs or heads.
    """
    from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory

    release, _ = _registry_key(name, _registry())
    entry = get_pretrained_saes_directory().get(release)  # none for a hub repository, of which the registry says nothing
    why = next((reason for part, reason in _LOADERS.items() if entry is not None and part in (entry.conversion_func or "")), "")
    if why:
        raise DictionaryError(f"release {release} cannot be used: {why}")


def _registry_key(name: str, registry: Mapping[str, Mapping[str, str]]) -> tuple[str, str]:
    """(release, sae_id) of a name; a hub repository that is no release is allowed as ``owner/repo:folder``."""
    release, colon, sae_id = name.partition(":")
    if not colon:
        release, _, sae_id = name.partition("/")
    if release in registry:
        ids = registry[release]
        if sae_id in ids:
            return release, sae_id
        near = difflib.get_close_matches(sae_id, ids, n=3, cutoff=0.3) or list(ids)[:3]
        given = f"no SAE {sae_id!r}" if sae_id else "no SAE was named"
        raise DictionaryError(f"{given} in release {release} ({len(ids)} SAEs); near: {', '.join(f'{release}/{key}' for key in near)}")
    if colon and "/" in release:
        return release, sae_id
    near = difflib.get_close_matches(release, registry, n=3, cutoff=0.4)
    hint = f"near releases: {', '.join(near)}" if near else f"SAELens knows {len(registry)} releases"
    raise DictionaryError(
        f"no dictionary {name!r}: it is neither a folder nor a release of SAELens' registry ({hint}); give release/sae_id"
    )


# ------------------------------------------------------------------------------------------------------------------------------- checks


def refuse_architecture(architecture: str, where: str) -> None:
    """Raise for an architecture whose single features cannot be set, with the reason."""
    if architecture in ARCHITECTURES:
        return
    why = next((reason for part, reason in _NOT_A_DICTIONARY.items() if part in architecture), "")
    known = ", ".join(sorted(ARCHITECTURES))
    raise DictionaryError(f"{where} is of architecture {architecture!r}, which cannot be used: {why or f'the known ones are {known}'}")


def _checked(sae: Any, name: str) -> int:
    """The layer a loaded SAE reads; raises for what cannot be used."""
    cfg = sae.cfg
    refuse_architecture(str(cfg.architecture()), name)
    if cfg.normalize_activations not in NORMALIZATIONS:
        raise DictionaryError(
            f"{name} expects its input normalised by {cfg.normalize_activations!r}, with statistics that are not in the file: "
            "fold them into the weights first"
        )
    if cfg.reshape_activations != "none":
        raise DictionaryError(f"{name} reshapes its input ({cfg.reshape_activations}): it reads attention heads, not the residual stream")
    if not cfg.metadata.hook_name:
        raise DictionaryError(f"{name} does not say which site it reads: set metadata.hook_name in its {CFG_FILE}, e.g. model.layers.15")
    for key, tensor in sae.state_dict().items():
        if not bool(torch.isfinite(tensor).all()):
            raise DictionaryError(f"{name}: weights {key} hold NaN or infinity: the file is damaged or the training diverged")
    if getattr(cfg, "rescale_acts_by_decoder_norm", False) and bool((sae.W_dec.norm(dim=-1) == 0).any()):
        raise DictionaryError(f"{name} divides activations by its decoder's norms, and some are 0: the file is damaged")
    return residual_layer(str(cfg.metadata.hook_name))


def _check_tensors(weights: Path, cfg: Mapping[str, Json]) -> None:
    """Compare the shapes in the weights' header with the configuration; nothing is read but the header."""
    from safetensors import SafetensorError, safe_open

    try:
        d_in, d_sae = int(cfg["d_in"]), int(cfg["d_sae"])
    except (KeyError, TypeError, ValueError) as error:
        raise DictionaryError(f"{weights.parent / CFG_FILE} does not give d_in and d_sae") from error
    try:
        with safe_open(str(weights), framework="pt") as tensors:
            shapes = {key: tuple(tensors.get_slice(key).get_shape()) for key in tensors.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise DictionaryError(f"{weights} cannot be read: {_line(error)}; fetch it again") from error
    expected = {"W_dec": (d_sae, d_in), "b_dec": (d_in,)}
    architecture = cfg["architecture"]
    if architecture != "matching_pursuit":
        expected["W_enc"] = (d_in, d_sae)
    of_features = {"jumprelu": ("b_enc", "threshold"), "gated": ("b_gate", "b_mag", "r_mag"), "matching_pursuit": ()}
    expected |= dict.fromkeys(of_features.get(str(architecture), ("b_enc",)), (d_sae,))
    for key, shape in expected.items():
        if key not in shapes:
            raise DictionaryError(
                f"{weights} has no tensor {key}, which architecture {architecture!r} needs; it has {', '.join(sorted(shapes))}"
            )
        if shapes[key] != shape:
            turned = " (transposed)" if len(shape) == 2 and shapes[key] == shape[::-1] and d_in != d_sae else ""
            raise DictionaryError(f"{weights}: {key} is {list(shapes[key])}{turned}, but {CFG_FILE} asks for {list(shape)}")


def _read_cfg(folder: Path) -> dict[str, Json]:
    try:
        cfg = json.loads((folder / CFG_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DictionaryError(f"{folder / CFG_FILE} cannot be read: {_line(error)}") from error
    if not isinstance(cfg, dict):
        raise DictionaryError(f"{folder / CFG_FILE} is no SAELens configuration: a JSON object was expected")
    return cfg


def _arithmetic_dtype(dtype: torch.dtype | str | None) -> torch.dtype:
    resolved = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if resolved in (None, torch.float32) and (dtype is None or resolved is not None):
        return torch.float32
    if resolved is torch.float64:
        return torch.float64
    raise DictionaryError(f"dictionaries compute in float32 or float64, not {dtype}: weights stored in fewer bits are widened on loading")


def _same_model(one: str, other: str) -> bool:
    return _last_part(one) == _last_part(other) or _official(one) == _official(other)


def _last_part(name: str) -> str:
    return name.rstrip("/").split("/")[-1].lower().removeprefix("meta-")


def _official(name: str) -> str:
    """A model name for comparison, TransformerLens' aliases resolved."""
    from transformer_lens.loading_from_pretrained import get_official_model_name

    for candidate in (name, _last_part(name)):
        try:
            return _last_part(get_official_model_name(candidate))
        except ValueError:
            continue
    return _last_part(name)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]


__all__ = ["CFG_FILE", "WEIGHTS_FILE", "check_fits", "check_registered", "load", "refuse_architecture", "residual_layer"]
