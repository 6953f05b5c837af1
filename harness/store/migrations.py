"""Bringing a run's file up to date, one function per version: each makes of the tables of its version those of the next.

A step is history: it is not changed when the tables change again; they get a step of their own. All steps run in the caller's transaction.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from harness.errors import StoreError
from harness.store.digests import write_all
from harness.store.recovered import recovered_manifest
from harness.types import Json, canonical_json

Step = Callable[[sqlite3.Connection, Path], None]


def migrate(connection: sqlite3.Connection, path: Path, version: int, to: int, *, digested: bool = True) -> None:
    """Bring a file's tables from ``version`` to ``to``; within a transaction.

    Args:
        connection: to the file, or to a copy of it.
        path: the file, in its run's folder: what lies beside it may be read.
        version: what the file has.
        to: what it is to have.
        digested: make the digests, too, for which all is read; a copy that is only read needs none.

    Raises:
        StoreError: rows that no harness wrote.
        sqlite3.Error: the disk refuses.
    """
    for number in range(version, to):
        try:
            STEPS[number](connection, path)
        except (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError, OverflowError) as error:
            raise StoreError(
                f"{path} cannot be brought from store version {number} to {number + 1}: its rows cannot be understood ({error!r}); "
                "it was left as it is",
                given=number,
                hint="use the harness that wrote it, or choose another folder (--out)",
            ) from error
        connection.execute(f"PRAGMA user_version={number + 1}")
    if digested:
        write_all(connection)


# -------------------------------------------------------------------------------------------------------------------------- 1 to 2

_TABLES_OF_2 = (
    "CREATE TABLE methods (position INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, role TEXT, value TEXT NOT NULL)",
    """CREATE TABLE items (
    position INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, method_id TEXT NOT NULL, labeling_id TEXT NOT NULL,
    concept_id TEXT NOT NULL, strength, instruction_id TEXT NOT NULL, seed NOT NULL, draw NOT NULL, value TEXT NOT NULL
)""",
    """CREATE TABLE outcomes (
    stage TEXT NOT NULL, source TEXT NOT NULL, item_id TEXT NOT NULL REFERENCES items (id), status TEXT NOT NULL, ticket TEXT NOT NULL,
    created TEXT NOT NULL, concept REAL, instruction REAL, fluency REAL, reason TEXT NOT NULL, value TEXT NOT NULL,
    PRIMARY KEY (stage, source, item_id)
)""",
    "CREATE INDEX outcomes_of_item ON outcomes (item_id, stage)",
    "CREATE TABLE facts (name TEXT PRIMARY KEY, value NOT NULL)",
)
_STATUS_OF_2 = {"rated": "done", "unrated": "failed", "pending": "pending"}


def _to_2(connection: sqlite3.Connection, path: Path) -> None:
    """Trials, texts and ratings become items and outcomes with columns; the plan becomes the identity of a manifest."""
    stored = connection.execute("SELECT value FROM meta WHERE key = 'plan'").fetchone()
    plan: Json = None if stored is None else json.loads(stored[0])
    if plan is not None:
        manifest = recovered_manifest(connection, path.parent, plan)
        connection.execute("INSERT INTO meta VALUES ('manifest', ?)", (canonical_json(manifest),))
        connection.execute("DELETE FROM meta WHERE key = 'plan'")
        unknown = ["everything but the identity"] if "incomplete" in manifest else manifest["unknown"]
        note = canonical_json({"from": 1, "to": 2, "unknown": unknown})
        when = datetime.now(timezone.utc).isoformat(timespec="seconds")
        connection.execute("INSERT INTO notes (created, kind, value) VALUES (?, 'migrated', ?)", (when, note))
    connection.execute("ALTER TABLE methods RENAME TO old_methods")
    for table in _TABLES_OF_2:
        connection.execute(table)
    listed = plan.get("methods", []) if isinstance(plan, dict) else []
    roles = {method["id"]: method["role"] for method in listed}
    methods = connection.execute("SELECT position, id, value FROM old_methods").fetchall()
    rows = [(position, name, roles.get(name), value) for position, name, value in methods]
    connection.executemany("INSERT INTO methods VALUES (?, ?, 'steering', ?, ?)", rows)
    connection.executemany(f"INSERT INTO items VALUES ({', '.join('?' * 11)})", _items_of_1(connection))
    put = f"INSERT INTO outcomes VALUES ({', '.join('?' * 11)})"
    connection.executemany(put, _texts_of_1(connection))
    connection.executemany(put, _ratings_of_1(connection))
    for old in ("ratings", "generations", "trials", "old_methods"):
        connection.execute(f"DROP TABLE {old}")


def _items_of_1(connection: sqlite3.Connection) -> Iterator[tuple[Any, ...]]:
    for position, identity, text in connection.execute("SELECT position, id, value FROM trials ORDER BY position"):
        trial = json.loads(text)
        numbers = [trial[name] for name in ("strength", "seed", "draw")]
        strength, seed, draw = (str(n) if isinstance(n, int) and not -(2**63) <= n < 2**63 else n for n in numbers)
        places = (trial["method_id"], trial["labeling_id"], trial["concept_id"], strength, trial["instruction_id"], seed, draw)
        yield (position, identity, "steering", *places, "{}")


def _texts_of_1(connection: sqlite3.Connection) -> Iterator[tuple[Any, ...]]:
    sql = "SELECT g.trial_id, g.created, g.value FROM generations g JOIN trials t ON t.id = g.trial_id ORDER BY t.position"
    for identity, created, text in connection.execute(sql):
        value = json.loads(text)
        del value["trial_id"]
        yield ("generate", "", identity, "done", "", created, None, None, None, "", canonical_json(value))


def _ratings_of_1(connection: sqlite3.Connection) -> Iterator[tuple[Any, ...]]:
    sql = (
        "SELECT r.judge_key, r.trial_id, r.created, r.value FROM ratings r JOIN trials t ON t.id = r.trial_id "
        "ORDER BY r.judge_key, t.position"
    )
    for judge, identity, created, text in connection.execute(sql):
        rating = json.loads(text)
        numbers = [rating[name] for name in ("concept", "instruction", "fluency")]
        value = canonical_json({"details": rating["details"]})
        status = _STATUS_OF_2[rating["status"]]
        yield ("rate", judge, identity, status, rating["ticket"], created, *numbers, rating["reason"], value)


# -------------------------------------------------------------------------------------------------------------------------- 2 to 3


def _to_3(connection: sqlite3.Connection, path: Path) -> None:
    """Digests of groups of records; :func:`migrate` fills them."""
    connection.execute("CREATE TABLE digests (name TEXT PRIMARY KEY, rows INTEGER NOT NULL, value TEXT NOT NULL) WITHOUT ROWID")


SAME_TABLES_SINCE = 2
"""From this version on a file has all that is read of one: later steps add digests, which only a writer needs. It is read as it lies."""

STEPS: dict[int, Step] = {1: _to_2, 2: _to_3}
"""What brings a file of this version to the next."""
