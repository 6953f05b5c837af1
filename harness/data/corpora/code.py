"""By which code corpora are read: what that code made of a file is kept under its digest, so that another code reads it anew."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from harness.files.hashing import code_digest
from harness.files.version import PACKAGE

_BESIDE = (
    "data/scalars.py", "files/contents.py", "files/csv_cells.py", "files/csv_text.py", "files/inputs.py", "files/json_text.py", "files/packed.py",
)  # fmt: skip
_NOT_READING = {"convert.py", "stats.py", "columns.py", "on_the_hub.py"}
"""Modules of this folder that read no record: they count, show, write or fetch."""


@lru_cache(maxsize=1)
def reading_code() -> str:
    """Return the digest (16 hex digits) of the modules that unwrap and read corpora."""
    own = [file for file in Path(__file__).parent.glob("*.py") if file.name not in _NOT_READING]
    return code_digest([*own, *(PACKAGE / name for name in _BESIDE)], PACKAGE)
