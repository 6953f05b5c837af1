"""SQLite files of ours: opened, distinguished from other programs' and from newer ones, written in transactions, and their errors in one line.

A transaction is safe against a kill of the process at any moment. On a local disk a file keeps a write-ahead log while it is written, so that
others can read it meanwhile; a power cut can cost the last seconds, never the file. On network file systems, where SQLite's log must not be used,
a rollback journal takes its place.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import tempfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from harness.errors import StoreError
from harness.files.atomic import can_write, on_network

DEFECTS = (sqlite3.ProgrammingError, sqlite3.InterfaceError, sqlite3.IntegrityError, sqlite3.NotSupportedError)
"""Errors that say that we misuse SQLite. They are nothing that a user can mend, so they pass through as they are."""

_DAMAGED = ("not a database", "malformed", "disk image")
_UNREADABLE = ("Could not decode", "unsupported file format", "no such table", "no such column")


@dataclass(frozen=True)
class SqliteKind:
    """A kind of SQLite file of ours: how it is recognised, and what messages about it say.

    Attributes:
        application_id: stands in the file's header; tells the file from any other SQLite file.
        version: the newest schema that this harness knows; a file's own stands in its ``user_version``.
        name: what the file is, e.g. ``"run store"``.
        version_name: what its version is called, e.g. ``"store version"``.
        elsewhere: what a user can do who cannot use this file, e.g. ``"choose another folder (--out)"``.
        kept: what is not lost when a write fails; ``{path}`` stands for the file.
        repair: what to do about damage.
    """

    application_id: int
    version: int
    name: str
    version_name: str
    elsewhere: str
    kept: str
    repair: str


def connect(path: Path, mode: str = "rwc", *, timeout: float = 20.0, immutable: bool = False) -> sqlite3.Connection:
    """Return a connection for use by several threads, without transactions of its own accord.

    Args:
        path: the file.
        mode: ``ro``, ``rw`` or ``rwc`` (makes the file where there is none).
        timeout: seconds to wait for another process that has the file locked.
        immutable: read the file as it is, without locks or log; for a folder in which neither can be made.

    Raises:
        sqlite3.Error: see :func:`explained`.
    """
    uri = f"file:{quote(str(path.absolute()))}?mode={mode}{'&immutable=1' if immutable else ''}"
    return sqlite3.connect(uri, uri=True, isolation_level=None, timeout=timeout, check_same_thread=False)


def connect_for_reading(path: Path, *, timeout: float = 20.0) -> sqlite3.Connection:
    """A connection that changes nothing, also where nothing can be made beside the file.

    A write-ahead log needs a file of shared memory beside it, which a read-only folder can't have. Without a log the file is read as it is; one
    that a killed process left is read with the file from a copy.

    Raises:
        sqlite3.Error, OSError: see :func:`explained`.
    """
    connection = connect(path, "ro", timeout=timeout)
    try:
        pragma(connection, "schema_version")
        return connection
    except sqlite3.OperationalError as error:
        connection.close()
        if "locked" in str(error) or can_write(path.parent):
            raise
    except BaseException:
        connection.close()
        raise
    return _copied(path) if log_in_use(path) else connect(path, "ro", timeout=timeout, immutable=True)


def _copied(path: Path) -> sqlite3.Connection:
    """A database of this connection alone with what file and log hold."""
    with tempfile.TemporaryDirectory(prefix="harness-") as folder:
        for end in ("", "-wal"):
            shutil.copyfile(f"{path}{end}", Path(folder) / f"{path.name}{end}")
        with contextlib.closing(connect(Path(folder) / path.name, "rw")) as source:
            copy = temporary()
            source.backup(copy)
    return copy


def temporary() -> sqlite3.Connection:
    """Return a database of this connection alone: in memory while it is small, else in a temporary file that nobody sees; gone when it is closed."""
    return sqlite3.connect("", isolation_level=None, check_same_thread=False)


def pragma(connection: sqlite3.Connection, name: str) -> Any:
    """Return the value of a pragma."""
    return connection.execute(f"PRAGMA {name}").fetchone()[0]


def version_of(connection: sqlite3.Connection, path: Path, kind: SqliteKind, tables: Collection[str] = ()) -> int | None:
    """Return the version of a file's schema, or None for a file that has yet to be stamped.

    Args:
        connection: to the file.
        path: the file, for messages.
        kind: what it has to be.
        tables: tables that an unstamped file may have and still be ours.

    Raises:
        StoreError: another program's file, or one of a newer harness.
        sqlite3.Error: see :func:`explained`.
    """
    application = pragma(connection, "application_id")
    if application == 0 and {name for (name,) in connection.execute("SELECT tbl_name FROM sqlite_master")} <= {*tables}:
        return None
    if application != kind.application_id:
        raise StoreError(f"{path} belongs to another program, not to harness; it was left as it is", given=path, hint=kind.elsewhere)
    version = int(pragma(connection, "user_version"))
    if version > kind.version:
        raise StoreError(
            f"{path} was written by a newer harness ({kind.version_name} {version}); it was left as it is",
            given=version,
            allowed=f"up to {kind.version}",
            hint=f"upgrade harness to use it, or {kind.elsewhere}",
        )
    return version


def stamp(connection: sqlite3.Connection, kind: SqliteKind) -> None:
    """Write into the file's header what it is; within a transaction."""
    connection.execute(f"PRAGMA application_id={kind.application_id}")
    connection.execute(f"PRAGMA user_version={kind.version}")


def set_journal(connection: sqlite3.Connection, path: Path) -> None:
    """Make writing safe: a write-ahead log, or a rollback journal on a network file system (the log needs memory that processes share)."""
    network = on_network(path)
    connection.execute(f"PRAGMA journal_mode={'DELETE' if network else 'WAL'}")
    connection.execute(f"PRAGMA synchronous={'FULL' if network else 'NORMAL'}")


def log_in_use(path: Path) -> bool:
    """Return whether the file's write-ahead log holds something that is not yet in the file itself."""
    log = path.with_name(path.name + "-wal")
    return log.exists() and log.stat().st_size > 0


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All that is executed within is stored together when it ends, or (an exception, a kill) not at all."""
    if connection.in_transaction:  # Ctrl-C hit between a BEGIN and its bookkeeping
        connection.execute("ROLLBACK")
    try:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise


def is_damage(error: sqlite3.Error) -> bool:
    """Return whether an error says that the file's content is broken."""
    return any(word in str(error) for word in _DAMAGED)


def explained(error: sqlite3.Error, doing: str, path: Path | None, kind: SqliteKind) -> StoreError:
    """Returns an error of SQLite as a StoreError of one line, with the file as its ``given``.

    Args:
        error: any of SQLite's but those of :data:`DEFECTS`.
        doing: what was tried, e.g. ``"store a text"``.
        path: the file; None for a temporary one.
        kind: what the file is.
    """
    reason, kept = " ".join(str(error).split())[:300], kind.kept.format(path=path)
    if "full" in reason:
        message, hint = f"cannot {doing}: the disk is full; {kept}", "free some space, then run the same command again to go on"
    elif "readonly" in reason:
        message, hint = f"cannot {doing}: {path} is read-only; {kept}", f"make it writable, or {kind.elsewhere}"
    elif "locked" in reason or "busy" in reason:
        message, hint = f"cannot {doing}: another program keeps {path} locked; {kept}", "close that program, then run this again"
    elif "unable to open" in reason:
        message = f"cannot {doing}: {path} cannot be opened"
        hint = f"check that folder and file can be read and written, or {kind.elsewhere}"
    elif "not a database" in reason:
        message, hint = f"{path} is not a {kind.name} ({reason}); it was left as it is", kind.elsewhere
    elif is_damage(error) or any(word in reason for word in _UNREADABLE):
        message, hint = f"{path} is damaged ({reason}); it was left as it is", kind.repair
    else:
        message, hint = f"cannot {doing} in {path}: {reason}; {kept}", f"check the disk, then run the same command again, or {kind.elsewhere}"
    return StoreError(message, given=path, hint=hint)
