"""Loading a dictionary: from a folder or file in one of the published formats, or by a name of SAELens' registry."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from harness.errors import DictionaryError
from harness.sae.checks import (
    NOT_A_DICTIONARY,
    Stated,
    check_fits,
    check_input,
    check_numbers,
    refuse_architecture,
    residual_layer,
    settle,
)
from harness.sae.dictionary import Dictionary
from harness.sae.formats import FORMATS, open_published
from harness.sae.formats.contents import line
from harness.sae.formats.published import Published
from harness.sae.formats.saelens import CFG_FILE, WEIGHTS_FILE

_LOADERS = {"transcoder": NOT_A_DICTIONARY["transcoder"], "temporal": NOT_A_DICTIONARY["temporal"], "hook_z": "it reads attention heads"}


def load(
    path_or_name: str | Path,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | str | None = None,
    layer: int | None = None,
    hook_name: str | None = None,
    model_name: str | None = None,
) -> Dictionary:
    """Load a dictionary.

    Args:
        path_or_name: what was published, as it lies on disk, or a name of SAELens' registry. A path that exists wins over a name.

            - a SAELens folder: ``cfg.json`` and ``sae_weights.safetensors`` (standard, topk, jumprelu, gated, abstopk, matching pursuit;
              BatchTopK and Matryoshka as SAELens exports them, or their training checkpoints where these hold the threshold);
            - Gemma Scope: ``params.npz`` or its folder (``layer_20/width_16k/average_l0_71``);
            - Gemma Scope 2: the folder of ``params.safetensors`` (``resid_post/layer_12_width_16k_l0_small``);
            - EleutherAI sparsify: the folder of a hookpoint (``layers.10``) with ``cfg.json`` and ``sae.safetensors``;
            - ``release/sae_id`` or ``release:id`` (``gemma-scope-2b-pt-res-canonical/layer_20/width_16k/canonical``).
        device: where the weights go; CPU by default.
        dtype: of the arithmetic: float32 (default) or float64. Weights stored in fewer bits are widened, exactly.
        layer: zero-based layer whose output it reads, for a format that does not say (a file taken out of its folder).
        hook_name: the same as a hook's name, ``blocks.20.hook_resid_post`` or ``model.layers.20``.
        model_name: the model that it was made for, where the files do not say.

    Raises:
        DictionaryError: there is no such path or name, files are missing or damaged, the weights do not fit the configuration or are not
            finite, it is not an SAE of a residual site whose single features can be set (transcoder, crosscoder, temporal SAE, heads, …), it
            is a pickle, or ``layer``, ``hook_name`` or ``model_name`` contradict what the files say.
    """
    name = str(path_or_name)
    arithmetic, given = _arithmetic_dtype(dtype), Stated(layer, hook_name, model_name)
    where = str(torch.device(device)) if device is not None else "cpu"
    path = Path(name).expanduser()
    if _exists(path, name):
        published = open_published(path)
        check_input(published.cfg, name)
        own_layer = settle(published.cfg["metadata"], name, given)
        sae = _build(published, name, where, arithmetic)
    elif isinstance(path_or_name, Path) or name.startswith(("./", "../", "/", "~")):
        raise DictionaryError(f"no dictionary at {name}", given=path_or_name, allowed=f"{FORMATS}, or a registry name release/sae_id")
    else:
        sae = _from_registry(name, where, arithmetic)
        refuse_architecture(str(sae.cfg.architecture()), name)
        check_input(sae.cfg.to_dict(), name)
        own_layer = settle(sae.cfg.metadata, name, given)
    check_numbers(sae, name)
    return Dictionary(sae, own_layer, name)


def _build(published: Published, name: str, device: str, dtype: torch.dtype) -> Any:
    """Return SAELens' SAE of a published dictionary. Its parameters are made without memory, and then are the tensors that were read."""
    import sae_lens  # noqa: F401  # fills the registry of architectures
    from sae_lens.registry import get_sae_class

    cfg = published.cfg | {"device": "meta", "dtype": str(dtype).removeprefix("torch.")}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # advice on loading the model through TransformerLens, which we do not
            sae_class, config_class = get_sae_class(str(cfg["architecture"]))
            sae: Any = sae_class(config_class.from_dict(cfg))
            sae.cfg.device = device
            state = published.weights(device, dtype)
            sae.process_state_dict_for_loading(state)
            sae.load_state_dict(state, assign=True)
            return sae.to(dtype=dtype, device=device)
    except DictionaryError:
        raise
    except Exception as error:  # whatever its classes of a dozen architectures raise
        hint = "check that its configuration and its weights belong together, or fetch it again"
        raise DictionaryError(f"SAELens cannot load {name}: {line(error)}", given=name, hint=hint) from error


def _exists(path: Path, name: str) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError, RuntimeError) as error:  # a name that is too long, a NUL in it, links in a circle
        why = getattr(error, "strerror", None) or line(error)
        message = f"no dictionary can be at {name[:200]!r}: {why}"
        raise DictionaryError(message, given=name, allowed=f"{FORMATS}, or a registry name release/sae_id") from error


def _from_registry(name: str, device: str, dtype: torch.dtype) -> Any:
    from sae_lens import SAE

    release, sae_id = _registry_key(name, _registry())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return SAE.from_pretrained_with_cfg_and_sparsity(release, sae_id, device=device, dtype=str(dtype).removeprefix("torch."))[0]
    except Exception as error:  # the hub client, requests and the loaders of a dozen formats each raise their own
        message = f"cannot load {name} from SAELens' registry: {type(error).__name__}: {line(error)}"
        raise DictionaryError(message, given=name, hint="check the network, or give a folder on this machine") from error


def _registry() -> dict[str, Mapping[str, str]]:
    """Return SAELens' registry: of each release, its SAEs and where they lie."""
    from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory

    return {release: entry.saes_map for release, entry in get_pretrained_saes_directory().items()}


def check_local(path: Path, *, layer: int | None = None, model_name: str | None = None, width: int | None = None) -> None:
    """Check a dictionary on disk by its configuration and the headers of its files; no weights are read.

    Args:
        path: as :func:`load` takes it.
        layer: zero-based layer whose output it is to be used at.
        model_name: the model that it is said to be made for.
        width: the number of features that it is said to have.

    Raises:
        DictionaryError: as :func:`load`, except for what only the weights' numbers show; another width.
    """
    published = open_published(path)
    check_input(published.cfg, str(path))
    settle(published.cfg["metadata"], str(path), Stated(layer, None, model_name))
    if width not in (None, published.cfg["d_sae"]):
        message = f"{path} has {published.cfg['d_sae']} features, but width {width} is stated"
        raise DictionaryError(message, given=width, allowed=published.cfg["d_sae"], hint="correct the task file")


def check_registered(name: str) -> None:
    """Check that SAELens' registry has a dictionary of this name (``release/sae_id`` or ``release:id``); nothing is downloaded.

    Raises:
        DictionaryError: no such release, or no such SAE in it (names the nearest); a release of transcoders, temporal SAEs or heads.
    """
    from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory

    release, _ = _registry_key(name, _registry())
    entry = get_pretrained_saes_directory().get(release)  # None for a hub repository, which the registry does not know
    why = next((reason for part, reason in _LOADERS.items() if entry is not None and part in (entry.conversion_func or "")), "")
    if why:
        raise DictionaryError(f"release {release} cannot be used: {why}", given=release, hint="give a release of residual-stream SAEs")


def _registry_key(name: str, registry: Mapping[str, Mapping[str, str]]) -> tuple[str, str]:
    """Returns (release, sae_id) of a name; a hub repository that is not a release is allowed as ``owner/repo:folder``."""
    release, colon, sae_id = name.partition(":")
    if not colon:
        release, _, sae_id = name.partition("/")
    if release in registry:
        ids = registry[release]
        if sae_id in ids:
            return release, sae_id
        near = difflib.get_close_matches(sae_id, ids, n=3, cutoff=0.3) or list(ids)[:3]
        message = f"release {release} has no SAE {sae_id!r}" if sae_id else f"no SAE of release {release} was named"
        hint = f"near: {', '.join(f'{release}/{key}' for key in near)}"
        raise DictionaryError(message, given=name, allowed=f"release/sae_id with one of its {len(ids)} SAEs", hint=hint)
    if colon and "/" in release:
        return release, sae_id
    near = difflib.get_close_matches(release, registry, n=3, cutoff=0.4)
    message = f"no dictionary {name!r}: it is neither a folder nor a release of SAELens' registry"
    hint = f"near releases: {', '.join(near)}" if near else ""
    raise DictionaryError(message, given=name, allowed=f"a folder, or release/sae_id of one of {len(registry)} releases", hint=hint)


def _arithmetic_dtype(dtype: torch.dtype | str | None) -> torch.dtype:
    resolved = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if resolved in (None, torch.float32) and (dtype is None or resolved is not None):
        return torch.float32
    if resolved is torch.float64:
        return torch.float64
    message, hint = f"dictionaries cannot compute in {dtype}", "leave dtype out: weights stored in fewer bits are widened on loading"
    raise DictionaryError(message, given=dtype, allowed=("float32", "float64"), hint=hint)


__all__ = ["CFG_FILE", "WEIGHTS_FILE", "check_fits", "check_local", "check_registered", "load", "refuse_architecture", "residual_layer"]
