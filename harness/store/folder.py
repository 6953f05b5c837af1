"""A run's folder: made or found, locked for one writer, its plan compared, and at the end marked as finished."""

from __future__ import annotations

import json
import os
import platform
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import Literal, TypeVar

from harness.errors import StoreError
from harness.files.atomic import write_atomically
from harness.store.database import Database, make_folder
from harness.store.lock import RunLock
from harness.store.values import Concepts, encode
from harness.types import Json, digest

DATABASE, ENTRY = "run.sqlite", "entry.json"
RunStatus = Literal["running", "finished", "interrupted"]
_R = TypeVar("_R", bound="RunFolder")


class RunFolder:
    """What a run store is besides the values in it. Use :class:`harness.store.RunStore`."""

    def __init__(self, folder: Path, database: Database, lock: RunLock | None) -> None:
        self.folder = folder
        self._database = database
        self._lock = lock
        self._concepts = Concepts(database)
        plan = database.value("SELECT value FROM meta WHERE key = 'plan'")
        self._plan: Json = None if plan is None else json.loads(plan)

    @classmethod
    def create_or_open(cls: type[_R], folder: Path, plan: Json) -> _R:
        """The run in ``folder``, made with ``plan`` if there is none.

        Args:
            folder: the run's folder; its name is the run's id.
            plan: JSON that holds all that the run's values depend on (task digest, methods with options, model, seed, limits, …). By
                convention ``plan["task"]`` is the task's name, or an object with ``name``; it is shown in lists of runs.

        Raises:
            StoreError: the run there has another plan (names what differs), is being written by another process, belongs to a newer
                harness, is damaged or not ours; or the disk refuses.
        """
        folder = Path(folder)
        plan_text = encode(plan, "the run's plan")
        make_folder(folder)
        store = cls._locked(folder)
        try:
            if store._plan is None:
                with store._database.transaction("store the run's plan"):
                    store._set_meta("plan", plan_text)
                    store._set_meta("started", json.dumps(now()))
                store._plan = json.loads(plan_text)
            elif digest(store._plan) != digest(json.loads(plan_text)):
                raise StoreError(
                    f"the run in {folder} was started with another plan ({_difference(store._plan, json.loads(plan_text))}); "
                    "repeat its options to go on with it, or choose another folder (--out)"
                )
        except BaseException:
            store.close()
            raise
        return store

    @classmethod
    def open(cls: type[_R], folder: Path, *, read_only: bool = False) -> _R:
        """A run that exists, to read it (``read_only``: also while another process writes it) or to add to it, e.g. ratings.

        Raises StoreError as :meth:`create_or_open` does, and where there is no run.
        """
        folder = Path(folder)
        if not (folder / DATABASE).is_file():
            raise StoreError(f"there is no run at {folder} (no {DATABASE} in it); `harness runs` lists the runs")
        store = cls(folder, Database(folder / DATABASE, write=False), None) if read_only else cls._locked(folder)
        if store._plan is None:
            store.close()
            raise StoreError(f"the run in {folder} was stopped before its plan was stored; start it again, or delete the folder")
        return store

    @classmethod
    def _locked(cls: type[_R], folder: Path) -> _R:
        lock = RunLock(folder)
        if not lock.acquire():
            raise StoreError(f"the run in {folder} is being written by another process{_holder(folder)}; wait for it, or stop it")
        try:
            database = Database(folder / DATABASE, write=True)
            try:
                store = cls(folder, database, lock)
                with database.transaction("open the run"):
                    store._set_meta("holder", json.dumps({"pid": os.getpid(), "host": platform.node(), "since": now()}))
            except BaseException:
                database.close()
                raise
        except BaseException:
            lock.release()
            raise
        return store

    def close(self) -> None:
        """Close the file and let others write. A run that was not finished counts as interrupted from now on. Idempotent."""
        self._database.close()
        if self._lock is not None:
            self._lock.release()

    def __enter__(self: _R) -> _R:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    @property
    def id(self) -> str:
        """The folder's name."""
        return self.folder.resolve().name

    @property
    def plan(self) -> Json:
        """The plan that the run was started with."""
        return self._plan

    @property
    def plan_digest(self) -> str:
        """Digest of the plan: what the entry calls the run's digest."""
        return digest(self._plan)

    @property
    def started(self) -> str:
        """When the run was created: ISO 8601, UTC."""
        return str(json.loads(self._database.value("SELECT value FROM meta WHERE key = 'started'") or '""'))

    @property
    def status(self) -> RunStatus:
        """``finished`` once :meth:`finish` was called; else ``running`` while a process has it open for writing, else ``interrupted``."""
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


def now() -> str:
    """The time as stored: ISO 8601, UTC, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _difference(stored: Json, given: Json) -> str:
    """The names in which two plans differ."""
    if not isinstance(stored, dict) or not isinstance(given, dict):
        return "its content differs"
    names = [name for name in sorted({*stored, *given}) if stored.get(name) != given.get(name) or (name in stored) != (name in given)]
    return "different: " + ", ".join(names)


def _holder(folder: Path) -> str:
    """Who writes the run, as far as it can be read."""
    try:
        database = Database(folder / DATABASE, write=False)
    except StoreError:
        return ""
    try:
        holder = json.loads(database.value("SELECT value FROM meta WHERE key = 'holder'") or "{}")
        return f" (process {holder['pid']} on {holder['host']}, since {holder['since']})" if holder else ""
    except StoreError:
        return ""
    finally:
        database.close()
