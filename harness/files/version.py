"""Which harness this is: the only place that states the version. pyproject.toml, ``harness.__version__`` and the command read it from here."""

from __future__ import annotations

from pathlib import Path

VERSION = "0.1.0"
"""A literal, so that a build reads it without importing anything."""

DISTRIBUTION = "sae-harness"
"""The name under which it is installed; ``harness`` is another project's on package indexes. Import and command are called ``harness``."""

PACKAGE = Path(__file__).resolve().parent.parent
"""The folder of the package."""


def own_version() -> str:
    """Return the version of the files that run, whatever is installed beside them."""
    return VERSION
