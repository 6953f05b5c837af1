"""One run, as the pages see it: its file, its names, and its index, which a thread of its own keeps up to date while somebody looks."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from harness.errors import StoreError
from harness.store.database import Database
from harness.store.folder import UNREADABLE
from harness.view.errors import NotFound
from harness.view.filters import Cursor, Filter
from harness.view.follow import Follower
from harness.view.index import Index, open_index, remove_index
from harness.view.names import Names, read_names
from harness.view.run_file import Marks, RunFile, identity_of, marks, status_of
from harness.view.text_pages import Counts, IdPage, complete_texts, count, find_in_index, find_in_run, ids_at_all_strengths
from harness.view.texts import JudgeAnswer, Text, Unsteered, cut_into_segments, read_ignored, read_texts, read_unsteered

INTERVAL = 1.0
"""Seconds between two looks at the run's file."""
REST_FACTOR = 3.0
"""After a look that took long, as while a large run is being rated, so many times as long is waited."""
FOLLOW_FOR = 20.0
"""Seconds after the last request for which the index follows the run."""
INDEX_WAIT, INDEX_WAIT_SMALL = 0.3, 3.0
"""Seconds that a page which needs the index waits for it: of a run of any size, and of one of few outcomes, whose index is nearly there."""
_SMALL = 20_000
_COUNTS = 200


def _is_damage(error: sqlite3.Error) -> bool:
    """Return whether an error of the index says that it is broken; else its place is (a full disk, a lock)."""
    return not isinstance(error, sqlite3.OperationalError) or "no such" in str(error)


@dataclass(frozen=True)
class State:
    """How far a run and its index are.

    Attributes:
        status: ``running``, ``finished`` or ``interrupted``.
        trials, texts: planned and written.
        share: how much of the run is in the index, 0 to 1.
        version: another one whenever anything has changed that the index knows.
        damaged: groups of outcomes that are not as they were written.
        problem: why there is no index.
    """

    status: str
    trials: int
    texts: int
    share: float
    version: str
    damaged: tuple[str, ...] = ()
    problem: str = ""


@dataclass(frozen=True)
class Page:
    """A page of texts; ``counts`` is None while they cannot be told, ``partial`` where the index holds a part of the run only."""

    texts: list[Text]
    found: IdPage
    counts: Counts | None
    partial: bool


@dataclass(frozen=True)
class Reading:
    """The run's file, open, with what its ids stand for."""

    database: Database
    names: Names
    marks: Marks


class RunView:
    """See the module. Safe to use from several threads; :meth:`close` ends its thread."""

    def __init__(self, folder: Path, identity: str = "") -> None:
        self.id = identity or folder.resolve().name
        self.folder, self.file = folder, RunFile(folder)
        self.problem = ""
        self._lock = threading.Lock()
        self._index: tuple[str, Index, Follower] | None = None
        self._names: tuple[object, Names] | None = None
        self._unsteered: tuple[object, Unsteered] | None = None
        self._counts: dict[tuple[str, str], Counts] = {}
        self._stop, self._wake, self._complete = threading.Event(), threading.Event(), threading.Event()
        self._asked = 0.0
        self._thread: threading.Thread | None = None

    # ------------------------------------------------------------------------------------------------------------ the run's file

    @contextlib.contextmanager
    def reading(self) -> Iterator[Reading]:
        """Yield the run's file. Raises StoreError where it cannot be read or understood."""
        with self.file.open() as database:
            found = marks(database)
            facts = {name: mark for name, mark in found.items() if not name.startswith(("outcomes ", "items ", "notes"))}
            state: object = facts or self.file.state()
            with self._lock:
                kept = self._names
            if kept is None or kept[0] != state:
                kept = state, read_names(database, self.folder)
                with self._lock:
                    self._names = kept
            yield Reading(database, kept[1], found)

    def names(self) -> Names:
        """Return what the run's ids stand for."""
        with self.reading() as run:
            return run.names

    def _read_unsteered(self, run: Reading) -> Unsteered:
        state: object = (run.marks.get("items steering"), self._names and self._names[0]) if run.marks else self.file.state()
        kept = self._unsteered
        if kept is None or kept[0] != state:
            kept = self._unsteered = state, read_unsteered(run.database, run.names)
        return kept[1]

    def state(self) -> State:
        """Return how far the run is."""
        with self.reading() as run:
            status = status_of(run.database)
            if run.marks:
                trials = run.marks.get("items steering", (0, ""))[0]
            else:
                trials = run.database.value("SELECT count(*) FROM items WHERE kind = 'steering'")
        with self._indexed() as (index, follower, connection):
            version = index.meta(connection, "version", "0")
            texts = connection.execute("SELECT count(*) FROM texts").fetchone()[0]
            share = 1.0 if index.meta(connection, "complete") else follower.share
        if share < 1 and run.marks:
            texts = sum(rows for name, (rows, _) in run.marks.items() if name.startswith("outcomes generate "))
        shown = f"{index.path.stem[:8]}-{version}-{status}" + ("-incomplete" if share < 1 else "")
        return State(status, trials, texts, share, shown, follower.damaged, self.problem)

    # ------------------------------------------------------------------------------------------------------------------ the index

    def _ready(self) -> tuple[Index, Follower]:
        """Return the index of the run that the file holds now, whatever is in it yet."""
        with self.file.open() as database:
            identity = identity_of(database)
        with self._lock:
            if self._index is None or self._index[0] != identity or not self._index[1].path.exists():
                index = open_index(self.folder, identity)
                self._index = identity, index, Follower(self.file, index, self.names, self._stop.is_set)
                self._counts.clear()
                self._complete.clear()
            return self._index[1:]

    @contextlib.contextmanager
    def _indexed(self) -> Iterator[tuple[Index, Follower, sqlite3.Connection]]:
        """Yield the index, open to be read. Raises StoreError where it is damaged, after which it is made again."""
        index, follower = self._ready()
        try:
            with index.open() as connection:
                yield index, follower, connection
        except sqlite3.Error as error:
            if _is_damage(error):
                self._discard(index)
            message = f"the index of this run's texts cannot be read ({error})"
            raise StoreError(message, given=index.path, hint="load the page again; the index is made anew") from error

    def _discard(self, index: Index) -> None:
        """Take a damaged index away; the next request makes it again."""
        remove_index(index)
        with self._lock:
            self._index = None

    def watch(self) -> None:
        """Have the index follow the run for a while; each request calls it."""
        self._asked = time.monotonic()
        self._wake.set()
        with self._lock:
            if self._thread is None and not self._stop.is_set():
                self._thread = threading.Thread(target=self._follow, name=f"view {self.folder.name}", daemon=True)
                self._thread.start()

    def _follow(self) -> None:
        while not self._stop.is_set():
            begun = time.monotonic()
            self.follow_once()
            self._stop.wait(max(INTERVAL, REST_FACTOR * (time.monotonic() - begun)))
            if time.monotonic() - self._asked > FOLLOW_FOR:
                self._wake.clear()
                self._wake.wait()

    def follow_once(self) -> None:
        """Bring the index up to date now; what hinders it is the state's problem."""
        try:
            index, follower = self._ready()
            try:
                follower.follow()
                self._complete.set()
            except sqlite3.Error as error:
                if not _is_damage(error):
                    raise
                self._discard(index)
            self.problem = ""
        except (StoreError, OSError, sqlite3.Error, *UNREADABLE) as error:
            self.problem = " ".join(str(error).split())

    def close(self) -> None:
        """End the thread, and let go of what is open. Idempotent."""
        self._stop.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(5)
        self.file.close()

    # ------------------------------------------------------------------------------------------------------------------ the texts

    def page(self, asked: Filter, cursor: Cursor | None) -> Page:
        """Return a page of the texts that a filter holds."""
        if asked.needs_index:
            self._wait()
        with self.reading() as run, self._indexed() as (index, _, connection):
            complete = bool(index.meta(connection, "complete"))
            if asked.q:
                asked.search.find(connection)
            if complete or asked.needs_index:
                found = find_in_index(connection, asked, cursor)
                counts = self._count(connection, asked, index.meta(connection, "version"))
            else:
                found, counts = find_in_run(run.database, asked, cursor, run.names.rule.goal), None
            texts = complete_texts(run.database, run.names, self._read_unsteered(run), connection, found.ids, asked)
        return Page(texts, found, counts, asked.needs_index and not complete)

    def _wait(self) -> None:
        """Wait a little for an index that is being made."""
        if self._thread is None or self._complete.is_set():
            return
        with self._indexed() as (index, _, connection):
            if index.meta(connection, "complete"):
                return
        with self.reading() as run:
            outcomes = sum(rows for name, (rows, _) in run.marks.items() if name.startswith("outcomes "))
        self._complete.wait(INDEX_WAIT_SMALL if outcomes <= _SMALL else INDEX_WAIT)

    def _count(self, connection: sqlite3.Connection, asked: Filter, version: str) -> Counts:
        key = version, asked.key
        if key not in self._counts:
            if len(self._counts) >= _COUNTS:
                self._counts.clear()
            self._counts[key] = count(connection, asked)
        return self._counts[key]

    def text(self, identity: str, judge: str = "") -> tuple[Text, list[Text], tuple[JudgeAnswer, ...]]:
        """Return a text, those of the same method, concept and instruction at all strengths, and later answers of judges that do not count.

        Raises NotFound for an id of no trial.
        """
        with self.reading() as run, self._indexed() as (_, _, connection):
            asked = Filter(judge=judge or run.names.own_judge)
            texts = complete_texts(run.database, run.names, self._read_unsteered(run), connection, [identity], asked, uncut=True)
            if not texts:
                raise NotFound(f"the run has no text {identity!r:.60}", given=identity, hint="its id is the trial's")
            others = read_texts(run.database, run.names, ids_at_all_strengths(connection, texts[0]))
            ignored = read_ignored(run.database, run.names, identity)
        return texts[0], [replace(text, segments=cut_into_segments(text.text or "")[0]) for text in others.values()], ignored
