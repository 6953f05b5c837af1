"""Writing to disk so that a killed process leaves the old file or the new one, and what to say when the disk refuses."""

from __future__ import annotations

import contextlib
import errno
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

from harness.errors import StoreError

_ROOM = "free some space, then run the same command again"
_ELSEWHERE = "choose a folder that can be written to"
_REASONS = {
    errno.ENOSPC: ("the disk is full", _ROOM),
    errno.EDQUOT: ("the disk quota is used up", _ROOM),
    errno.EFBIG: ("the file would be larger than the system allows", "raise the limit on file sizes (ulimit -f), or choose another disk"),
    errno.EROFS: ("the file system is read-only", _ELSEWHERE),
    errno.EACCES: ("permission denied", _ELSEWHERE),
    errno.EPERM: ("the system does not permit it", _ELSEWHERE),
    errno.ENOTDIR: ("a part of that path is a file", "choose another folder"),
    errno.EEXIST: ("a file of that name is in the way", "move it away, or choose another folder"),
    errno.EIO: ("the disk reports an input/output error", "check the disk before going on"),
    errno.EMFILE: ("too many files are open", "raise the limit on open files (ulimit -n)"),
}
DISK_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO})
"""Error numbers that speak of the disk itself, whoever was writing."""


_NETWORK = frozenset(
    ["nfs", "nfs4", "cifs", "smb3", "smbfs", "lustre", "gpfs", "beegfs", "ceph", "afs", "9p", "fuse.sshfs", "fuse.glusterfs"]
)


def disk_error(error: OSError, doing: str, safe: str = "") -> StoreError:
    """Returns ``error`` as a StoreError of one line, with the error number as its ``given``.

    Args:
        error: what the system reported.
        doing: what was tried, with the path, e.g. ``"write the entry runs/a/entry.json"``.
        safe: what is not lost, e.g. ``"the run's texts and ratings are kept"``.
    """
    reason, advice = _REASONS.get(error.errno or 0, (error.strerror or str(error) or type(error).__name__, "check the path and the disk"))
    return StoreError(f"cannot {doing}: {reason}{'; ' + safe if safe else ''}", given=error.errno, hint=advice)


def write_atomically(path: Path, data: str | bytes, what: str) -> None:
    """Write ``data`` to ``path`` whole or not at all: to a temporary file beside it, flushed to the disk, then renamed over it.

    Args:
        path: where to; missing folders are made.
        data: text (UTF-8, newlines as they are) or bytes.
        what: what it is, for messages, e.g. ``"entry"``.

    Raises:
        StoreError: the disk is full, read-only, …; a file that was there before is untouched.
    """
    try:
        with replacing(path) as temporary:
            temporary.write_bytes(data.encode() if isinstance(data, str) else data)
    except OSError as error:
        raise disk_error(error, f"write the {what} {path}") from error


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a name beside ``path`` for a writer to fill; the file is then flushed to the disk and renamed over ``path``, unless it failed.

    Args:
        path: where to; missing folders are made.

    Raises:
        OSError: the disk is full, read-only, …; a file that was there before is untouched, and the other one is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name[:80]}.{uuid.uuid4().hex[:12]}.tmp")  # not tempfile's: those only their owner may read
    try:
        yield temporary
        with temporary.open("r+b") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    sync_folder(path.parent)


def can_write(path: Path) -> bool:
    """Whether this process may write to a file, or make files in a folder, as it runs now."""
    return os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids)


def sync_folder(folder: Path) -> None:
    """Flush a folder's list of names to the disk, so that a rename in it outlives a power cut (where the system can)."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def on_network(path: Path, mounts: Path = Path("/proc/self/mounts")) -> bool:
    """Return whether ``path`` lies on a network file system, as far as the system tells (Linux)."""
    best, kind = "", ""
    with contextlib.suppress(OSError):
        where = str(path.absolute().resolve())
        for line in mounts.read_text(encoding="utf-8", errors="replace").splitlines():
            fields = line.split(" ")
            if len(fields) < 3:
                continue
            point = fields[1].replace("\\040", " ")
            if len(point) >= len(best) and (where == point or where.startswith(point.rstrip("/") + "/")):
                best, kind = point, fields[2]
    return kind in _NETWORK
