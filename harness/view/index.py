"""The index of a run's texts: a file of SQLite in the cache, with the columns that filters ask for and the words of every text (FTS5).

It holds nothing that is not in the run's file, and is made again where it is missing, damaged, of another version or of another run.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from harness.errors import StoreError
from harness.files.cache_dir import cache_root
from harness.files.sqlite import SqliteKind, connect, set_journal, stamp, version_of
from harness.judging.agreement import OVERALL
from harness.scoring.ratings import CONCEPT_COUNTS
from harness.store.schema import statements
from harness.types import ASPECTS, Goal, digest
from harness.view.filters import Columns

INDEX = SqliteKind(
    application_id=0x48525658,  # "HRVX"
    version=1,
    name="index of texts",
    version_name="index version",
    elsewhere="set HARNESS_CACHE to another folder",
    kept="the run itself is not affected",
    repair="delete the file; it is made again",
)
UNUSED = 30 * 86_400
"""Seconds after which an index that nobody has opened is removed."""

# groups: what of the run's file the index follows. seen: a row of the run's outcomes, by its rowid there; ratings and texts name theirs as seq.
SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE groups (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, rows INTEGER NOT NULL, value TEXT NOT NULL);
CREATE TABLE seen (seq INTEGER PRIMARY KEY, group_id INTEGER NOT NULL, digest BLOB NOT NULL);
CREATE TABLE texts (
    position INTEGER PRIMARY KEY, id TEXT NOT NULL, seq INTEGER NOT NULL, method_id TEXT NOT NULL, labeling_id TEXT NOT NULL,
    concept_id TEXT NOT NULL, strength, instruction_id TEXT NOT NULL, differ REAL
);
CREATE INDEX texts_of_labeling ON texts (labeling_id, method_id, strength);
CREATE INDEX texts_by_seq ON texts (seq);
CREATE TABLE judges (id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE);
CREATE TABLE ratings (
    position INTEGER NOT NULL, judge INTEGER NOT NULL, seq INTEGER NOT NULL, status TEXT NOT NULL, overall REAL, concept REAL, instruction REAL,
    fluency REAL, PRIMARY KEY (position, judge)
) WITHOUT ROWID;
CREATE INDEX ratings_by_seq ON ratings (seq);
CREATE TABLE chosen (
    judge TEXT NOT NULL, method_id TEXT NOT NULL, labeling_id TEXT NOT NULL, strength NOT NULL, PRIMARY KEY (judge, method_id, labeling_id)
) WITHOUT ROWID;
CREATE VIRTUAL TABLE words USING fts5 (text, instruction, concept, tokenize = 'unicode61 remove_diacritics 2')
"""

COLUMNS = Columns(
    tables="texts i LEFT JOIN ratings o ON o.position = i.position AND o.judge = (SELECT id FROM judges WHERE key = ?)",
    overall=f"o.{OVERALL}",
    seq="i.seq",
    differ="i.differ",
)
"""How the index names what filters speak of."""



def overall_sql(goal: Goal) -> str:
    """Return the SQL of a text's score, the harmonic mean of its ratings as they count toward a goal; null without a rating.

    The run's file does not hold it.
    """
    (offset, factor), (concept, *others) = CONCEPT_COUNTS[goal], (f"o.{aspect}" for aspect in ASPECTS)
    parts = [f"({offset} + {factor} * {concept})", *others]
    return "CASE WHEN min({0}, {1}, {2}) > 0 THEN 3.0 / (1.0 / {0} + 1.0 / {1} + 1.0 / {2}) WHEN {0} IS NOT NULL THEN 0.0 END".format(*parts)


def run_columns(goal: Goal) -> Columns:
    """Return how the file of a run names what filters speak of; ``goal`` is what steering was for."""
    return Columns(
        tables=(
            "items i CROSS JOIN outcomes t ON t.item_id = i.id AND t.stage = 'generate' AND t.status = 'done' "
            "LEFT JOIN outcomes o ON o.stage = 'rate' AND o.source = ? AND o.item_id = i.id"
        ),
        overall=overall_sql(goal),
        seq="t.rowid",
    )


class Index:
    """The index of one run. Any number of threads and processes may read it and bring it up to date."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextlib.contextmanager
    def open(self, *, write: bool = False) -> Iterator[sqlite3.Connection]:
        """Yield a connection. Raises sqlite3.Error."""
        connection = connect(self.path, "rw" if write else "ro", timeout=20.0)
        try:
            if write:
                connection.execute("PRAGMA synchronous=OFF")  # it can be made again
            yield connection
        finally:
            connection.close()

    def meta(self, connection: sqlite3.Connection, key: str, default: str = "") -> str:
        """Return a fact of the index."""
        row = connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return default if row is None else str(row[0])


def open_index(folder: Path, identity: str) -> Index:
    """Return the index of a run, made empty where there is none that can be used.

    Args:
        folder: the run's; together with ``identity`` it names the index, so that copies of a run have one each.
        identity: which run it is (:func:`harness.view.run_file.identity_of`).

    Raises:
        StoreError: no folder can be written to, not even a temporary one.
    """
    name = f"{digest([str(folder.resolve()), identity], 24)}.sqlite"
    for place in (_cache, _temporary):
        try:
            path = place() / name
            _prepare(path)
            return Index(path)
        except (OSError, sqlite3.Error, StoreError) as error:
            reason = error
    raise StoreError(f"no index of texts can be made: {reason}", given=name, hint=INDEX.elsewhere) from reason


def _cache() -> Path:
    folder = cache_root() / "view"
    folder.mkdir(parents=True, exist_ok=True)
    _remove_unused(folder)
    return folder


def _temporary() -> Path:
    """A folder of this process alone, which goes when the process ends."""
    import atexit

    folder = Path(tempfile.mkdtemp(prefix="harness-view-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _remove_unused(folder: Path) -> None:
    for path in folder.glob("*.sqlite"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > UNUSED:
                _remove(path)


def _remove(path: Path) -> None:
    for end in ("", "-wal", "-shm", "-journal"):
        path.with_name(path.name + end).unlink(missing_ok=True)


def _prepare(path: Path) -> None:
    """Make the file, or find that it can be used as it is."""
    try:
        usable = _fill(path)
    except sqlite3.DatabaseError as error:
        if "locked" in str(error) or "readonly" in str(error):
            raise
        usable = False
    if not usable:
        _remove(path)
        _fill(path)
    path.touch()


def remove_index(index: Index) -> None:
    """Remove a damaged index; it is made again when it is opened."""
    _remove(index.path)


def _fill(path: Path) -> bool:
    """Make the tables of an empty file; return False for a file of another version, or another program's."""
    with contextlib.closing(connect(path)) as connection:
        connection.execute("BEGIN IMMEDIATE")  # another process may be making them
        try:
            version = version_of(connection, path, INDEX)
            if version is None:
                for statement in statements(SCHEMA):
                    connection.execute(statement)
                stamp(connection, INDEX)
        except StoreError:
            connection.execute("ROLLBACK")
            return False
        connection.execute("COMMIT")
        if version is None:
            with contextlib.suppress(sqlite3.OperationalError):  # somebody reads it already; without a log it works, too
                set_journal(connection, path)
    return version in (None, INDEX.version)
