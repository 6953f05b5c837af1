"""The user's cache folder."""

from __future__ import annotations

import os
from pathlib import Path

CACHE_ENV = "HARNESS_CACHE"
"""Environment variable: the folder that takes the place of the user's cache folder."""


def cache_root() -> Path:
    """The folder of everything that can be made again: ``HARNESS_CACHE``, else the user's cache folder of this program."""
    if chosen := os.environ.get(CACHE_ENV):
        return Path(chosen).expanduser()
    from platformdirs import user_cache_dir

    return Path(user_cache_dir("harness"))
