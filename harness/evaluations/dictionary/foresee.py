"""What the dictionaries of a run will take before anything is trained: counts, and times at the pace of earlier runs on this machine."""

from __future__ import annotations

from dataclasses import dataclass

from harness.evaluations.dictionary.pace import measuring_name, opening_name
from harness.evaluations.dictionary.records import all_subjects, unmeasured
from harness.run.bench import TaskBench
from harness.run.foreseen_trainings import Trainings, foresee_trainings, labelled_dictionaries, seconds_for
from harness.run.plan import Plan


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
    """Return what a plan takes for dictionaries that are trained first, for its labelers or its metrics, and what its metrics take.

    None where it has neither. Loads, trains and draws nothing.

    Raises:
        DataError: a file of token ids cannot be read.
        UnknownNameError: a labeler names a dictionary that the task does not have.
    """
    from harness.model.devices import choose_device

    device, subjects = choose_device(bench.choices.device).type, all_subjects(plan, bench)
    trainings = foresee_trainings(bench, {subject.member for subject in subjects} | labelled_dictionaries(plan, bench), device)
    if not trainings and not plan.metrics:
        return None
    counts: dict[str, tuple[str, int]] = {}
    for planned in plan.metrics:
        name = measuring_name(bench, planned.metric, device)
        counts[name] = (planned.metric.label, counts.get(name, ("", 0))[1] + unmeasured(planned, bench))
    measurements = [Measurements(label, n, seconds_for(n, name)) for name, (label, n) in counts.items()]
    return Foreseen(tuple(trainings), tuple(measurements), seconds_for(len(subjects), opening_name(bench, device)) if subjects else 0.0)
