"""The user's cache folder."""

from __future__ import annotations

import os
from pathlib import Path

from harness.errors import StoreError

CACHE_ENV = "HARNESS_CACHE"
"""Environment variable: the folder that takes the place of the user's cache folder."""

_NO_HOME = "this user has no home folder, so there is no place for the cache"
_HINT = f"set {CACHE_ENV} to a folder that can be written to"


def cache_root() -> Path:
    """Return the folder of everything that can be made again: ``HARNESS_CACHE``, else the user's cache folder of this program.

    Raises:
        StoreError: neither is to be had, since the user has no home folder (a container's or a batch system's user without a name).
    """
    chosen = os.environ.get(CACHE_ENV)
    try:
        if chosen:
            return Path(chosen).expanduser()
        from platformdirs import user_cache_dir

        found = Path(user_cache_dir("harness"))
    except (RuntimeError, KeyError, OSError) as error:  # platformdirs, pathlib and pwd have no common root
        raise StoreError(_NO_HOME, given=chosen, hint=_HINT) from error
    if not found.is_absolute():  # a ~ that nothing stands for
        raise StoreError(_NO_HOME, given=str(found), hint=_HINT)
    return found
