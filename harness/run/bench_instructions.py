"""The instructions of a bench: where they are, and which of them a concept gets."""

from __future__ import annotations

from pathlib import Path

from harness.errors import DataError
from harness.run.core_bench import CoreBench
from harness.tasks.find import resolve
from harness.types import Concept, Instruction


def instructions_path(bench: CoreBench) -> Path:
    """Return where the instructions are: those of the command line, or of the task. Raises DataError for ``--instructions`` that are not there."""
    if bench.choices.instructions is not None:
        path = Path(bench.choices.instructions).expanduser()
        if not path.exists():
            hint = "give JSONL rows {id, text} or an AlpacaEval JSON list"
            raise DataError(f"--instructions {path} does not exist", given=path, hint=hint)
        return path
    table = bench.task.file.instructions
    return resolve(bench.task, table.source, "--instructions", "set of instructions", table.revision, bench.progress)


def read_instructions(bench: CoreBench) -> tuple[Instruction, ...]:
    """Return the instructions of the run's split. Raises DataError where there are fewer than a concept gets."""
    import harness.data

    found = harness.data.open_instructions(bench.instructions_path, split=bench.split_name)
    wanted = bench.task.file.instructions.per_concept
    if len(found) < wanted:
        raise DataError(
            f"{bench.instructions_path} has {len(found)} instructions{f' of split {bench.split_name!r}' if bench.split_name else ''}",
            given=len(found),
            allowed=f"at least the {wanted} that the task draws for each concept",
            hint="add instructions or lower instructions.per_concept",
        )
    return tuple(found)


def instructions_for(bench: CoreBench, concept: Concept) -> list[Instruction]:
    """Return the instructions of one concept: drawn without replacement, the same for every method of a run with this seed."""
    pool = bench.instructions
    order = bench.rng("instructions", concept.id).permutation(len(pool))
    return [pool[int(i)] for i in order[: bench.task.file.instructions.per_concept]]
