"""Which code a plugin is: a digest of its files, so that a run knows when they have changed."""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

OWN_DISTRIBUTION = "harness"
"""Its plugins share one distribution, and a change of one of them changes no other: each is told by its own file or folder."""

_LEFT_OUT = {"__pycache__", ".git", ".mypy_cache", ".ruff_cache", ".pytest_cache"}


def source_digest(factory: Callable[[Any], Any], distribution: str) -> str:
    """Return the digest (16 hex digits) of a plugin's code: all files of its top-level package, or the single file; empty where there is none.

    Args:
        factory: what was registered.
        distribution: to which it belongs.
    """
    try:
        file = inspect.getsourcefile(factory)
    except TypeError:  # made by a library, or in a session
        return ""
    if file is None or not Path(file).is_file():
        return ""
    return _digest(_place(Path(file).resolve(), getattr(factory, "__module__", ""), distribution))


def _place(file: Path, module: str, distribution: str) -> Path:
    """Return the file or folder that is the plugin's code."""
    if distribution == OWN_DISTRIBUTION:
        return file.parent if file.name == "__init__.py" else file
    top = sys.modules.get(module.partition(".")[0])
    found = getattr(top, "__file__", None)
    if found is not None and Path(found).name == "__init__.py" and file.is_relative_to(Path(found).resolve().parent):
        return Path(found).resolve().parent
    return file


@lru_cache(maxsize=256)
def _digest(place: Path) -> str:
    """Return the digest of the files' names and contents. Read once per process: what was imported is what runs."""
    sha = hashlib.sha256()
    files = [place] if place.is_file() else sorted(path for path in place.rglob("*") if path.is_file() and not _LEFT_OUT & set(path.parts))
    for path in files:
        name = path.name if path == place else path.relative_to(place).as_posix()
        content = path.read_bytes()
        sha.update(f"{name}\x1f{len(content)}\x1f".encode() + content)
    return sha.hexdigest()[:16]
