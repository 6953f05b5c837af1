"""NumPy archives (``.npz``): their headers, and their arrays one at a time. An array of Python objects, which is a pickle, is refused unread."""

from __future__ import annotations

import zipfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from harness.errors import DictionaryError
from harness.files.packed import ArrayHeader, npz_headers
from harness.sae.formats.contents import WEIGHTS, a_pickle, damaged

_ENDING = ".npy"


def headers(path: Path) -> Mapping[str, ArrayHeader]:
    """Return the shape and dtype of each array; nothing is unpacked.

    Raises:
        DictionaryError: the archive is damaged, holds Python objects or one name twice, states other sizes than there are, or unpacks to far more
            than its own size.
    """
    try:
        found = npz_headers(path, WEIGHTS)
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except DictionaryError:
        raise
    except Exception as error:  # what numpy raises for a header that is none is not documented
        raise damaged(path, error) from error
    pickled = [name for name, header in found.items() if header.dtype.hasobject]
    if any(name.endswith(".pkl") for name in names):
        raise a_pickle(path, "holds a pickle")
    if pickled:
        raise a_pickle(path, f"holds {pickled[0]} as Python objects, a pickle")
    if len(set(names)) < len(names):
        raise DictionaryError(f"{path} holds an array twice", given=path, hint="fetch it again")
    return found


def is_read(dtype: np.dtype[np.generic]) -> bool:
    """Return whether arrays of this dtype are read: float64, float32 and float16, of either byte order."""
    return dtype.kind == "f" and dtype.itemsize in (2, 4, 8)


def arrays(path: Path, names: Collection[str]) -> Iterator[tuple[str, Tensor]]:
    """Yield the arrays of these names, one after the other, in the machine's byte order."""
    with zipfile.ZipFile(path) as archive:
        for name in names:
            with archive.open(name + _ENDING) as stream:
                array = np.lib.format.read_array(stream, allow_pickle=False)
            yield name, torch.from_numpy(array.astype(array.dtype.newbyteorder("="), copy=False))
