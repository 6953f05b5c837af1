"""Digests of what a run's file holds, one per group of records, so that damage is noticed before a value is used.

A group's digest is the sum of the digests of its rows (modulo 2^128), so it costs the same however large the group is: each insert adds, each
delete subtracts, in the transaction of the change itself. Triggers of the writing connection see to that, whichever statement changes a row; they
are not part of the file.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Mapping

GROUPED_BY: Mapping[str, tuple[str, ...]] = {
    "meta": ("key",),
    "texts": (),
    "concept_values": (),
    "concepts": (),
    "instructions": (),
    "labelers": (),
    "answers": ("labeler_key",),
    "judges": (),
    "methods": (),
    "items": ("kind",),
    "outcomes": ("stage", "source"),
    "facts": (),
    "notes": (),
}
"""The tables, each with the columns by which its rows are grouped."""

_SCHEMA = "schema"
_MODULUS = 1 << 128
_EMPTY = (0, f"{0:032x}")
_ADD = "harness_add_digest"


def add(value: str, sign: int, *row: object) -> str:
    """Return a group's digest after a row has come (``sign`` 1) or gone (-1); the empty group's is 32 zeros."""
    return f"{(int(value, 16) + sign * int.from_bytes(row_digest(row), 'big')) % _MODULUS:032x}"


def row_digest(row: tuple[object, ...]) -> bytes:
    """Return the digest of one row, all of its columns in the table's order: 16 bytes."""
    return hashlib.blake2b(ascii(row).encode("ascii"), digest_size=16).digest()  # ascii(), since repr() changes with Python's Unicode tables


def write_all(connection: sqlite3.Connection) -> None:
    """Make all digests of what the tables hold now; within a transaction, in a file that has been checked."""
    connection.execute("DELETE FROM digests")
    rows = [(name, *digest) for name, digest in sorted(_current(connection).items())]
    connection.executemany("INSERT INTO digests VALUES (?, ?, ?)", rows)


def keep_current(connection: sqlite3.Connection) -> None:
    """From now on, each change of a row by this connection changes the digest of its group in the same transaction."""
    connection.create_function(_ADD, -1, add, deterministic=True)
    connection.execute("PRAGMA recursive_triggers=ON")  # else INSERT OR REPLACE deletes without a word
    for table, by in GROUPED_BY.items():
        columns = [name for _, name, *_ in connection.execute(f"PRAGMA table_info({table})")]
        gone, come = _change(table, by, columns, "OLD", -1), _change(table, by, columns, "NEW", 1)
        for event, body in (("INSERT", come), ("DELETE", gone), ("UPDATE", gone + come)):
            connection.execute(f"CREATE TEMP TRIGGER digests_{table}_{event.lower()} AFTER {event} ON main.{table} BEGIN {body} END")


def damaged(connection: sqlite3.Connection) -> list[str]:
    """Return the groups whose rows are not those that were stored, by name; empty for a file that is as it was written.

    Raises:
        sqlite3.Error, UnicodeDecodeError, OverflowError: damage that keeps rows from being read.
    """
    connection.execute("BEGIN")  # one state, whoever writes meanwhile
    try:
        stored = {name: (rows, value) for name, rows, value in connection.execute("SELECT name, rows, value FROM digests")}
        current = _current(connection)
    finally:
        connection.execute("ROLLBACK")
    differ = {name for name in (*stored, *current) if stored.get(name, _EMPTY) != current.get(name, _EMPTY)}
    return sorted(map(str, differ))


def _group(table: str, by: tuple[str, ...], row: str = "") -> str:
    """Return the SQL of a row's group; ``row`` is ``OLD.`` or ``NEW.`` in a trigger."""
    return " || ' ' || ".join([f"'{table}'", *(f"{row}{column}" for column in by)])


def _change(table: str, by: tuple[str, ...], columns: list[str], row: str, sign: int) -> str:
    """Return the statements by which a row's coming or going changes its group's digest.

    No conflict clause stands in them: that of the statement that fires the trigger would take its place.
    """
    name = _group(table, by, f"{row}.")
    values = ", ".join(f"{row}.{column}" for column in columns)
    return (
        f"INSERT INTO digests SELECT {name}, {_EMPTY[0]}, '{_EMPTY[1]}' WHERE NOT EXISTS (SELECT 1 FROM digests WHERE name = {name}); "
        f"UPDATE digests SET rows = rows + ({sign}), value = {_ADD}(value, {sign}, {values}) WHERE name = {name};"
    )


def _current(connection: sqlite3.Connection) -> dict[str, tuple[int, str]]:
    """Return the number of rows and digest of each group, of what the tables hold now; the tables' own definitions are a group, too."""
    found: dict[str, tuple[int, str]] = {}

    def count(name: str, row: tuple[object, ...]) -> None:
        rows, value = found.get(name, _EMPTY)
        found[name] = rows + 1, add(value, 1, *row)

    for row in connection.execute("SELECT type, name, tbl_name, sql FROM main.sqlite_master"):
        count(_SCHEMA, row)
    for table, by in GROUPED_BY.items():
        for name, *row in connection.execute(f"SELECT {_group(table, by)}, * FROM {table}"):
            count(name, tuple(row))
    return found
