"""Deleting stored runs: only what is a run's folder directly below ``runs/``, and never one that is being written."""

from __future__ import annotations

import re
import shutil
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import StoreError
from harness.files.atomic import disk_error, sync_folder
from harness.files.sqlite import connect, pragma
from harness.store.folder import DATABASE, lock_to_write
from harness.store.listing import RunSummary, is_run, summarize
from harness.store.lock import RunLock
from harness.store.schema import RUN_STORE

_OWN = re.compile(rf"{re.escape(DATABASE)}(-wal|-shm|-journal)?|run\.lock|entry(-[^/]*)?\.json|\.entry[^/]*\.tmp")
"""Names of the files that a run's folder holds."""


@dataclass(frozen=True)
class Doomed:
    """A run that may be deleted: its folder, its summary (``broken`` where it cannot be read), and the bytes of its files."""

    folder: Path
    summary: RunSummary
    size: int


def check_deletable(folder: Path, runs: Path) -> Doomed:
    """Return a run that may be deleted.

    Args:
        folder: the run's.
        runs: the folder that holds the runs.

    Raises:
        StoreError: the folder is not a run's directly below ``runs``, or is a link; it holds anything that no harness wrote; the file in it is
            another program's; the run is being written by another process.
    """
    if folder.is_symlink() or folder.absolute().parent.resolve() != runs.resolve() or not folder.is_dir():
        what = "is a link" if folder.is_symlink() else f"does not lie in {runs}"
        raise StoreError(f"{folder} {what}: it is not deleted", given=folder, allowed=f"a folder directly in {runs}", hint="see --out")
    if not is_run(folder):
        message = f"{folder} is not a run (no {DATABASE} in it): it is not deleted"
        raise StoreError(message, given=folder, allowed="a run's folder", hint="`harness runs` lists them")
    foreign = sorted(path.name for path in folder.iterdir() if path.is_symlink() or not path.is_file() or not _OWN.fullmatch(path.name))
    if foreign:
        listed = ", ".join(foreign[:5]) + (", …" if len(foreign) > 5 else "")
        message = f"{folder} holds what no harness wrote ({listed}): it is not deleted"
        raise StoreError(message, given=tuple(foreign), allowed="a folder with a run alone", hint="move them elsewhere first")
    _refuse_foreign_file(folder / DATABASE)
    if RunLock(folder).held():
        lock_to_write(folder).release()  # says who writes it
    return Doomed(folder, summarize(folder), sum(path.stat().st_size for path in folder.iterdir()))


def _refuse_foreign_file(path: Path) -> None:
    """Raise StoreError for another program's file; one that is too damaged to tell is taken for ours, since it lies where ours do."""
    if not path.is_file():
        return
    try:
        connection = connect(path, "ro", immutable=True)
    except sqlite3.Error:
        return
    try:
        owner = pragma(connection, "application_id")
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    except (sqlite3.Error, UnicodeDecodeError):
        return
    finally:
        connection.close()
    if owner != RUN_STORE.application_id and tables:
        message = f"{path} is another program's file: it is not deleted"
        raise StoreError(message, given=path, allowed=f"a {RUN_STORE.name} of harness", hint="move it elsewhere")


def delete_run(doomed: Doomed) -> None:
    """Delete a run's folder. Raises StoreError where another process writes it by now, or the disk refuses.

    It is renamed first, so that a kill leaves a whole run or none.
    """
    folder = doomed.folder
    try:
        lock = lock_to_write(folder)
        try:
            aside = folder.with_name(f".deleted-{folder.name}")
            if aside.exists():  # of a deletion that was killed
                shutil.rmtree(aside)
            folder.rename(aside)
        finally:
            lock.release()
        sync_folder(folder.parent)
        shutil.rmtree(aside)
    except OSError as error:
        raise disk_error(error, f"delete the run {folder}") from error


def entry_digests(doomed: Sequence[Doomed], others: Iterable[RunSummary]) -> set[str]:
    """Return by which ``run_digest`` the entries of runs are known that no other run stands behind."""
    kept = {run.digest for run in others if run.folder.resolve() not in {one.folder.resolve() for one in doomed}}
    return {one.summary.digest for one in doomed if one.summary.digest} - kept
