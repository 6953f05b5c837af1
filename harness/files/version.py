"""Which harness this is."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent
"""The folder of the package."""


def own_version() -> str:
    """Return the installed version of harness; ``unknown`` for a copy of its files that nobody installed."""
    try:
        return importlib.metadata.version("harness")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
