"""Finds which of the published formats a path holds, and its reader; other paths are refused with what was found there."""

from __future__ import annotations

import os
import re
from pathlib import Path

from harness.errors import DictionaryError
from harness.sae.formats import gemma_scope, saelens, sparsify
from harness.sae.formats.contents import PICKLES, a_pickle, damaged
from harness.sae.formats.published import Published, read_json
from harness.sae.formats.weight_files import missing_weights, names_in

FORMATS = (
    f"a SAELens folder ({saelens.CFG_FILE} and {saelens.WEIGHTS_FILE}), Gemma Scope's {gemma_scope.NPZ_FILE} or "
    f"{gemma_scope.SAFETENSORS_FILE}, or a sparsify folder ({sparsify.CFG_FILE} and {sparsify.WEIGHTS_FILE})"
)
"""What can be loaded from disk, for messages."""

_WEIGHTS = (saelens.WEIGHTS_FILE, sparsify.WEIGHTS_FILE, gemma_scope.SAFETENSORS_FILE, gemma_scope.NPZ_FILE)
_OF_A_FOLDER = (*_WEIGHTS, saelens.CFG_FILE, gemma_scope.CONFIG_FILE)
_SEARCH_DEPTH, _SEARCH_FOLDERS, _SHOWN = 7, 5_000, 4


def open_published(path: Path) -> Published:
    """Return the dictionary at a path, its weights not read yet.

    Args:
        path: a folder of one of the formats, one of its files, or a Gemma Scope ``.npz`` of any name.

    Raises:
        DictionaryError: it is a pickle, holds several dictionaries, is incomplete, cannot be read, or is not a dictionary.
    """
    try:
        return _opened(path)
    except (OSError, RuntimeError) as error:  # folders that may not be entered, links in a circle
        raise damaged(path, error) from error


# ------------------------------------------------------------------------------------------------------------------------------- inside


def _opened(path: Path) -> Published:
    if path.is_file():
        if path.suffix.lower() in PICKLES:
            raise a_pickle(path)
        if path.suffix.lower() == ".npz":
            return gemma_scope.open_npz(path)
        # a file of weights under another name: what its folder lacks is said of that
        in_a_folder = path.suffix.lower() == ".safetensors" and (path.parent / saelens.CFG_FILE).exists()
        if path.name not in _OF_A_FOLDER and not in_a_folder:
            raise DictionaryError(f"{path} is a file of another format", given=path, allowed=f"{FORMATS}, or a registry name release/sae_id")
        path = path.parent
    if not path.is_dir():
        raise DictionaryError(f"{path} is a pipe or a device", given=path, allowed=FORMATS)
    names = names_in(path)
    # A hub cache keeps links in its folders, so a name may be there whose file is not; its reader reports that.
    if saelens.CFG_FILE in names:
        cfg = read_json(path / saelens.CFG_FILE)
        if sparsify.is_sparsify(cfg):
            return sparsify.open_folder(path)
        if saelens.is_saelens(cfg) or not names & {gemma_scope.SAFETENSORS_FILE, gemma_scope.NPZ_FILE}:
            return saelens.open_folder(path)
    if gemma_scope.NPZ_FILE in names and gemma_scope.SAFETENSORS_FILE not in names:
        return gemma_scope.open_npz(path / gemma_scope.NPZ_FILE)
    if gemma_scope.SAFETENSORS_FILE in names or f"{gemma_scope.SAFETENSORS_FILE}.index.json" in names:
        return gemma_scope.open_safetensors(path)
    raise _not_a_dictionary(path, names)


def _not_a_dictionary(path: Path, names: set[str]) -> DictionaryError:
    """Returns the error for a folder without a known configuration or weights."""
    alone = next((name for name in (saelens.WEIGHTS_FILE, sparsify.WEIGHTS_FILE) if name in names), None)
    if alone is not None:
        return _without_configuration(path, alone, names)
    if any(Path(name).match(gemma_scope.SPLIT_FILES) for name in names):
        gemma_scope.refuse_split(path)
    if gemma_scope.CONFIG_FILE in names and "hf_hook_point_in" in read_json(path / gemma_scope.CONFIG_FILE):
        return missing_weights(path, gemma_scope.SAFETENSORS_FILE, gemma_scope.CONFIG_FILE)
    pickles = sorted(name for name in names if Path(name).suffix.lower() in PICKLES)
    if pickles:
        return a_pickle(path, f"holds {pickles[0]}, a pickle")
    inside, more = _search(path)
    if inside:
        shown = ", ".join(map(str, inside[:_SHOWN]))
        count = f"{'at least ' if more else ''}{len(inside)} dictionaries" if len(inside) > 1 else "a dictionary in a folder of its own"
        hint = f"give the path of one, e.g. {shown}{', …' if len(inside) > _SHOWN else ''}"
        return DictionaryError(f"{path} holds {count}", given=path, hint=hint)
    weights = sorted(name for name in names if Path(name).suffix.lower() in (".safetensors", ".npz"))
    has = f"it holds {', '.join(weights[:_SHOWN])}, but" if weights else "it has"
    message = f"{path} is not a dictionary: {has} no {saelens.CFG_FILE} and no weights of a known name"
    return DictionaryError(message, given=path, allowed=FORMATS)


def _without_configuration(path: Path, weights: str, names: set[str]) -> DictionaryError:
    """Returns the error for a folder of weights whose configuration is not there, or has another name."""
    others = sorted(name for name in names if name.endswith(".json"))
    message = f"{path} holds {weights} but no {saelens.CFG_FILE}"
    if others:
        message = f"{message}, only {', '.join(others[:_SHOWN])}"
        hint = f"rename {others[0]} to {saelens.CFG_FILE} if it is this dictionary's configuration"
        return DictionaryError(message, given=path, hint=hint)
    return DictionaryError(message, given=path, hint=f"fetch {saelens.CFG_FILE} from where {weights} came from")


def _search(folder: Path) -> tuple[list[Path], bool]:
    """Return folders of dictionaries below a folder, relative to it, in order; and whether the search ended early."""
    found: list[Path] = []
    for count, (root, folders, names) in enumerate(os.walk(folder)):
        here = Path(root).relative_to(folder)
        if count >= _SEARCH_FOLDERS:
            return sorted(found, key=_by_number), True
        if {*_WEIGHTS, "ae.pt"} & set(names):
            found.append(here)
        hidden = {name for name in folders if name.startswith(".")}
        folders[:] = [] if len(here.parts) >= _SEARCH_DEPTH else sorted(set(folders) - hidden)
    return sorted(found, key=_by_number), False


def _by_number(path: Path) -> list[tuple[int, str]]:
    """Return an order in which layers.9 comes before layers.10."""
    return [(int(number or 0), text) for text, number in re.findall(r"(\D+)(\d*)", path.as_posix())]
