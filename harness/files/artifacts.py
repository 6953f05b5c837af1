"""The artifact cache: content-addressed folders for what is expensive to make (directions, statistics, adapters, converted models).

Layout below the cache's root, for an artifact whose key has the digest D::

    D/            the finished artifact: what ``compute`` wrote, with key.json and manifest.json
    D.partial/    what an unfinished ``compute`` left; the next one finds it and may go on from there
    D.lock        held while one process makes D; others wait for it

A finished artifact appears in one rename, so it is there whole or not at all (:mod:`harness.files.folders`). Its files' SHA-256 are checked
when it is opened: large files once per process, small ones each time.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path

from harness.files.atomic import disk_error, write_atomically
from harness.files.folders import make_folder
from harness.types import Json, canonical_json, digest

logger = logging.getLogger(__name__)

KEY, MANIFEST = "key.json", "manifest.json"
SMALL_FILE = 1 << 20
"""Files up to this many bytes are hashed whenever an artifact is opened; larger ones when a process opens it first, then only measured."""
_DIGEST_DIGITS = 24
_seen: set[tuple[str, int, int]] = set()
"""The artifacts whose large files this process has hashed: manifest, its inode and its time, so that one made anew is another."""


class ArtifactCache:
    """Folders that are made once and shared by runs and processes.

    Args:
        root: the cache's folder; made when first needed.
        warn: called with one line when a damaged artifact is made again; by default a warning of the logger ``harness.files.artifacts``.
    """

    def __init__(self, root: Path, warn: Callable[[str], None] | None = None) -> None:
        self.root = Path(root)
        self._warn = warn or logger.warning

    def path(self, key: Json) -> Path:
        """Return where the artifact of ``key`` is, or would be."""
        return self.root / digest(key, _DIGEST_DIGITS)

    def get(self, key: Json, compute: Callable[[Path], None], describe: str = "") -> Path:
        """Return the finished folder of ``key``; ``compute`` fills it if it is not there yet.

        Args:
            key: JSON that holds everything the content depends on; kept in the folder as ``key.json``.
            compute: fills the folder it is given. After a kill or an exception it finds there what it had written, finished or torn, so
                it should write each file under a temporary name first. The names ``key.json`` and ``manifest.json`` are taken.
            describe: what it is, for messages, e.g. ``"statistics of the corpus"``.

        Returns:
            A folder that nobody changes any more. It is checked on each call: every file's size, and small files' SHA-256; large files'
            SHA-256 on the process' first call, at some 1.5 GB per second (measured, one core). One that is damaged is made again.

        Raises:
            StoreError: the disk is full or cannot be written to; what was made so far is kept.
        """
        what = f"the artifact {describe!r}" if describe else "an artifact"
        folder = self.path(key)
        damage = ""

        def find() -> Path | None:
            nonlocal damage
            damage = self._damage(folder, key) if folder.is_dir() else ""
            return folder if folder.is_dir() and not damage else None

        def fill(partial: Path) -> None:
            if damage:
                self._warn(f"{what} in {folder} is damaged ({damage}); it is made again")
            for name in (KEY, MANIFEST):
                (partial / name).unlink(missing_ok=True)
            compute(partial)
            write_atomically(partial / KEY, canonical_json(key), "artifact's key")
            try:
                files = _manifest(partial)
            except OSError as error:
                raise disk_error(error, f"finish {what} in {self.root}", f"what was made is kept in {partial.name}") from error
            write_atomically(partial / MANIFEST, canonical_json({"describe": what, "files": files}), "artifact's manifest")

        if make_folder(folder, find, fill, what=what, resumable=True) is None:
            _seen.add(_mark(folder))  # what was hashed this moment
        return folder

    def _damage(self, folder: Path, key: Json) -> str:
        """Return what is wrong with a finished artifact, or ""."""
        try:
            stored_key = (folder / KEY).read_text(encoding="utf-8")
            files = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
            if stored_key != canonical_json(key):
                return f"{KEY} is another artifact's"
            mark = _mark(folder)
            for name, (size, checksum) in files.items():
                path = folder / name
                if path.stat().st_size != size:
                    return f"{name} has {path.stat().st_size} bytes instead of {size}"
                if (size <= SMALL_FILE or mark not in _seen) and _sha256(path) != checksum:
                    return f"{name} was changed"
            _seen.add(mark)
        except FileNotFoundError as error:
            return f"{Path(error.filename or '?').name} is missing"
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            return f"{KEY} or {MANIFEST} cannot be read: {error}"
        return ""


def _mark(folder: Path) -> tuple[str, int, int]:
    """Return what identifies this one making of an artifact, for as long as it lies there."""
    path = folder / MANIFEST
    found = path.stat()
    return str(path.resolve()), found.st_ino, found.st_mtime_ns


def _manifest(folder: Path) -> dict[str, list[Json]]:
    """Return the size and SHA-256 of each file below ``folder`` (but for key and manifest), each flushed to the disk, by its relative path."""
    files: dict[str, list[Json]] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name not in (KEY, MANIFEST):
            with path.open("rb") as file:
                os.fsync(file.fileno())
            files[name] = [path.stat().st_size, _sha256(path)]
    return files


def _sha256(path: Path) -> str:
    checksum = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            checksum.update(block)
    return checksum.hexdigest()
