"""Where the weights of a folder lie: in one file of the format's name, or in parts; where they do not, what is there instead.

Parts are named as the hub names them (``sae_weights-00001-of-00002.safetensors``). They are read by their index
(``sae_weights.safetensors.index.json``), which says which tensor is in which part; without it nobody can tell whether they belong together.
"""

from __future__ import annotations

import re
from pathlib import Path

from harness.errors import DictionaryError
from harness.sae.formats.contents import PICKLES, a_pickle
from harness.sae.formats.published import read_json
from harness.sae.formats.tensors import Files

_PART = re.compile(r"(.+)-(\d{1,6})-of-(\d{1,6})\.safetensors")
_INDEX = ".safetensors.index.json"
_UNFINISHED = (".incomplete", ".part", ".partial", ".crdownload", ".download", ".aria2", ".tmp")
_NUMBERS = (".safetensors", ".npz", ".npy", ".h5", ".hdf5", ".gguf", ".msgpack")
_SPARSITY = "sparsity.safetensors"
"""What SAELens writes beside the weights: how often each feature fired."""
_SHOWN = 4


def find_weights(folder: Path, name: str, beside: str) -> Files:
    """Return the files that hold a folder's weights, in order; not opened yet.

    Args:
        folder: of one dictionary.
        name: of the format's file of weights.
        beside: the configuration that is there, for messages.

    Raises:
        DictionaryError: there is no such file, or parts without their index, or not all of them; says what is there, and what to do.
    """
    path = folder / name
    if path.exists() or path.is_symlink():
        return (path,)
    names = names_in(folder)
    indices = sorted(other for other in names if other.endswith(_INDEX))
    own = name.removesuffix(".safetensors") + _INDEX
    if own in indices or len(indices) == 1:
        return _indexed(folder / (own if own in indices else indices[0]))
    raise missing_weights(folder, name, beside)


def missing_weights(folder: Path, name: str, beside: str) -> DictionaryError:
    """Return the error for a folder with a configuration and no weights of the format's name: what lies there in their place."""
    names = names_in(folder)
    parts = sorted(other for other in names if _PART.fullmatch(other))
    if parts:
        return _in_parts(folder, parts, name)
    unfinished = sorted(other for other in names if other.endswith(_UNFINISHED))
    if unfinished:
        message = f"{folder} holds {unfinished[0]}, a download that has not ended, but no {name}"
        return DictionaryError(message, given=folder, hint="let it end, or fetch the file again")
    pickles = sorted(other for other in names if Path(other).suffix.lower() in PICKLES)
    others = sorted(other for other in names if Path(other).suffix.lower() in _NUMBERS and other != _SPARSITY)
    if not others and pickles:
        return a_pickle(folder, f"holds {pickles[0]}, a pickle")
    if not others:
        message = f"{folder} holds {beside} but no weights"
        return DictionaryError(message, given=folder, hint=f"fetch {name} from where {beside} came from")
    shown = ", ".join(others[:_SHOWN]) + (", …" if len(others) > _SHOWN else "")
    message = f"{folder} holds {beside} and {shown}, but no {name}"
    renamed = next((other for other in others if other.endswith(".safetensors")), "")
    hint = f"rename {renamed} to {name} if it holds this dictionary's weights" if renamed else f"write its tensors into {name}"
    return DictionaryError(message, given=folder, hint=hint)


def names_in(folder: Path) -> set[str]:
    """Return names of what lies in a folder.

    Raises:
        DictionaryError: it cannot be read.
    """
    try:
        return {item.name for item in folder.iterdir()}
    except OSError as error:
        raise DictionaryError(f"{folder} cannot be read: {error.strerror or error}", given=folder, hint="check its permissions") from error


# ------------------------------------------------------------------------------------------------------------------------------- inside


def _in_parts(folder: Path, parts: list[str], name: str) -> DictionaryError:
    """Return the error for parts without an index."""
    stem, _, total = _PART.fullmatch(parts[0]).groups()  # type: ignore[union-attr]
    numbers = {int(match[2]) for part in parts if (match := _PART.fullmatch(part)) and match[1] == stem and match[3] == total}
    absent = sorted(set(range(1, min(int(total), 10_000) + 1)) - numbers)
    message = f"{folder} holds weights in {int(total)} parts ({parts[0]}, …), but no index of them"
    if absent:
        message = f"{message}, and part {absent[0]} of {int(total)} is not there"
        return DictionaryError(message, given=folder, hint=f"fetch the missing parts and {stem}{_INDEX}")
    hint = f"fetch {stem}{_INDEX}, too, or join the parts: safetensors.torch.save_file of all their tensors to {name}"
    return DictionaryError(message, given=folder, hint=hint)


def _indexed(index: Path) -> Files:
    """Return the parts that an index names."""
    where = read_json(index).get("weight_map")
    if not isinstance(where, dict) or not where or not all(isinstance(file, str) for file in where.values()):
        message = f"{index} is not an index of weights"
        raise DictionaryError(message, given=index, allowed='{"weight_map": {tensor: file}}', hint="fetch it again")
    files = sorted(set(where.values()))
    outside = next((file for file in files if Path(file).name != file or not file.endswith(".safetensors")), None)
    if outside is not None:
        raise DictionaryError(f"{index} names {outside!r}", given=outside, allowed="safetensors files of its own folder", hint="correct it")
    absent = [file for file in files if not (index.parent / file).exists()]
    if absent:
        message = f"{index} names {len(files)} files, and {', '.join(absent[:_SHOWN])} is not there"
        raise DictionaryError(message, given=index, hint="the download is incomplete: fetch what is missing")
    return tuple(index.parent / file for file in files)
