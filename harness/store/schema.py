"""The tables of a run's file, as a new one gets them. A change of theirs is a new version, with a step in ``migrations.py``."""

from __future__ import annotations

from harness.files.sqlite import SqliteKind

SCHEMA_VERSION = 3

RUN_STORE = SqliteKind(
    application_id=0x48524E53,  # "HRNS"
    version=SCHEMA_VERSION,
    name="run store",
    version_name="store version",
    elsewhere="choose another folder (--out)",
    kept="everything stored before is safe in {path}",
    repair="other runs are not affected; put a copy back, save what can be read with `sqlite3 FILE .recover`, or delete the folder to start again",
)

# strength, seed and draw have no type, so that SQLite keeps numbers as they come: an id is a digest of them, in which 1, 1.0 and -0.0 differ.
SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE texts (id INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, text TEXT NOT NULL);
CREATE TABLE concept_values (digest TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE concepts (position INTEGER PRIMARY KEY, digest TEXT NOT NULL REFERENCES concept_values (digest));
CREATE TABLE instructions (position INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, value TEXT NOT NULL);
CREATE TABLE labelers (key TEXT PRIMARY KEY, answers_digest TEXT NOT NULL, finished TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE answers (
    labeler_key TEXT NOT NULL REFERENCES labelers (key), position INTEGER NOT NULL, kind TEXT NOT NULL, labeling_id TEXT,
    concept_digest TEXT NOT NULL REFERENCES concept_values (digest), value TEXT NOT NULL, PRIMARY KEY (labeler_key, position)
) WITHOUT ROWID;
CREATE TABLE judges (position INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, value TEXT NOT NULL);
CREATE TABLE methods (position INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, role TEXT, value TEXT NOT NULL);
CREATE TABLE items (
    position INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, method_id TEXT NOT NULL, labeling_id TEXT NOT NULL,
    concept_id TEXT NOT NULL, strength, instruction_id TEXT NOT NULL, seed NOT NULL, draw NOT NULL, value TEXT NOT NULL
);
CREATE TABLE outcomes (
    stage TEXT NOT NULL, source TEXT NOT NULL, item_id TEXT NOT NULL REFERENCES items (id), status TEXT NOT NULL, ticket TEXT NOT NULL,
    created TEXT NOT NULL, concept REAL, instruction REAL, fluency REAL, reason TEXT NOT NULL, value TEXT NOT NULL,
    PRIMARY KEY (stage, source, item_id)
);
CREATE INDEX outcomes_of_item ON outcomes (item_id, stage);
CREATE TABLE facts (name TEXT PRIMARY KEY, value NOT NULL);
CREATE TABLE notes (id INTEGER PRIMARY KEY, created TEXT NOT NULL, kind TEXT NOT NULL, value TEXT NOT NULL);
CREATE TABLE digests (name TEXT PRIMARY KEY, rows INTEGER NOT NULL, value TEXT NOT NULL) WITHOUT ROWID;
"""


def statements(schema: str) -> list[str]:
    """Return the statements of a schema, one by one."""
    return [statement.strip() for statement in schema.split(";") if statement.strip()]
