"""Flat files that grow together, a shard at a time, and outlive a kill at any moment.

A long pass appends what it found to several files. After a shard's bytes are on the disk, one line of the journal commits them: how long
each file is now, and the CRC-32 of what was added. Whoever opens the files again finds what is committed, checked, and nothing else.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from harness.errors import StoreError
from harness.files.atomic import disk_error, sync_folder
from harness.types import Json, canonical_json

JOURNAL = "journal.jsonl"
"""Stays beside the finished files: the same for a pass that was interrupted and one that was not."""

_BLOCK = 1 << 22
_MAKE_AGAIN = "remove the folder to have it made again"


class ShardedFiles:
    """Flat files in one folder that are written by one process at a time.

    Opening them cuts off what is not committed: bytes after the last line of the journal, and everything from the first shard on whose
    bytes are not those that were committed (files grow at their ends only, so what follows a damaged shard is made again with it).

    Args:
        folder: made when it is not there.
        names: the files.
        header: all that the content depends on; files under another header are begun anew.

    Attributes:
        notes: what :meth:`append` was given with each committed shard.

    Raises:
        StoreError: the disk is full or cannot be written.
    """

    def __init__(self, folder: Path, names: Sequence[str], header: Json) -> None:
        self.folder, self.names = Path(folder), tuple(names)
        self.notes: list[Json] = []
        # of each shard, the lengths of the files and of the journal after it; the first entry is that of no shard
        self._ends: list[dict[str, int]] = []
        with self._writing():
            self.folder.mkdir(parents=True, exist_ok=True)
            for name in (*self.names, JOURNAL):
                self.path(name).touch()
            self._open(_line({"files": list(self.names), "header": header}))
            sync_folder(self.folder)

    def path(self, name: str) -> Path:
        """Return where a file is."""
        return self.folder / name

    def size(self, name: str, shards: int | None = None) -> int:
        """Return committed bytes of a file, or its bytes after the first ``shards``."""
        return self._ends[-1 if shards is None else shards][name]

    def read(self, name: str, shard: int, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """Return what a committed shard added to a file, one-dimensional."""
        start, stop = self._ends[shard][name], self._ends[shard + 1][name]
        return np.fromfile(self.path(name), dtype=dtype, count=(stop - start) // np.dtype(dtype).itemsize, offset=start)

    def append(self, parts: Mapping[str, npt.NDArray[Any]], note: Json) -> None:
        """Add a shard: for each file what it gets. When this returns, the shard is on the disk and committed.

        Raises:
            StoreError: the disk is full or cannot be written; the committed shards are kept.
        """
        ends, sums = dict(self._ends[-1]), {}
        with self._writing():
            for name in self.names:
                data = np.ascontiguousarray(parts[name]).reshape(-1).view(np.uint8)
                ends[name] = self._put(name, data)
                sums[name] = zlib.crc32(data.data)
            line = _line({"ends": [ends[name] for name in self.names], "crc32": [sums[name] for name in self.names], "note": note})
            ends[JOURNAL] = self._put(JOURNAL, np.frombuffer(line, np.uint8))
        self._ends.append(ends)
        self.notes.append(note)

    def cut(self, shards: int) -> None:
        """Keep the first ``shards`` only."""
        del self._ends[shards + 1 :], self.notes[shards:]
        with self._writing():
            for name in (JOURNAL, *self.names):  # the journal first: it must never promise more than there is
                self._truncate(name)

    # -- inside

    def _open(self, header: bytes) -> None:
        first = dict.fromkeys(self.names, 0) | {JOURNAL: len(header)}
        with self.path(JOURNAL).open("rb") as journal:
            known = journal.readline() == header
            self._ends.append(first)
            if known:
                for line in journal:
                    record = _parsed(line)
                    if record is None or not self._intact(record):
                        break
                    ends = dict(zip(self.names, record["ends"], strict=True)) | {JOURNAL: self._ends[-1][JOURNAL] + len(line)}
                    self._ends.append(ends)
                    self.notes.append(record["note"])
        if not known:
            self._ends[0] = first | {JOURNAL: 0}
            self.cut(0)
            self._ends[0][JOURNAL] = self._put(JOURNAL, np.frombuffer(header, np.uint8))
        self.cut(len(self.notes))

    def _intact(self, record: dict[str, Any]) -> bool:
        for name, stop, checksum in zip(self.names, record["ends"], record["crc32"], strict=True):
            if _crc32(self.path(name), self._ends[-1][name], stop) != checksum:
                return False
        return True

    def _put(self, name: str, data: npt.NDArray[np.uint8]) -> int:
        """Write after the committed bytes, over whatever a failed attempt left there. Returns the file's length."""
        start = self._ends[-1][name]
        with self.path(name).open("r+b") as file:
            file.truncate(start)
            file.seek(start)
            file.write(data.data)
            file.flush()
            os.fsync(file.fileno())
        return start + data.size

    def _truncate(self, name: str) -> None:
        with self.path(name).open("r+b") as file:
            if file.seek(0, os.SEEK_END) != self.size(name):
                file.truncate(self.size(name))
                os.fsync(file.fileno())

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise disk_error(error, f"write to {self.folder}", "what was finished before is kept") from error


def remove_shards(folder: Path, names: Sequence[str]) -> None:
    """Remove files that grew together, and their journal: what they held is kept elsewhere by now.

    Raises:
        StoreError: the disk refuses.
    """
    try:
        for name in (JOURNAL, *names):  # the journal first: it must never promise more than there is
            (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise disk_error(error, f"remove parts in {folder}", "what was finished before is kept") from error


def replace_file(path: Path, data: bytes | Callable[[BinaryIO], object]) -> None:
    """Write a file whole or not at all; what a kill leaves beside it is overwritten by the next try, so that no junk stays in the folder.

    Args:
        path: where to.
        data: its content, or what writes it to an open file.

    Raises:
        StoreError: the disk is full or cannot be written.
    """
    new = path.with_name(path.name + ".new")
    try:
        with new.open("wb") as file:
            file.write(data) if isinstance(data, bytes) else data(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, path)
        sync_folder(path.parent)
    except OSError as error:
        raise disk_error(error, f"write {path}", "what was finished before is kept") from error


def map_file(path: Path, dtype: npt.DTypeLike, shape: tuple[int, ...], *, memory_map: bool = True) -> npt.NDArray[Any]:
    """Return a flat file as an array of ``shape``, read-only; memory-mapped, or read.

    Raises:
        StoreError: it is missing, or not of that size.
    """
    size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    try:
        found = path.stat().st_size
        if found != size:
            raise StoreError(f"{path} has {found} bytes", given=found, allowed=f"{size} bytes", hint=_MAKE_AGAIN)
        if not size:
            return np.empty(shape, dtype)
        # as a plain array: every slice of a np.memmap is one again, which costs more than the slice
        return np.asarray(np.memmap(path, dtype, "r", shape=shape)) if memory_map else np.fromfile(path, dtype).reshape(shape)
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror or error}", given=path, hint=_MAKE_AGAIN) from error


def _crc32(path: Path, start: int, stop: int) -> int:
    """Return the checksum of the bytes from ``start`` to ``stop``; −1, which no checksum equals, where the file is shorter."""
    checksum = 0
    with path.open("rb") as file:
        file.seek(start)
        while start < stop:
            block = file.read(min(_BLOCK, stop - start))
            if not block:
                return -1
            checksum = zlib.crc32(block, checksum)
            start += len(block)
    return checksum


def _line(record: Json) -> bytes:
    text = canonical_json(record).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _parsed(line: bytes) -> dict[str, Any] | None:
    """Return a line of the journal, or None where it is torn or damaged."""
    checksum, _, text = line.rstrip(b"\n").partition(b" ")
    if not line.endswith(b"\n") or checksum != b"%08x" % zlib.crc32(text):
        return None
    record: dict[str, Any] = json.loads(text)
    return record
