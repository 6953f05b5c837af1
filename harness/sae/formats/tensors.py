"""Files of weights: what they hold, and their tensors one at a time. Nothing is ever unpickled.

Read are safetensors, in one file or in several, and NumPy archives (``.npz``). The header comes first, so that a file of gigabytes that does not
fit is refused before its weights are read; then each tensor is read, widened and moved by itself, so that there is one copy of the weights in
memory at the end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from harness.errors import DictionaryError
from harness.sae.formats.contents import check_weights_file, damaged

Files = tuple[Path, ...]
"""The files of one dictionary: most often one."""

FLOATS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
"""The dtypes that are read, by safetensors' names."""

_MATCH = "give the weights that belong to this configuration"


@dataclass(frozen=True)
class Stored:
    """A tensor as it lies in a file: its shape, and its dtype by the file's own name."""

    shape: tuple[int, ...]
    dtype: str
    is_float: bool


def stored(files: Path | Files) -> dict[str, Stored]:
    """Return what files hold, by name; read from their headers alone.

    Raises:
        DictionaryError: a file is damaged, is something else, or holds Python objects; two files hold one tensor.
    """
    found: dict[str, Stored] = {}
    for path in _files(files):
        check_weights_file(path)
        own = _in_archive(path) if _is_archive(path) else _in_safetensors(path)
        twice = sorted(found.keys() & own.keys())
        if twice:
            raise DictionaryError(f"{path} holds {twice[0]}, and so does another part", given=path, hint="fetch the parts again")
        found |= own
    return found


def check_tensors(
    files: Path | Files, found: Mapping[str, Stored], expected: Mapping[str, tuple[int, ...]], architecture: str, asked: str
) -> None:
    """Compare what files hold with what they should hold.

    Args:
        files: for messages.
        found: as :func:`stored` returns it.
        expected: shapes of the tensors that must be there; others may be there, too.
        architecture: what needs them, for messages.
        asked: what asks for these shapes, e.g. ``"cfg.json asks for"``.

    Raises:
        DictionaryError: a tensor that is missing, has another shape (transposed, where that can be seen) or does not hold floating-point numbers.
    """
    path = _files(files)[0]
    for name, shape in expected.items():
        if name not in found:
            has = ", ".join(sorted(found)) or "nothing"
            message = f"{path} has no tensor {name}, which architecture {architecture!r} needs; it has {has:.300}"
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
                allowed=tuple(FLOATS.values()),
                hint="have quantised weights turned back into floating-point numbers",
            )


def read(files: Path | Files, names: Mapping[str, str], device: str, dtype: torch.dtype) -> dict[str, Tensor]:
    """Return tensors of files as ``dtype`` on ``device``, one after the other.

    Args:
        files: that :func:`check_tensors` has passed.
        names: of each tensor in the files, the name that it gets.

    Raises:
        DictionaryError: a file is damaged.
    """
    tensors: dict[str, Tensor] = {}
    for path in _files(files):
        try:
            tensors |= _read(path, names, device, dtype)
        except DictionaryError:
            raise
        except Exception as error:  # what the libraries raise for damaged bytes is not documented
            raise damaged(path, error) from error
    return tensors


# ------------------------------------------------------------------------------------------------------------------------------- inside


def _files(files: Path | Files) -> Files:
    return (files,) if isinstance(files, Path) else files


def _is_archive(path: Path) -> bool:
    return path.suffix.lower() == ".npz"


def _in_archive(path: Path) -> dict[str, Stored]:
    from harness.sae.formats import npz

    found = npz.headers(path)
    return {name: Stored(header.shape, str(header.dtype), npz.is_read(header.dtype)) for name, header in found.items()}


def _in_safetensors(path: Path) -> dict[str, Stored]:
    from safetensors import safe_open

    try:
        with safe_open(str(path), framework="pt") as tensors:
            slices = {name: tensors.get_slice(name) for name in tensors.keys()}  # noqa: SIM118
            found = {name: (tuple(part.get_shape()), str(part.get_dtype())) for name, part in slices.items()}
    except Exception as error:  # what the library raises for damaged bytes is not documented
        raise damaged(path, error) from error
    return {name: Stored(shape, FLOATS.get(dtype, dtype), dtype in FLOATS) for name, (shape, dtype) in found.items()}


def _read(path: Path, names: Mapping[str, str], device: str, dtype: torch.dtype) -> dict[str, Tensor]:
    if _is_archive(path):
        from harness.sae.formats import npz

        return {names[old]: tensor.to(device=device, dtype=dtype) for old, tensor in npz.arrays(path, names)}
    from safetensors import safe_open

    with safe_open(str(path), framework="pt", device=device) as tensors:
        return {names[old]: tensors.get_tensor(old).to(dtype=dtype) for old in tensors.keys() if old in names}  # noqa: SIM118
