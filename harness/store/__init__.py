"""The run store (SQLite): append, resume, list, rows for tables."""

from __future__ import annotations

from harness.store.export import COLUMNS, OUTCOME_COLUMNS
from harness.store.folder import DATABASE, ENTRY, RunStatus
from harness.store.items import Note
from harness.store.listing import JudgeProgress, KindProgress, RunSummary, list_runs, summarize
from harness.store.manifest import Manifest
from harness.store.run import Record, RunStore
from harness.store.schema import SCHEMA_VERSION
from harness.store.values import GENERATE, RATE, Item, JudgeRecord, Outcome, OutcomeStatus
from harness.store.verify import Verified, verify

__all__ = [
    "COLUMNS", "DATABASE", "ENTRY", "GENERATE", "OUTCOME_COLUMNS", "RATE", "SCHEMA_VERSION", "Item", "JudgeProgress", "JudgeRecord",
    "KindProgress", "Manifest", "Note", "Outcome", "OutcomeStatus", "Record", "RunStatus", "RunStore", "RunSummary", "Verified",
    "list_runs", "summarize", "verify",
]  # fmt: skip
