"""Indexes on disk: arrays of numbers with what they were made from, memory-mapped when opened, made again when their files change.

An index lies in a folder of its own below ``corpora/`` of the cache. It is written beside that place and renamed, under a lock, so that it
is there whole or not at all; whoever opens it checks what it was made from, its version and its checksums.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import zlib
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import DataError
from harness.files.atomic import disk_error
from harness.files.cache_dir import CACHE_ENV, cache_root
from harness.files.folders import make_folder
from harness.types import Json, canonical_json, digest

FORMAT = 1
"""Version of the files of an index, and of what reading makes of a corpus; raise it when either changes, so that older ones are made again. It is
part of every corpus' digest: what is only added to an index is told by the digest of the reading code, which is part of its key."""

_HEAD = "index.json"
_ENDS = 1 << 16
_BLOCK = 1 << 16
_CODES = {"int64": "q", "int32": "i"}


@dataclass(frozen=True)
class Stored:
    """An opened index: the state of the files that it was made from, JSON about all of it, and read-only memory-mapped arrays by name."""

    state: Json
    about: Mapping[str, Json]
    arrays: Mapping[str, NDArray[Any]]


class Column:
    """An array of unknown length that is written to disk while it is made; a few thousand numbers are in memory.

    Args:
        folder: where to; the array's name is ``name``.
        name: name of the array.
        dtype: ``int64`` or ``int32``.
    """

    def __init__(self, folder: Path, name: str, dtype: str) -> None:
        self._path = folder / f"{name}.{dtype}"
        self._file = self._path.open("wb")
        self._dtype = dtype
        self._waiting = array(_CODES[dtype])

    def append(self, number: int) -> None:
        self._waiting.append(number)
        if len(self._waiting) >= _BLOCK:
            self._flush()

    def extend(self, numbers: Sequence[int]) -> None:
        self._waiting.extend(numbers)
        if len(self._waiting) >= _BLOCK:
            self._flush()

    def close(self, *, discard: bool = False) -> NDArray[Any]:
        """Return the finished array, memory-mapped; with ``discard`` its file is gone as soon as the array is."""
        self._flush()
        self._file.close()
        mapped = _mapped(self._path, self._dtype)
        if discard:
            self._path.unlink()
        return mapped

    def _flush(self) -> None:
        self._waiting.tofile(self._file)
        del self._waiting[:]


def new_array(folder: Path, name: str, dtype: str, size: int) -> NDArray[Any]:
    """Return an array of zeros in the folder of an index that is being made, to be filled in place."""
    path = folder / f"{name}.{dtype}"
    with path.open("wb") as file:
        file.truncate(size * np.dtype(dtype).itemsize)
    return np.empty(0, dtype) if size == 0 else np.memmap(path, dtype, mode="r+")


def file_state(path: Path) -> Json:
    """Return what shows that a file is still the same: size, times, inode, and SHA-256 of its first and last 64 KB; raises OSError."""
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        ends = hashlib.sha256(file.read(_ENDS))
        file.seek(max(0, status.st_size - _ENDS))
        ends.update(file.read(_ENDS))
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, ends.hexdigest()]


def place_of(key: Json) -> Path:
    """Return the folder of the index with this key."""
    return cache_root() / "corpora" / digest(key)


def peek(key: Json, state: Json) -> Stored | None:
    """Return the index of ``key`` if it exists, is intact, and was made from files in this state."""
    return _load(place_of(key), key, state)


def get(key: Json, state: Callable[[], Json], build: Callable[[Path], Json], what: str) -> Stored:
    """Return the index of ``key``; it is made if it does not exist, is damaged, or was made from files in another state.

    Args:
        key: JSON that names the index.
        state: the state of the files that it is made from, as it is now.
        build: writes arrays into the folder that it is given, and returns what else is to be kept.
        what: what is indexed, for messages, e.g. ``"beer/Posts.xml"``.

    Raises:
        DataError: the files changed while they were read.
        StoreError: the cache cannot be written to.
    """
    folder = place_of(key)
    doing = f"write the index of {what} to {folder.parent} (the environment variable {CACHE_ENV} names another cache folder)"
    before: Json = None

    def fill(new: Path) -> None:
        nonlocal before
        before = state()
        with _explained(doing):
            about = build(new)
            if state() != before:
                hint = "run this again when nothing writes to it any more"
                raise DataError(f"{what} was changed while it was read", given=what, hint=hint)
            _finish(new, key, before, about)

    found = make_folder(
        folder, lambda: _load(folder, key, state()), fill, what=f"the index of {what}", explain=lambda error: disk_error(error, doing)
    )
    made = found or _load(folder, key, before)
    if made is None:
        hint = "check the disk, then run this again"
        raise DataError(f"the index of {what} in {folder} cannot be read back", given=folder, hint=hint)
    return made


def _finish(folder: Path, key: Json, state: Json, about: Json) -> None:
    """Write the head: what the index is, and length and checksum of each array."""
    arrays = {}
    for path in sorted(folder.iterdir()):
        with path.open("r+b") as file:
            os.fsync(file.fileno())
        arrays[path.name] = [path.stat().st_size, _crc(path)]
    body = canonical_json({"format": FORMAT, "key": key, "state": state, "arrays": arrays, "about": about})
    with (folder / _HEAD).open("wb") as file:
        file.write(json.dumps({"sha256": hashlib.sha256(body.encode()).hexdigest(), "body": body}).encode())
        file.flush()
        os.fsync(file.fileno())


def _load(folder: Path, key: Json, state: Json) -> Stored | None:
    """Return the index in ``folder``; None where it is missing, damaged, older or outdated."""
    try:
        head = json.loads((folder / _HEAD).read_bytes())
        if hashlib.sha256(head["body"].encode()).hexdigest() != head["sha256"]:
            return None
        body = json.loads(head["body"])
        wanted = canonical_json([FORMAT, key, state])
        if canonical_json([body["format"], body["key"], body["state"]]) != wanted:
            return None
        arrays = {}
        for name, (size, crc) in body["arrays"].items():
            path = folder / name
            if path.stat().st_size != size or _crc(path) != crc:
                return None
            stem, _, dtype = name.rpartition(".")
            arrays[stem] = _mapped(path, dtype)
        return Stored(body["state"], body["about"], arrays)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _mapped(path: Path, dtype: str) -> NDArray[Any]:
    if path.stat().st_size == 0:
        return np.empty(0, dtype)  # nothing cannot be mapped
    return np.asarray(np.memmap(path, dtype, mode="r"))


def _crc(path: Path) -> int:
    checksum = 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            checksum = zlib.crc32(block, checksum)
    return checksum


@contextlib.contextmanager
def _explained(doing: str) -> Iterator[None]:
    try:
        yield
    except (OSError, NotImplementedError) as error:
        raise disk_error(error if isinstance(error, OSError) else OSError(str(error)), doing) from error
