"""Loading a dictionary: from a folder or file in one of the published formats, or by a name of SAELens' registry."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch

from harness.errors import DictionaryError
from harness.files.progress import Progress
from harness.files.timing import CLOCK, OPENING
from harness.hub.source import commit_in
from harness.sae.checks import (
    Stated,
    check_fits,
    check_input,
    check_numbers,
    refuse_architecture,
    residual_layer,
    settle,
)
from harness.sae.dictionary import Dictionary
from harness.sae.ensemble_sae import ARCHITECTURE, ensemble_classes
from harness.sae.formats import FORMATS, open_published
from harness.sae.formats.contents import line
from harness.sae.formats.published import Published
from harness.sae.formats.saelens import CFG_FILE, WEIGHTS_FILE
from harness.sae.on_the_hub import fetch_folder, fetch_from, is_repository
from harness.sae.registry import as_published, check_registered, from_registry, neuronpedia_name, source_of


@CLOCK.part(OPENING)
def load(
    path_or_name: str | Path,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | str | None = None,
    layer: int | None = None,
    hook_name: str | None = None,
    model_name: str | None = None,
    revision: str | None = None,
    progress: Progress | None = None,
) -> Dictionary:
    """Load a dictionary.

    Args:
        path_or_name: what was published, as it lies on disk, or a name of SAELens' registry. A path that exists wins over a name.

            - a SAELens folder: ``cfg.json`` and ``sae_weights.safetensors`` (standard, topk, jumprelu, gated, abstopk, matching pursuit;
              BatchTopK and Matryoshka as SAELens exports them, or their training checkpoints where these hold the threshold);
            - Gemma Scope: ``params.npz`` or its folder (``layer_20/width_16k/average_l0_71``);
            - Gemma Scope 2: the folder of ``params.safetensors`` (``resid_post/layer_12_width_16k_l0_small``);
            - EleutherAI sparsify: the folder of a hookpoint (``layers.10``) with ``cfg.json`` and ``sae.safetensors``;
            - ``release/sae_id`` or ``release:id`` (``gemma-scope-2b-pt-res-canonical/layer_20/width_16k/canonical``);
            - ``owner/repo:folder`` or ``hub:owner/repo/folder``: a folder of the hub in one of these formats.
        device: where the weights go; CPU by default.
        dtype: of the arithmetic: float32 (default) or float64. Weights stored in fewer bits are widened, exactly.
        layer: zero-based layer whose output it reads, for a format that does not say (a file taken out of its folder).
        hook_name: the same as a hook's name, ``blocks.20.hook_resid_post`` or ``model.layers.20``.
        model_name: the model that it was made for, where the files do not say.
        revision: branch, tag or commit of what comes from the hub; None for the hub's default.
        progress: where the progress of downloads is shown.

    Raises:
        DictionaryError: there is no such path or name, the hub cannot give it, files are missing or damaged, the weights do not fit the
            configuration or are not finite, it is not an SAE of a residual site whose single features can be set (transcoder, crosscoder,
            temporal SAE, heads, …), it is a pickle, or ``layer``, ``hook_name`` or ``model_name`` contradict what the files say.
    """
    name = str(path_or_name)
    arithmetic, given = _arithmetic_dtype(dtype), Stated(layer, hook_name, model_name)
    where = str(torch.device(device)) if device is not None else "cpu"
    path, commit = Path(name).expanduser(), ""
    local = _exists(path, name)
    if not local and (folder := _hub_folder(path_or_name, revision, progress)) is not None:
        path, local, commit = folder, True, commit_in(folder) or ""
    if local:
        published = open_published(path)
        check_input(published.cfg, name)
        own_layer = settle(published.cfg["metadata"], name, given)
        if commit and not is_repository(name) and (known := neuronpedia_name(name)) is not None:
            published.cfg["metadata"].setdefault("neuronpedia_id", known)  # the files of a release do not say it, and SAELens' registry does
        sae = _build(published, name, where, arithmetic)
    elif _is_path(path_or_name):
        raise _nothing_at(path_or_name)
    else:
        sae, commit = from_registry(name, where, arithmetic, revision, progress)
        refuse_architecture(str(sae.cfg.architecture()), name)
        check_input(sae.cfg.to_dict(), name)
        own_layer = settle(sae.cfg.metadata, name, given)
    check_numbers(sae, name)
    return Dictionary(sae, own_layer, name, commit)


def _build(published: Published, name: str, device: str, dtype: torch.dtype) -> Any:
    """Return SAELens' SAE of a published dictionary. Its parameters are made without memory, and then are the tensors that were read."""
    import sae_lens  # noqa: F401  # fills the registry of architectures
    from sae_lens.registry import get_sae_class

    if published.cfg["architecture"] == ARCHITECTURE:
        ensemble_classes()  # makes SAELens know it
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


def _nothing_at(path: str | Path) -> DictionaryError:
    return DictionaryError(f"no dictionary at {path}", given=path, allowed=f"{FORMATS}, or a registry name release/sae_id")


def _is_path(path_or_name: str | Path) -> bool:
    return isinstance(path_or_name, Path) or path_or_name.startswith(("./", "../", "/", "~"))


def _hub_folder(path_or_name: str | Path, revision: str | None, progress: Progress | None) -> Path | None:
    """Return the folder in the hub's cache of a name whose files we read ourselves; None for what SAELens' loaders read, and for paths."""
    if _is_path(path_or_name):
        return None
    name = str(path_or_name)
    if is_repository(name):
        return fetch_folder(name, revision, progress)
    return fetch_from(*source_of(name, revision), progress) if as_published(name) else None


def _exists(path: Path, name: str) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError, RuntimeError) as error:  # a name that is too long, a NUL in it, links in a circle
        why = getattr(error, "strerror", None) or line(error)
        message = f"no dictionary can be at {name[:200]!r}: {why}"
        raise DictionaryError(message, given=name, allowed=f"{FORMATS}, or a registry name release/sae_id") from error


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
    if not _exists(path, str(path)):
        raise _nothing_at(path)
    published = open_published(path)
    check_input(published.cfg, str(path))
    settle(published.cfg["metadata"], str(path), Stated(layer, None, model_name))
    if width not in (None, published.cfg["d_sae"]):
        message = f"{path} has {published.cfg['d_sae']} features, but width {width} is stated"
        raise DictionaryError(message, given=width, allowed=published.cfg["d_sae"], hint="correct the task file")


def _arithmetic_dtype(dtype: torch.dtype | str | None) -> torch.dtype:
    resolved = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if resolved in (None, torch.float32) and (dtype is None or resolved is not None):
        return torch.float32
    if resolved is torch.float64:
        return torch.float64
    message, hint = f"dictionaries cannot compute in {dtype}", "leave dtype out: weights stored in fewer bits are widened on loading"
    raise DictionaryError(message, given=dtype, allowed=("float32", "float64"), hint=hint)


__all__ = ["CFG_FILE", "WEIGHTS_FILE", "check_fits", "check_local", "check_registered", "load", "refuse_architecture", "residual_layer"]
