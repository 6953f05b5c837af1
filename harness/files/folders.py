"""Folders that are made once and shared by processes: under a lock, beside their place, there whole or not at all.

Beside a folder D lie, while it is made::

    D.lock           held while one process makes D; others wait for it
    D.partial/       resumable: what an unfinished making left; the next one finds it and may go on from there
    .D-xxxxxxxx/     not resumable: what is being made; what a kill left there is removed by the next

How a finished folder is recognised (key, checksums, the state of its sources) is the caller's: it differs with what is made.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import logging
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from harness.errors import HarnessError, StoreError
from harness.files.atomic import DISK_ERRNOS, disk_error, sync_folder

logger = logging.getLogger(__name__)

T = TypeVar("T")
Say = Callable[[str], None]
Explain = Callable[[OSError], HarnessError]

_LITTLE_SPACE = 1 << 20
_POLL = 0.1  # seconds


def make_folder(
    folder: Path,
    find: Callable[[], T | None],
    fill: Callable[[Path], None],
    *,
    what: str,
    resumable: bool = False,
    say: Say = logger.info,
    explain: Explain | None = None,
) -> T | None:
    """Make ``folder`` unless it is there and good; of several processes one makes it and the others wait.

    A good folder needs no lock and no write, so that it serves from a read-only cache, too. One that is not good (damaged, outdated) stays
    until the new one takes its place.

    Args:
        folder: where to; its parents are made.
        find: what the caller wants of a good folder, None where it is missing or not good. Called again under the lock.
        fill: makes the content in the folder that it is given. If ``resumable``, that folder may hold what an earlier ``fill`` had written,
            finished or torn; otherwise it is empty.
        what: what it is, for messages, e.g. ``"the artifact 'directions'"``.
        resumable: keep what an unfinished ``fill`` wrote for the next one; otherwise it is removed.
        say: called with one line if another process has to be waited for.
        explain: the error to raise where the disk refuses, in place of a StoreError.

    Returns:
        What ``find`` returned, or None if the folder was made by this call.

    Raises:
        StoreError: the disk is full or cannot be written to (with ``explain``, its error). Other errors of ``fill`` pass unchanged.
    """
    found = find()
    if found is not None:
        return found
    partial = folder.with_name(f"{folder.name}.partial" if resumable else f".{folder.name}-{_random()}")

    where = f"{what} in {folder.parent}"
    with _explained(explain, f"make the cache folder {folder.parent}"):
        folder.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as held:
        with _explained(explain, f"lock {where}"):
            held.enter_context(locked(folder.with_name(f"{folder.name}.lock"), what, say))
        found = find()  # another process may have made it while we waited
        if found is not None:
            return found
        try:
            with _explained(explain, f"prepare {where}"):
                _sweep(folder)
                partial.mkdir(exist_ok=resumable)
            try:
                fill(partial)
            except Exception as error:
                refusal = _refusal(error, folder.parent)
                if refusal is None:
                    raise
                with _explained(explain, f"write {what}", f"what was made so far is kept in {partial}" if resumable else ""):
                    raise refusal from (None if refusal is error else error)
            with _explained(explain, f"finish {where}", f"what was made is kept in {partial.name}" if resumable else ""):
                put_in_place(partial, folder)
        finally:
            if not resumable:
                shutil.rmtree(partial, ignore_errors=True)
    return None


@contextlib.contextmanager
def _explained(explain: Explain | None, doing: str, safe: str = "") -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise (explain(error) if explain else disk_error(error, doing, safe)) from error


@contextlib.contextmanager
def locked(path: Path, what: str, say: Say = logger.info) -> Iterator[None]:
    """Hold the lock file ``path``, of one process or thread at a time; it ends with its process, however that ends.

    Args:
        path: in a folder that exists; the empty file stays there.
        what: what another process would be making, for the line.
        say: called with one line if the lock is another's, before waiting for it.

    Raises:
        OSError: the file cannot be made, or the file system has no locks.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(path, thread_local=False)
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            say(f"waiting for another process that makes {what}")
            lock.acquire(poll_interval=_POLL)
    except NotImplementedError as error:
        raise OSError(str(error)) from error
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def own_folder(parent: Path) -> Iterator[Path]:
    """Hold a folder below ``parent`` that no other process holds: the first of ``0``, ``1``, …, made where it is missing.

    What a process leaves there that ends before its time, the next one finds.

    Raises:
        OSError: the disk refuses, or the file system has no locks.
    """
    from filelock import FileLock, Timeout

    parent.mkdir(parents=True, exist_ok=True)
    for number in itertools.count():
        lock = FileLock(parent / f"{number}.lock", thread_local=False)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue
        except NotImplementedError as error:
            raise OSError(str(error)) from error
        try:
            (parent / str(number)).mkdir(exist_ok=True)
            yield parent / str(number)
        finally:
            lock.release()
        return


def put_in_place(new: Path, folder: Path) -> None:
    """Rename the finished ``new`` to ``folder``, on the same file system; what was there before is removed after that.

    Raises:
        OSError: the system refuses; what was at ``folder`` is back there.
    """
    old = folder.with_name(f".{folder.name}-{_random()}")  # a folder with content cannot be replaced in one step
    try:
        os.replace(folder, old)
    except FileNotFoundError:
        os.replace(new, folder)
    else:
        try:
            os.replace(new, folder)
        except OSError:
            with contextlib.suppress(OSError):
                os.replace(old, folder)
            raise
    sync_folder(folder.parent)
    with contextlib.suppress(OSError):  # the new one is there; what stays is swept by the next making
        _remove(old)


def _random() -> str:
    return uuid.uuid4().hex[:8]


def _sweep(folder: Path) -> None:
    """Remove what killed processes left beside ``folder``; called under its lock, so that nobody is writing there."""
    ours = re.compile(rf"\.{re.escape(folder.name)}-[0-9a-f]{{8}}")  # not those of a folder whose name begins like this one's
    for path in folder.parent.iterdir():
        if ours.fullmatch(path.name):
            with contextlib.suppress(OSError):
                _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _refusal(error: Exception, place: Path) -> OSError | None:
    """Return the disk's refusal behind an error of ``fill``, or None.

    Libraries report a full disk as their own errors (safetensors, torch), so the free space is asked, too.
    """
    if isinstance(error, OSError) and error.errno in DISK_ERRNOS:
        return error
    with contextlib.suppress(OSError):
        if not isinstance(error, StoreError) and shutil.disk_usage(place).free < _LITTLE_SPACE:
            return OSError(errno.ENOSPC, str(error))
    return None
