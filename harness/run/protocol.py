"""How a task's scores are made of what is stored."""

from __future__ import annotations

from harness.store.manifest import Protocol
from harness.tasks.schema import Task


def protocol_of(task: Task) -> Protocol:
    """Return how a task's scores are made of what is stored."""
    table = task.file.evaluation
    return Protocol(repeats=table.repeats, splits=table.splits, max_unrated=table.max_unrated, pi0=table.pi0)
