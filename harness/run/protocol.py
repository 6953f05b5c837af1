"""How a task's scores are made of what is stored."""

from __future__ import annotations

from harness.run.bench import Choices
from harness.store.manifest import Protocol
from harness.tasks.schema import Task


def protocol_of(task: Task, choices: Choices | None = None) -> Protocol:
    """Return how a task's scores are made of what is stored; ``choices`` may name another protocol or aggregation than the task does."""
    table = task.file.evaluation
    own = Protocol(
        name=table.protocol,
        aggregation=table.aggregation,
        repeats=table.repeats,
        splits=table.splits,
        max_unrated=table.max_unrated,
        pi0=table.pi0,
    )
    return own if choices is None else own.named(choices.protocol, choices.aggregation)
