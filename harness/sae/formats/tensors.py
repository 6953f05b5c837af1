"""Files of weights: what they hold, and their tensors one at a time. Nothing is ever unpickled.

Read are safetensors and NumPy archives (``.npz``). The header comes first, so that a file of gigabytes that does not fit is refused before
its weights are read; then each tensor is read, widened and moved by itself, so that there is one copy of the weights in memory at the end.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from harness.errors import DictionaryError

if TYPE_CHECKING:
    from typing import IO

PICKLES = (".pt", ".pth", ".pkl", ".pickle", ".bin", ".ckpt")
"""Endings of files that Python's pickle, or PyTorch's ``save``, writes."""

_MATCH = "give the weights that belong to this configuration"
_FLOATS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_UNREADABLE: tuple[type[Exception], ...] = (zipfile.BadZipFile, zlib.error, OSError, ValueError, EOFError, KeyError)
_PICKLE = b"\x80"
"""How every pickle since protocol 2 begins."""

_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


@dataclass(frozen=True)
class Stored:
    """A tensor as it lies in a file: its shape, and its dtype by the file's own name."""

    shape: tuple[int, ...]
    dtype: str
    is_float: bool


def stored(path: Path) -> dict[str, Stored]:
    """What a file holds, by name; read from its header alone.

    Raises:
        DictionaryError: the file is damaged, or holds Python objects.
    """
    return _in_archive(path) if path.suffix.lower() == ".npz" else _in_safetensors(path)


def check_tensors(path: Path, found: Mapping[str, Stored], expected: Mapping[str, tuple[int, ...]], architecture: str, asked: str) -> None:
    """Compare what a file holds with what it should hold.

    Args:
        path: the file, for messages.
        found: as :func:`stored` returns it.
        expected: shapes of the tensors that must be there; others may be there, too.
        architecture: what needs them, for messages.
        asked: what asks for these shapes, e.g. ``"cfg.json asks for"``.

    Raises:
        DictionaryError: a tensor that is missing, has another shape (transposed, where that can be seen) or does not hold floating-point numbers.
    """
    for name, shape in expected.items():
        if name not in found:
            has = ", ".join(sorted(found)) or "nothing"
            message = f"{path} has no tensor {name}, which architecture {architecture!r} needs; it has {has}"
            raise DictionaryError(message, given=tuple(sorted(found)), allowed=tuple(expected), hint=_MATCH)
        own = found[name].shape
        if own != shape:
            turned = " (transposed)" if len(shape) == 2 and own == shape[::-1] else ""
            message = f"{path}: {name} is {list(own)}{turned}"
            raise DictionaryError(message, given=own, allowed=f"{list(shape)}, which {asked}", hint=_MATCH)
        if not found[name].is_float:
            raise DictionaryError(
                f"{path}: {name} is stored as {found[name].dtype}",
                given=found[name].dtype,
                allowed=tuple(_FLOATS.values()),
                hint="have quantised weights turned back into floating-point numbers",
            )


def read(path: Path, names: Mapping[str, str], device: str, dtype: torch.dtype) -> dict[str, Tensor]:
    """Tensors of a file as ``dtype`` on ``device``, one after the other.

    Args:
        path: a file that :func:`check_tensors` has passed.
        names: of each tensor in the file, the name that it gets.

    Raises:
        DictionaryError: the file is damaged.
    """
    try:
        if path.suffix.lower() == ".npz":
            with zipfile.ZipFile(path) as archive:
                return {new: _array(archive, old).to(device=device, dtype=dtype) for old, new in names.items()}
        from safetensors import safe_open

        with safe_open(str(path), framework="pt", device=device) as tensors:
            return {new: tensors.get_tensor(old).to(dtype=dtype) for old, new in names.items()}
    except _unreadable() as error:
        raise damaged(path, error) from error


def damaged(path: Path, error: BaseException) -> DictionaryError:
    """The error for a file that cannot be read."""
    return DictionaryError(f"{path} cannot be read: {line(error)}", given=path, hint="fetch it again")


def incomplete(folder: Path, present: str, missing: str) -> DictionaryError:
    """The error for a folder that holds one file of a dictionary without the other."""
    message = f"{folder} holds {present} but no {missing}"
    return DictionaryError(message, given=folder, hint="the download is incomplete: fetch it again")


def a_pickle(path: Path, found: str = "") -> DictionaryError:
    """The error for a pickle; ``found`` names it where it is not the file itself."""
    return DictionaryError(
        f"{path} {found or 'is a pickle'}, which can run any code when read and is never opened",
        given=path,
        hint="have it converted to safetensors (a SAELens folder: cfg.json and sae_weights.safetensors), or use the release's name in "
        "SAELens' registry",
    )


def line(error: BaseException) -> str:
    """An error's text on one line of bounded length."""
    return " ".join(str(error).split())[:200] or type(error).__name__


# ------------------------------------------------------------------------------------------------------------------------------ formats


def _in_safetensors(path: Path) -> dict[str, Stored]:
    from safetensors import safe_open

    try:
        with safe_open(str(path), framework="pt") as tensors:
            slices = {name: tensors.get_slice(name) for name in tensors.keys()}  # noqa: SIM118
            found = {name: (tuple(part.get_shape()), str(part.get_dtype())) for name, part in slices.items()}
    except _unreadable() as error:
        raise damaged(path, error) from error
    return {name: Stored(shape, _FLOATS.get(dtype, dtype), dtype in _FLOATS) for name, (shape, dtype) in found.items()}


def _in_archive(path: Path) -> dict[str, Stored]:
    try:
        with path.open("rb") as stream:
            begins = stream.read(1)
        if begins == _PICKLE:
            raise a_pickle(path)
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if any(name.endswith(".pkl") for name in names):
                raise a_pickle(path, "holds a pickle")
            headers = {name.removesuffix(".npy"): _header(archive, name) for name in names if name.endswith(".npy")}
    except _unreadable(RuntimeError) as error:  # that one: encrypted, or compressed by a method that Python lacks
        raise damaged(path, error) from error
    pickled = [name for name, (_, dtype) in headers.items() if dtype.hasobject]
    if pickled:
        raise a_pickle(path, f"holds {pickled[0]} as Python objects, a pickle")
    return {name: Stored(shape, str(dtype), dtype.kind == "f" and dtype.itemsize in (2, 4, 8)) for name, (shape, dtype) in headers.items()}


def _header(archive: zipfile.ZipFile, name: str) -> tuple[tuple[int, ...], np.dtype[np.generic]]:
    with archive.open(name) as stream:
        shape, _, dtype = _HEADERS[_version(stream, name)](stream)
    return tuple(shape), dtype


def _version(stream: IO[bytes], name: str) -> tuple[int, int]:
    major, minor = np.lib.format.read_magic(stream)
    if (major, minor) not in _HEADERS:
        raise ValueError(f"{name} is of format {major}.{minor}")
    return major, minor


def _array(archive: zipfile.ZipFile, name: str) -> Tensor:
    with archive.open(f"{name}.npy") as stream:
        array = np.lib.format.read_array(stream, allow_pickle=False)
    return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), copy=False))


def _unreadable(*more: type[Exception]) -> tuple[type[Exception], ...]:
    """What reading a damaged file raises."""
    from safetensors import SafetensorError

    return (*_UNREADABLE, SafetensorError, *more)
