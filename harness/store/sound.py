"""Which files of runs this process has found sound: one that has not changed since is not read through again for each look at it."""

from __future__ import annotations

import time
from pathlib import Path

State = tuple[tuple[int, ...], ...]

_SETTLED = 100_000_000
"""Nanoseconds. A file written less than this ago may change once more under the same times (a file system's clock is coarse), so it is looked
through again."""

_SOUND: dict[Path, State] = {}


def state_of(path: Path) -> State | None:
    """Return what tells whether a run's file or its log has changed: identity, size and times of both; None where it cannot be told for sure."""
    state: list[tuple[int, ...]] = []
    newest = 0
    for part in (path, path.with_name(f"{path.name}-wal")):
        try:
            found = part.stat()
        except FileNotFoundError:
            state.append(())
            continue
        except OSError:
            return None
        newest = max(newest, found.st_mtime_ns, found.st_ctime_ns)
        state.append((found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns))
    return tuple(state) if time.time_ns() - newest > _SETTLED else None


def is_sound(path: Path) -> bool:
    """Return whether the file was found sound and has not changed since."""
    state = state_of(path)
    return state is not None and _SOUND.get(path.absolute()) == state


def note_sound(path: Path, before: State | None) -> None:
    """Note that a file was found sound; ``before`` is its state when looking began."""
    if before is not None and state_of(path) == before:
        _SOUND[path.absolute()] = before


def forget(path: Path) -> None:
    """Have the file read through the next time, whatever is known of it."""
    _SOUND.pop(path.absolute(), None)
