"""How a task's scores are made of what is stored."""

from __future__ import annotations

from harness.errors import TaskError
from harness.run.bench import Choices
from harness.store.manifest import Protocol
from harness.tasks.schema import Task
from harness.types import Goal


def protocol_of(task: Task, choices: Choices | None = None, goal: Goal | None = None) -> Protocol:
    """Return how a task's scores are made of what is stored.

    Args:
        task: says it.
        choices: may name another protocol or aggregation than the task does.
        goal: what steering is for, where that is not what the task says.
    """
    table = task.file.evaluation
    goal = goal or table.goal
    own = Protocol(
        name=table.protocol,
        aggregation=table.aggregation,
        repeats=table.repeats,
        splits=table.splits,
        max_unrated=table.max_unrated,
        pi0=table.pi0,
        negatives=table.negatives,
        goal=goal,
        concept_prompt=table.concept_prompt if goal == "suppress" else "",
    )
    return own if choices is None else own.named(choices.protocol, choices.aggregation)


def check_instructions(task: Task, protocol: Protocol, chooses: bool) -> None:
    """Raise TaskError where a concept's instructions are too few for a protocol.

    Args:
        task: says how many each concept gets.
        protocol: by which the run is scored.
        chooses: a method has several strengths; where none has, any number will do.
    """
    count, fewest = task.file.instructions.per_concept, protocol.splits if protocol.name == "cv" else 2
    if chooses and count < fewest:
        what = f"cross-validation over strengths makes {fewest} folds" if protocol.name == "cv" else "protocol axbench cuts them into two halves"
        raise TaskError(
            f"task {task.name!r} draws {count} instructions per concept, but {what}",
            given=count,
            allowed=f"at least {fewest}",
            hint="raise instructions.per_concept" + (" or lower evaluation.splits" if protocol.name == "cv" else ""),
        )
