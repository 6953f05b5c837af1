"""What the dictionaries that a run trains will take before anything is trained: counts, and times at the pace of earlier runs on this machine."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.run.bench import TaskBench
from harness.run.ensembled import boosted_name
from harness.run.known_trainings import find_trained
from harness.run.plan import Plan
from harness.run.throughput import collecting_name, recall_rate, training_name
from harness.tasks.dictionaries import TrainTable


@dataclass(frozen=True)
class Trainings:
    """The trainings of one ``[[train]]`` table.

    Attributes:
        table: its name.
        n: dictionaries that the run needs; snapshots of one training are one.
        cached: how many of them the cache holds.
        width: features of each.
        passes: over the tokens.
        tokens: that each training has a pass over, at most; None where only tokenising tells.
        seconds: that what is missing takes, collecting included; None where this machine has trained nothing like it yet.
    """

    table: str
    n: int
    cached: int
    width: int
    passes: float
    tokens: int | None
    seconds: float | None


def labelled_dictionaries(plan: Plan, bench: TaskBench) -> set[str]:
    """Return the dictionaries whose features the labelers of a plan choose among: that of their option ``dictionary``, else the task's first.

    A labeler that follows another answers with the other's features. Raises UnknownNameError for a name that the task does not have.
    """
    if not bench.task.file.dictionary_names:
        return set()
    asked = (labeler.options.get("dictionary") for labeler in plan.labelers if labeler.follows is None)
    return {bench.dictionary_name(None if name is None else str(name)) for name in asked}


def foresee_trainings(bench: TaskBench, members: Iterable[str], device: str) -> list[Trainings]:
    """Return what training takes, table by table, where a run needs the dictionaries ``members`` of its task. Loads and trains nothing.

    Raises DataError for a file of token ids that cannot be read.
    """
    collected: set[tuple[object, ...]] = set()
    return [_trainings(bench, table, names, device, collected) for table, names in _needed(bench, set(members))]


def seconds_for(n: float, name: str) -> float | None:
    """Return what ``n`` of something take at the rate that was kept last under a name (:func:`harness.run.throughput.remember_rate`), or None."""
    rate = recall_rate(name)
    return n / rate if rate else None


def _needed(bench: TaskBench, members: set[str]) -> list[tuple[TrainTable, dict[str, str]]]:
    """Return for each table the trainings that some dictionaries of the task need, by name, with the control of each."""
    file = bench.task.file
    boosted: dict[str, list[str]] = {}
    for ensemble in file.ensembles:
        if ensemble.name not in members:
            continue
        tables = {table.name: table for table in file.train}
        if ensemble.kind == "bagging":
            members = members | set(ensemble.members or tables[ensemble.of or ""].seed_names)
        elif ensemble.of is not None:
            members = members | {ensemble.of}
            boosted.setdefault(ensemble.of, []).extend(boosted_name(tables[ensemble.of], stage) for stage in range(1, ensemble.n or 1))
    found = []
    for table in file.train:
        wholes = {(seed, control): name for name, (seed, control, snapshot) in table.all_names.items() if snapshot is None}
        wanted = {(seed, control) for name, (seed, control, _) in table.all_names.items() if name in members}
        names = {name: control for (seed, control), name in wholes.items() if (seed, control) in wanted}
        names |= dict.fromkeys(boosted.get(table.name, ()), "none")
        if names:
            found.append((table, names))
    return found


def _trainings(bench: TaskBench, table: TrainTable, names: dict[str, str], device: str, collected: set[tuple[object, ...]]) -> Trainings:
    """Return what the trainings of a table take; what several tables are trained on is collected once, and kept in ``collected``."""
    found = {name: find_trained(bench.task, bench.choices, table, name) for name in names}
    missing = [control for name, control in names.items() if not found[name][0]]
    alike = {name: find_trained(bench.task, bench.choices, table, name)[1] for name in table.all_names}  # all seeds have the same tokens
    tokens = _tokens(bench, table, [n for n in alike.values() if n is not None])
    data = (table.layer, table.texts, table.tokens, table.max_tokens, table.seeds[0] if table.max_tokens else None)
    if len(missing) < len(names):
        collected.add(data)
    parts: list[float | None] = []
    if missing and data not in collected:
        parts.append(None if tokens is None else seconds_for(tokens, collecting_name(bench.task, device)))
        collected.add(data)
    for control in missing:
        parts.append(None if tokens is None else _training_seconds(bench, table, control, tokens * table.epochs, device))
    known = [part for part in parts if part is not None]
    seconds = sum(known) if len(known) == len(parts) else None
    return Trainings(table.name, len(names), len(names) - len(missing), table.width, table.epochs, tokens, seconds)


def _training_seconds(bench: TaskBench, table: TrainTable, control: str, tokens: float, device: str) -> float | None:
    """Return what a training takes, by the pace of its like; until a control has been trained, by that of what it controls."""
    own = seconds_for(tokens, training_name(bench.task, table, control, device))
    return own if own is not None else seconds_for(tokens, training_name(bench.task, table, "none", device))


def _tokens(bench: TaskBench, table: TrainTable, earlier: Sequence[int]) -> int | None:
    """Return how many distinct tokens a training has at most: as an earlier one had, as its source says, or as the table allows."""
    import numpy as np

    synthetic = bench.task.file.synthetic
    if synthetic is not None:
        return min(table.max_tokens or synthetic.samples, synthetic.samples)
    if earlier:
        return max(earlier)
    if table.tokens is None:
        return table.max_tokens
    from harness.model.token_file import read_token_file

    file = read_token_file(bench.task.path(table.tokens))
    total = int(np.maximum(file.lengths.astype(np.int64) - file.skip, 0).sum())
    return min(total, table.max_tokens or total)
