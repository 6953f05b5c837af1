"""What the dictionaries of a run will take before anything is trained: counts, and times at the pace of earlier runs on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.evaluations.dictionary.pace import measuring_name, opening_name
from harness.evaluations.dictionary.records import all_subjects, unmeasured
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


@dataclass(frozen=True)
class Measurements:
    """The measurements of one metric.

    Attributes:
        metric: its label.
        n: dictionaries, controls and seeds.
        seconds: that all take; None where this machine has not measured it yet.
    """

    metric: str
    n: int
    seconds: float | None


@dataclass(frozen=True)
class Foreseen:
    """What a run's dictionaries take.

    Attributes:
        trainings: table by table.
        measurements: metric by metric.
        opening: seconds for opening all that is measured, controls drawn and matched among them; None where that is not known.
    """

    trainings: tuple[Trainings, ...]
    measurements: tuple[Measurements, ...]
    opening: float | None

    @property
    def unknown(self) -> list[str]:
        """Return what this machine has not done yet, so that its time is not known."""
        missing = [f"training {one.table}" for one in self.trainings if one.seconds is None]
        return missing + [f"measuring {one.metric}" for one in self.measurements if one.seconds is None]

    @property
    def seconds(self) -> float | None:
        """Return the time of all together; None where a part is not known."""
        parts = [*(one.seconds for one in self.trainings), *(one.seconds for one in self.measurements), self.opening]
        known = [part for part in parts if part is not None]
        return sum(known) if len(known) == len(parts) else None


def foresee_dictionaries(plan: Plan, bench: TaskBench) -> Foreseen | None:
    """Return what the metrics of a plan take; None where it has none. Loads, trains and draws nothing.

    Raises DataError for a file of token ids that cannot be read.
    """
    from harness.model.devices import choose_device

    if not plan.metrics:
        return None
    device, subjects = choose_device(bench.choices.device).type, all_subjects(plan, bench)
    needed = _needed(bench, {subject.member for subject in subjects})
    collected: set[tuple[object, ...]] = set()
    trainings = [_trainings(bench, table, names, device, collected) for table, names in needed]
    counts: dict[str, tuple[str, int]] = {}
    for planned in plan.metrics:
        name = measuring_name(bench, planned.metric, device)
        counts[name] = (planned.metric.label, counts.get(name, ("", 0))[1] + unmeasured(planned, bench))
    measurements = [Measurements(label, n, _seconds(n, name)) for name, (label, n) in counts.items()]
    return Foreseen(tuple(trainings), tuple(measurements), _seconds(len(subjects), opening_name(bench, device)))


def _seconds(n: float, name: str) -> float | None:
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
    tokens = _tokens(bench, table, [n for _, n in found.values() if n is not None])
    data = (table.layer, table.texts, table.tokens, table.max_tokens, table.seeds[0] if table.max_tokens else None)
    if len(missing) < len(names):
        collected.add(data)
    parts: list[float | None] = []
    if missing and data not in collected:
        parts.append(None if tokens is None else _seconds(tokens, collecting_name(bench.task, device)))
        collected.add(data)
    for control in missing:
        parts.append(None if tokens is None else _training_seconds(bench, table, control, tokens * table.epochs, device))
    known = [part for part in parts if part is not None]
    seconds = sum(known) if len(known) == len(parts) else None
    return Trainings(table.name, len(names), len(names) - len(missing), table.width, table.epochs, tokens, seconds)


def _training_seconds(bench: TaskBench, table: TrainTable, control: str, tokens: float, device: str) -> float | None:
    """Return what a training takes, by the pace of its like; until a control has been trained, by that of what it controls."""
    own = _seconds(tokens, training_name(bench.task, table, control, device))
    return own if own is not None else _seconds(tokens, training_name(bench.task, table, "none", device))


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
