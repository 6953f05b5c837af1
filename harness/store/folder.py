"""A run's folder: made or found, locked for one writer, its manifest compared, and at the end marked as finished."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import Literal, TypeVar

from pydantic import ValidationError

from harness.errors import StoreError
from harness.files.atomic import write_atomically
from harness.store.concepts import Concepts
from harness.store.database import Database, make_folder
from harness.store.lock import RunLock
from harness.store.manifest import Manifest, incomplete
from harness.store.schema import RUN_STORE
from harness.store.values import encode
from harness.types import Json, digest

DATABASE, ENTRY = "run.sqlite", "entry.json"
RunStatus = Literal["running", "finished", "interrupted"]
_R = TypeVar("_R", bound="RunFolder")
_PASSING_NOTES = ("versions: ", "warning", "observer-failed", "migrated", "decoding", "profile", "executor", "engine verified")
"""How the kinds of notes begin that are made again by whoever starts the run again."""

UNREADABLE = (ValueError, TypeError, KeyError, IndexError, AttributeError, AssertionError, OverflowError, RecursionError, MemoryError, zlib.error)
"""What decoding raises for rows that no harness wrote; pydantic's and JSON's errors are ValueErrors."""


class RunFolder(ABC):
    """What a run store is besides the values in it. Use :class:`harness.store.RunStore`."""

    def __init__(self, folder: Path, database: Database, lock: RunLock | None) -> None:
        self.folder = folder
        self._database = database
        self._lock = lock
        self._begun_here = False
        self._concepts = Concepts(database)
        self._stored: Json = self._stored_manifest()
        self._manifest: Manifest | None = None

    def _stored_manifest(self) -> Json:
        """Return the manifest's JSON; None where it was not stored yet."""
        stored = self._database.value("SELECT value FROM meta WHERE key = 'manifest'")
        with self._understood():
            value: Json = None if stored is None else json.loads(stored)
            if value is not None and not isinstance(value["identity"], dict):
                raise TypeError("its identity is no object")
        return value

    @contextlib.contextmanager
    def _understood(self) -> Iterator[None]:
        """Raises whatever rows that no harness wrote bring about as one StoreError that names the file."""
        path = self.folder / DATABASE
        try:
            yield
        except StoreError as error:
            if str(path) in error.message:
                raise
            raise StoreError(f"{path} cannot be understood: {error.message}", given=path, hint=RUN_STORE.repair) from error
        except UNREADABLE as error:
            message = f"{path} cannot be understood: {' '.join(str(error).split())[:300] or type(error).__name__}"
            raise StoreError(message, given=path, hint=RUN_STORE.repair) from error

    @abstractmethod
    def read_everything(self) -> None:
        """Read every value once. Raises StoreError for rows that no harness wrote."""

    @classmethod
    def create_or_open(cls: type[_R], folder: Path, manifest: Manifest | Mapping[str, Json]) -> _R:
        """Return the run in ``folder``, made with ``manifest`` if there is none.

        A run that is there has to be the same one: its manifest's ``identity`` has to be equal. Its own manifest then stands, since it says
        what was so when the run began; what an older harness did not keep is completed.

        Args:
            folder: the run's folder; its name is the run's id.
            manifest: what the run is; or its identity alone, which leaves the manifest incomplete.

        Raises:
            StoreError: the run there has another identity (names what differs), is being written by another process, belongs to a newer
                harness, is damaged or not ours; or the disk refuses.
        """
        folder = Path(folder)
        given = _as_stored(manifest)
        make_folder(folder)
        store = cls._locked(folder)
        try:
            if store._stored is None:
                with store._database.transaction("store the run's manifest"):
                    store._put_manifest(given)
                    store._set_meta("started", json.dumps(now()))
                store._begun_here = True
            else:
                store._compare(given)
                if isinstance(manifest, Manifest) and store.partial:
                    store.set_manifest(manifest)
        except BaseException:
            store.close()
            raise
        return store

    @classmethod
    def open(cls: type[_R], folder: Path, *, read_only: bool = False, check: bool = True) -> _R:
        """Return a run that exists, to read it (``read_only``: also while another process writes it) or to add to it, e.g. ratings.

        Args:
            folder: the run's folder.
            read_only: change nothing.
            check: refuse a damaged file before any value is used; False is for a summary alone, of a file that is only read.

        Raises StoreError as :meth:`create_or_open` does, and where there is no run.
        """
        folder = Path(folder)
        if not (folder / DATABASE).is_file():
            raise StoreError(f"there is no run at {folder} (no {DATABASE} in it)", given=folder, hint="`harness runs` lists the runs")
        store = cls._read(folder, check) if read_only else cls._locked(folder)
        if store._stored is None:
            store.close()
            message = f"the run in {folder} was stopped before its manifest was stored"
            raise StoreError(message, given=folder, hint="start it again, or delete the folder")
        return store

    @classmethod
    def _read(cls: type[_R], folder: Path, check: bool) -> _R:
        return cls._opened(folder, Database(folder / DATABASE, write=False, check=check), None, check)

    @classmethod
    def _locked(cls: type[_R], folder: Path) -> _R:
        lock = lock_to_write(folder)
        try:
            database = Database(folder / DATABASE, write=True)
            try:
                store = cls._opened(folder, database, lock)
                with database.transaction("open the run"):
                    store._set_meta("holder", json.dumps({"pid": os.getpid(), "host": platform.node(), "since": now()}))
            except BaseException:
                database.close()
                raise
        except BaseException:
            lock.release()
            raise
        return store

    @classmethod
    def _opened(cls: type[_R], folder: Path, database: Database, lock: RunLock | None, check: bool = True) -> _R:
        """Return the store of an open file; one without digests is read as a whole, so that what is broken in it is found now."""
        try:
            store = cls(folder, database, lock)
            if check and not database.digested and not database.known_sound and store._stored is not None:
                store.read_everything()
                database.note_sound()
        except BaseException:
            database.close()
            raise
        return store

    def close(self) -> None:
        """Close the file and let others write. A run that was not finished counts as interrupted from now on. Idempotent."""
        self._database.close()
        if self._lock is not None:
            self._lock.release()

    def discard_if_empty(self) -> None:
        """Close a run that this store began and that holds no result yet, and remove its folder.

        One with a labeler's answers or an outcome stays, and so does one with a plugin's record, or a note of what was paid for. A run that was
        there before is never removed.
        """
        if not self._begun_here:
            return
        counts = [self._database.value(f"SELECT EXISTS (SELECT 1 FROM {table})") for table in ("labelers", "outcomes")]
        noted = {kind for (kind,) in self._database.rows("SELECT DISTINCT kind FROM notes")}
        counts.append(any(not kind.startswith(_PASSING_NOTES) for kind in noted))
        if any(counts) or self._lock is None or self.status == "finished":
            return
        self._database.close()
        with contextlib.suppress(OSError):  # what stays is an empty run, as after a kill
            for name in (DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm", "run.lock"):
                (self.folder / name).unlink(missing_ok=True)
            self.folder.rmdir()
        self.close()

    def __enter__(self: _R) -> _R:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    @property
    def id(self) -> str:
        """Return the folder's name."""
        return self.folder.resolve().name

    @property
    def digested(self) -> bool:
        """Return whether the file came with digests, by which damage is noticed; False for one that an older harness wrote last."""
        return self._database.digested

    @property
    def manifest(self) -> Manifest:
        """Return what the run is. Its ``unknown`` names what an older harness did not keep.

        Raises:
            StoreError: an older harness began the run and never finished it, so that not even the task's mode is known.
        """
        if self._manifest is None:
            if self.incomplete:
                raise StoreError(
                    f"the run in {self.folder} does not say all that it is, since an older harness began it and did not finish",
                    given=self.folder,
                    hint="run its `harness eval` again first, which completes it",
                )
            try:
                self._manifest = Manifest.model_validate(self._stored)
            except ValidationError as error:
                first = error.errors()[0]
                where = ".".join(map(str, first["loc"]))
                message = f"the manifest of the run in {self.folder} cannot be understood: {where}: {first['msg']}"
                raise StoreError(message, given=first.get("input"), hint="put a copy of the file back, or make the run again") from error
        return self._manifest

    @property
    def incomplete(self) -> bool:
        """Return whether no more than the manifest's identity is known, so that there is no :attr:`manifest` to be had."""
        return bool(self._stored.get("incomplete"))

    @property
    def partial(self) -> bool:
        """Return whether the manifest leaves anything open, as that of an older harness' run does; see :meth:`set_manifest`."""
        return self.incomplete or bool(self._stored.get("unknown"))

    def set_manifest(self, manifest: Manifest) -> None:
        """Complete a manifest that is :attr:`partial`: what is known stays, what is unknown is taken from ``manifest``.

        Raises:
            StoreError: another run's manifest (names what differs), or the run has a complete one that differs.
        """
        given = _as_stored(manifest)
        self._compare(given)
        if not self.partial:
            if digest(given) != digest(self._stored):
                message = f"the run in {self.folder} has its manifest, which says how it began; it was kept"
                raise StoreError(message, given=self.folder, hint="choose another folder (--out)")
            return
        if not self.incomplete:
            given = _as_stored(self.manifest.completed(manifest))
        with self._database.transaction("complete the run's manifest"):
            self._put_manifest(given)

    def _put_manifest(self, stored: Json) -> None:
        self._set_meta("manifest", encode(stored, "the run's manifest"))
        self._stored, self._manifest = stored, None

    def _compare(self, given: Mapping[str, Json]) -> None:
        stored, other = self.plan, given["identity"]
        if digest(stored) != digest(other):
            raise StoreError(
                f"the run in {self.folder} was started with another plan ({_difference(stored, other)})",
                given=_difference(stored, other),
                hint="repeat its options to go on with it, or choose another folder (--out)",
            )

    @property
    def plan(self) -> Json:
        """Return the manifest's identity: all that the run's values depend on."""
        return self._stored["identity"]

    @property
    def plan_digest(self) -> str:
        """Return the digest of the identity: what the entry calls the run's digest."""
        return digest(self.plan)

    @property
    def started(self) -> str:
        """When the run was created: ISO 8601, UTC."""
        return str(json.loads(self._database.value("SELECT value FROM meta WHERE key = 'started'") or '""'))

    @property
    def status(self) -> RunStatus:
        """Return ``finished`` once :meth:`finish` was called; else ``running`` while a process has it open for writing, else ``interrupted``."""
        if self._database.value("SELECT 1 FROM meta WHERE key = 'finished'"):
            return "finished"
        return "running" if self._lock is not None or RunLock(self.folder).held() else "interrupted"

    def finish(self, entry: Json = None, file: str = ENTRY) -> None:
        """Write ``entry`` (JSON; None for none) to the run's folder, atomically, and mark the run as finished. May be called again."""
        if entry is not None:
            encode(entry, "the run's entry")  # refuses NaN before anything is written
            write_atomically(self.folder / file, json.dumps(entry, indent=1, ensure_ascii=False) + "\n", "entry")
        with self._database.transaction("mark the run as finished"):
            self._set_meta("finished", json.dumps(now()))

    def _set_meta(self, key: str, value: str) -> None:
        self._database.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))


def lock_to_write(folder: Path) -> RunLock:
    """Return a run's lock, taken. Raises StoreError where another process writes the run."""
    lock = RunLock(folder)
    if not lock.acquire():
        message = f"the run in {folder} is being written by another process{_holder(folder)}"
        raise StoreError(message, given=folder, hint="wait for it, or stop it")
    return lock


def now() -> str:
    """Return the time as stored: ISO 8601, UTC, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _as_stored(manifest: Manifest | Mapping[str, Json]) -> dict[str, Json]:
    """Return a manifest as the JSON that is stored; an identity alone is marked as incomplete."""
    value = manifest.model_dump(mode="json") if isinstance(manifest, Manifest) else incomplete(manifest)
    stored: dict[str, Json] = json.loads(encode(value, "the run's manifest"))
    return stored


def _difference(stored: Json, given: Json) -> str:
    """Return the names in which two plans differ."""
    if not isinstance(stored, dict) or not isinstance(given, dict):
        return "its content differs"
    names = [name for name in sorted({*stored, *given}) if stored.get(name) != given.get(name) or (name in stored) != (name in given)]
    return "different: " + ", ".join(names)


def _holder(folder: Path) -> str:
    """Return who writes the run, as far as it can be read."""
    try:
        database = Database(folder / DATABASE, write=False, check=False)
    except StoreError:
        return ""
    try:
        holder = json.loads(database.value("SELECT value FROM meta WHERE key = 'holder'") or "{}")
        return f" (process {holder['pid']} on {holder['host']}, since {holder['since']})" if holder else ""
    except (StoreError, *UNREADABLE):
        return ""
    finally:
        database.close()
