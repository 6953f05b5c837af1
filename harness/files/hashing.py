"""Digests of files and folders."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from harness.errors import DataError


def sha256_file(path: Path) -> str:
    """Return the hex SHA-256 of a file. Raises OSError."""
    state = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            state.update(block)
    return state.hexdigest()


def code_digest(files: Iterable[Path], root: Path) -> str:
    """Return the digest (16 hex digits) of source files by their names below ``root`` and their contents. Raises OSError."""
    sha = hashlib.sha256()
    for name, path in sorted((file.relative_to(root).as_posix(), file) for file in files):
        content = path.read_bytes()
        sha.update(f"{name}\x1f{len(content)}\x1f".encode() + content)
    return sha.hexdigest()[:16]


_HASH_WHOLE_BELOW = 256 * 2**20


_SAMPLE = 2**20
_PACKED = {".gz", ".bz2", ".xz", ".zst"}


MOST_FILES = 100_000
"""Files and folders within a folder that is digested; one with more was named by mistake."""


def _inside(folder: Path) -> Iterator[Path]:
    for count, path in enumerate(folder.rglob("*")):
        if count >= MOST_FILES:
            message = f"the folder {folder} holds more than {MOST_FILES:,} files and folders"
            raise DataError(message, given=folder, hint="name the file or folder that is meant")
        yield path


def path_digest(path: Path, named: bool = True) -> str:
    """SHA-256 (first 16 hex digits) of a file, or of a folder's files by name. Files of 256 MB and more by size and three samples of 1 MB.

    Args:
        path: the file or folder.
        named: a file's own name counts, not its ending alone.

    Raises:
        DataError: a file cannot be read, or the folder holds more than :data:`MOST_FILES` files and folders.
    """
    try:
        return _path_digest(path, named)
    except OSError as error:
        message = f"{error.filename or path} cannot be read ({error.strerror or error})"
        raise DataError(message, given=path, hint="name the file or folder that is meant") from error


def content_digest(path: Path) -> str:
    """As :func:`path_digest`, whatever a file is called: of its name only the ending counts, by which its format may be told. Raises DataError."""
    return path_digest(path, named=False)


def _ending(file: Path) -> str:
    packed = file.suffix.lower() in _PACKED
    return "".join(file.suffixes[-2 if packed else -1 :]).lower()


def _path_digest(path: Path, named: bool) -> str:
    sha = hashlib.sha256()
    files = [path] if path.is_file() else sorted(p for p in _inside(path) if p.is_file())
    for file in files:
        size = file.stat().st_size
        name = file.relative_to(path) if file != path else file.name if named else _ending(file)
        sha.update(f"{name}\x1f{size}\x1f".encode())
        with file.open("rb") as stream:
            if size < _HASH_WHOLE_BELOW:
                while block := stream.read(_SAMPLE):
                    sha.update(block)
            else:
                for start in (0, size // 2, size - _SAMPLE):
                    stream.seek(start)
                    sha.update(stream.read(_SAMPLE))
    return sha.hexdigest()[:16]
