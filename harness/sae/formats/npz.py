"""NumPy archives (``.npz``): their headers, and their arrays one at a time. An array of Python objects, which is a pickle, is refused unread."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import IO

import numpy as np
import torch
from torch import Tensor

from harness.errors import DictionaryError
from harness.sae.formats.contents import a_pickle, damaged

Header = tuple[tuple[int, ...], np.dtype[np.generic]]

_ENDING = ".npy"
_VERSIONS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_PACKED = 1 << 28
"""From so many bytes on, an archive that unpacks to more than :data:`_DENSEST` times its own size is refused."""
_DENSEST = 20
"""Trained weights hardly get smaller when they are packed (1.1 times in float32); zeros get 1,000 times smaller."""


def headers(path: Path) -> dict[str, Header]:
    """Shape and dtype of each array; nothing is unpacked.

    Raises:
        DictionaryError: the archive is damaged, holds Python objects, one name twice, arrays that are not as long as they say, or unpacks to
            gigabytes.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if any(name.endswith(".pkl") for name in names):
                raise a_pickle(path, "holds a pickle")
            arrays = [item for item in archive.infolist() if item.filename.endswith(_ENDING)]
            found = {item.filename.removesuffix(_ENDING): _header(archive, item, path) for item in arrays}
    except DictionaryError:
        raise
    except Exception as error:  # what zipfile and numpy raise for damaged bytes is not documented
        raise damaged(path, error) from error
    if len(found) < len(arrays):
        raise DictionaryError(f"{path} holds an array twice", given=path, hint="fetch it again")
    size, unpacked = path.stat().st_size, sum(item.file_size for item in arrays)
    if unpacked > max(_PACKED, _DENSEST * size):
        message = f"{path} has {size:,} bytes and would unpack to {unpacked:,}, which weights never do"
        raise DictionaryError(message, given=unpacked, allowed=f"up to {_DENSEST} times the size of the file", hint="fetch it again")
    return found


def is_read(dtype: np.dtype[np.generic]) -> bool:
    """Whether arrays of this dtype are read: float64, float32 and float16, of either byte order."""
    return dtype.kind == "f" and dtype.itemsize in (2, 4, 8)


def arrays(path: Path, names: Collection[str]) -> Iterator[tuple[str, Tensor]]:
    """The arrays of these names, one after the other, in the machine's byte order."""
    with zipfile.ZipFile(path) as archive:
        for name in names:
            with archive.open(name + _ENDING) as stream:
                array = np.lib.format.read_array(stream, allow_pickle=False)
            yield name, torch.from_numpy(array.astype(array.dtype.newbyteorder("="), copy=False))


def _header(archive: zipfile.ZipFile, item: zipfile.ZipInfo, path: Path) -> Header:
    with archive.open(item) as stream:
        shape, _, dtype = _VERSIONS[_version(stream, item.filename)](stream)
        begins = stream.tell()
    if dtype.hasobject:
        raise a_pickle(path, f"holds {item.filename.removesuffix(_ENDING)} as Python objects, a pickle")
    needed = begins + math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or needed != item.file_size:
        message = f"{item.filename} says that it is {list(shape)} of {dtype}, and has {item.file_size:,} bytes where that takes {needed:,}"
        raise ValueError(message)
    return tuple(shape), dtype


def _version(stream: IO[bytes], name: str) -> tuple[int, int]:
    major, minor = np.lib.format.read_magic(stream)
    if (major, minor) not in _VERSIONS:
        raise ValueError(f"{name} is of format {major}.{minor}")
    return major, minor
