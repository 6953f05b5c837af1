"""Packed files and archives, unpacked within a limit: a small file may hold gigabytes, and says so before or while it is unpacked.

What is packed with gzip, bzip2, xz, Zstandard or LZ4 is a stream of which nobody knows the length: it is unpacked part by part, up to a bound that
grows with the packed file. Archives (ZIP, NumPy's ``.npz``) state the sizes of their members, which their readers never exceed; those are
looked at first.
"""

from __future__ import annotations

import io
import lzma
import math
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, NoReturn, cast

from harness.files.contents import HEAD, recognise
from harness.files.inputs import LONGEST_LINE, Input, open_input

SMALLEST_BOUND = 1 << 30
"""Bytes that every packed file may have when it is unpacked."""
RATIO = 200
"""A packed file may hold so many times its own bytes; text packs 3 to 50 times."""

_BLOCK = 1 << 20
_XZ_MEMORY = 1 << 29
_FAULTS = (EOFError, OSError, ValueError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, RuntimeError)
"""What unpacking a damaged file raises: pyarrow's errors are OSErrors or ValueErrors, an unknown method or an encrypted member RuntimeErrors."""
_ODD_HEADER = (TypeError, KeyError, SyntaxError, MemoryError, OverflowError)
"""What else NumPy raises for a header that is none."""
_AGAIN = "fetch it again"


def largest_unpacked(size: int) -> int:
    """Return how many bytes a packed file of ``size`` bytes may hold."""
    return max(SMALLEST_BOUND, RATIO * size)


def open_unpacked(path: Path, kind: Input) -> BinaryIO:
    """Open a file, unpacked where it is packed as a stream (gzip, bzip2, xz, Zstandard, LZ4), whatever its name.

    The stream that is returned raises the error of ``kind`` where the file is damaged or cut off, and beyond :func:`largest_unpacked` bytes.
    """
    return unpacked(open_input(path, replace(kind, largest=None)), path, kind)


def unpacked(file: BinaryIO, path: Path | str, kind: Input) -> BinaryIO:
    """Return what an open file holds when it is unpacked, as :func:`open_unpacked`; ``path`` is its name, for messages."""
    file.seek(0)
    found = recognise(file.read(HEAD))
    file.seek(0)
    method = "" if found is None else found.packed
    if method in ("", "zip", "7z"):
        return file
    return cast(BinaryIO, io.BufferedReader(_Bounded(file, method, path, kind), _BLOCK))


def raw_lines(stream: BinaryIO) -> Iterator[bytes]:
    """Yield the lines of a stream with their ends, ``\\n``; one of more than :data:`harness.files.inputs.LONGEST_LINE` bytes in parts."""
    while line := stream.readline(LONGEST_LINE):
        yield line


class _Bounded(io.RawIOBase):
    """The unpacked bytes of a packed stream, as many as are allowed."""

    def __init__(self, file: BinaryIO, method: str, path: Path | str, kind: Input) -> None:
        self._file, self._path, self._kind = file, path, kind
        self._most = largest_unpacked(file.seek(0, io.SEEK_END))
        file.seek(0)
        self._read = _reading(file, method)
        self._done = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            block = self._read(min(len(buffer), _BLOCK))
        except _FAULTS as error:
            _damaged(self._path, self._kind, error)
        self._done += len(block)
        if self._done > self._most:
            _bomb(self._path, self._kind, self._most)
        buffer[: len(block)] = block
        return len(block)

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


def _reading(file: BinaryIO, method: str) -> Callable[[int], bytes]:
    """Return what reads some of the unpacked bytes, so that those before a damaged place are had."""
    if method == "gzip":
        import gzip

        return gzip.GzipFile(fileobj=file, mode="rb").read1
    if method == "bz2":
        import bz2

        return bz2.BZ2File(file).read1
    if method == "xz":
        return _Xz(file).read
    import pyarrow

    read: Callable[[int], bytes] = pyarrow.CompressedInputStream(pyarrow.PythonFile(file, mode="r"), method).read
    return read


class _Xz:
    """An xz stream, or several in a row; one that wants more than 512 MB of memory is refused, as the header alone says how much."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._inner = file, lzma.LZMADecompressor(memlimit=_XZ_MEMORY)
        self._begun = False

    def read(self, size: int) -> bytes:
        while True:
            if self._inner.eof:
                rest = self._inner.unused_data.lstrip(b"\0") or self._file.read(_BLOCK).lstrip(b"\0")
                if not rest:
                    return b""
                self._inner = lzma.LZMADecompressor(memlimit=_XZ_MEMORY)
            else:
                rest = self._file.read(_BLOCK) if self._inner.needs_input else b""
                if not rest and self._inner.needs_input:
                    raise EOFError("it ends before its end mark")
            if block := self._inner.decompress(rest, size):
                return block


# ------------------------------------------------------------------------------------------------------------------ archives


class ArrayHeader(NamedTuple):
    """An array of a NumPy archive before it is read: its shape, and its dtype as NumPy names it."""

    shape: tuple[int, ...]
    dtype: Any

    @property
    def size(self) -> int:
        """Return its bytes in memory."""
        return math.prod(self.shape) * int(self.dtype.itemsize)


def check_zip(path: Path, kind: Input) -> dict[str, int]:
    """Return the members of a ZIP archive with the bytes that each has when it is unpacked; nothing is unpacked.

    Raises:
        HarnessError: of ``kind.error``: not an archive, damaged, encrypted, or with more bytes than :func:`largest_unpacked` allows.
    """
    try:
        with open_input(path, replace(kind, largest=None)) as file, zipfile.ZipFile(file) as archive:
            most = largest_unpacked(file.seek(0, io.SEEK_END))
            infos = [info for info in archive.infolist() if not info.is_dir()]
    except _FAULTS as error:
        _damaged(path, kind, error)
    if any(info.flag_bits & 1 for info in infos):
        kind.refuse(path, "is an encrypted archive", "unpack it yourself, and give what is in it")
    if sum(info.file_size for info in infos) > most:
        _bomb(path, kind, most)
    return {info.filename: info.file_size for info in infos}


def npz_headers(path: Path, kind: Input) -> Mapping[str, ArrayHeader]:
    """Return shape and dtype of each array of a NumPy archive (``.npz``), by its name without ``.npy``; no array is read.

    An array must have as many bytes as its member: a header that states another shape is refused, so that nobody makes room for it.

    Raises:
        HarnessError: of ``kind.error``: as :func:`check_zip`, or a header that is no header or states another size than there is.
    """
    import numpy as np

    sizes = check_zip(path, kind)
    headers: dict[str, ArrayHeader] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for name, size in sizes.items():
                if not name.endswith(".npy"):
                    continue
                with archive.open(name) as stream:
                    version = np.lib.format.read_magic(stream)
                    if version not in ((1, 0), (2, 0)):
                        kind.refuse(path, f"holds {name} in format {version[0]}.{version[1]}", "have it written in format 1.0 or 2.0")
                    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                    shape, _, dtype = read(stream)
                    found = ArrayHeader(tuple(shape), dtype)
                    if not dtype.hasobject and (min(shape, default=0) < 0 or stream.tell() + found.size != size):
                        kind.refuse(path, f"is damaged: the header of {name} states {found.size:,} bytes, and there are others", _AGAIN)
                    headers[name.removesuffix(".npy")] = found
    except (*_FAULTS, *_ODD_HEADER) as error:
        _damaged(path, kind, error)
    return headers


def _damaged(path: Path | str, kind: Input, error: BaseException) -> NoReturn:
    detail = " ".join(str(error).split())[:200] or type(error).__name__
    raise kind.error(f"the {kind.what} {path} is damaged or cut off ({detail})", given=path, hint=_AGAIN) from error


def _bomb(path: Path | str, kind: Input, most: int) -> NoReturn:
    why = f"holds more than {most:,} bytes when it is unpacked, {RATIO} times its own size"
    kind.refuse(path, why, "unpack it yourself if that is right, and give what is in it")
