"""The run store (SQLite): append, resume, list, export."""

from __future__ import annotations

from harness.store.database import SCHEMA_VERSION
from harness.store.export import COLUMNS, export
from harness.store.folder import DATABASE, ENTRY, RunStatus
from harness.store.listing import JudgeProgress, RunSummary, list_runs, summarize
from harness.store.run import Note, Record, RunStore
from harness.store.values import JudgeRecord

__all__ = [
    "COLUMNS", "DATABASE", "ENTRY", "SCHEMA_VERSION", "JudgeProgress", "JudgeRecord", "Note", "Record", "RunStatus", "RunStore",
    "RunSummary", "export", "list_runs", "summarize",
]  # fmt: skip
