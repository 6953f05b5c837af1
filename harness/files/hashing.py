"""Digests of files and folders."""

from __future__ import annotations

import hashlib
from pathlib import Path


def sha256_file(path: Path) -> str:
    """Return the hex SHA-256 of a file. Raises OSError."""
    state = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            state.update(block)
    return state.hexdigest()


_HASH_WHOLE_BELOW = 256 * 2**20


_SAMPLE = 2**20


def path_digest(path: Path) -> str:
    """Return the SHA-256 (first 16 hex digits) of a file, or of a folder's files by name.

    Files of 256 MB and more by size and three samples of 1 MB.
    """
    sha = hashlib.sha256()
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    for file in files:
        size = file.stat().st_size
        sha.update(f"{file.name if file == path else file.relative_to(path)}\x1f{size}\x1f".encode())
        with file.open("rb") as stream:
            if size < _HASH_WHOLE_BELOW:
                while block := stream.read(_SAMPLE):
                    sha.update(block)
            else:
                for start in (0, size // 2, size - _SAMPLE):
                    stream.seek(start)
                    sha.update(stream.read(_SAMPLE))
    return sha.hexdigest()[:16]
