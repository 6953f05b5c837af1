"""Measurements by workers: each measures a dictionary by a metric at a bench of its own; the driver alone stores what is found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.contracts import Metered, Priced
from harness.engine.spreading.schedule import QuarantinedError
from harness.errors import DataError, DictionaryError
from harness.evaluations.base import Stage
from harness.evaluations.dictionary.measure import measured
from harness.evaluations.dictionary.records import all_subjects
from harness.evaluations.dictionary.rows import keep_digest
from harness.evaluations.dictionary.subjects import SubjectRef, open_subject
from harness.run.bench import TaskBench
from harness.run.choices import Choices
from harness.run.guard import MODEL
from harness.run.plan import PlannedMetric
from harness.run.run import Run
from harness.run.spread_training import train_ahead
from harness.store.values import Outcome
from harness.types import Json

if TYPE_CHECKING:
    from harness.contracts import Workers
    from harness.plugin.registry import Registered
    from harness.tasks.schema import Task


@dataclass(frozen=True)
class Wanted:
    """A measurement that is to be made.

    Attributes:
        name: of its record.
        subject: the dictionary.
        planned: the metric.
        seed: the metric's own.
    """

    name: str
    subject: SubjectRef
    planned: PlannedMetric
    seed: int


@dataclass(frozen=True, eq=False)
class Place:
    """What a worker opens a bench of.

    Attributes:
        task: the task, in a folder that the worker sees, too.
        choices: what the command line replaced.
        cache: the folder of artifacts, which driver and workers share.
        corpus: the digest of the driver's corpus; None for a task without one.
    """

    task: Task
    choices: Choices
    cache: Path
    corpus: str | None

    @classmethod
    def of(cls, bench: TaskBench) -> Place:
        """Return what makes another bench like this one, in a process that does everything itself."""
        alone = replace(bench.choices, executor=None, workers=None, ray_address=None)
        return cls(bench.task, alone, bench.artifacts.root, bench.corpus_digest if bench.has_corpus else None)

    def open(self, engine: Any) -> TaskBench:
        """Return a bench with the worker's model, if there is one. Raises DataError where this machine has another corpus than the driver's."""
        from harness.files.artifacts import ArtifactCache
        from harness.files.progress import Progress

        model, choices = engine.model, self.choices
        if model is None and engine.device.type != "cpu":
            choices = replace(choices, device=str(engine.device))  # else there is a model, which says where
        bench = TaskBench(self.task, choices, ArtifactCache(self.cache), Progress(quiet=True))
        if model is None:
            return bench
        bench.model = model
        bench.guard.watch("the subject model of a worker", model.hf, lambda: None, [model.tokenizer, model.format, model], MODEL)
        if self.corpus is not None and bench.corpus_digest != self.corpus:
            message = f"a worker reads another corpus than the driver: {bench.corpus_path}"
            raise DataError(message, given=bench.corpus_digest, allowed=self.corpus, hint="give all machines the same files")
        return bench


@dataclass(frozen=True)
class Found:
    """What a worker has measured.

    Attributes:
        value: the measurement, as JSON.
        digest: of the dictionary's weights.
        warnings: what the worker's bench has found worth saying so far.
    """

    value: Json
    digest: str
    warnings: Sequence[str]


@dataclass(frozen=True, eq=False)
class MeasureWork:
    """A dictionary that a worker measures by a metric (:class:`harness.engine.spreading.work.Work`); a part for each seed of the metric's own.

    Attributes:
        place: whose bench.
        subject: the dictionary.
        everybody: see :func:`harness.evaluations.dictionary.subjects.open_subject`.
        registered: the metric.
        options: its.
        seeds: by the name of the record.
    """

    place: Place
    subject: SubjectRef
    everybody: Sequence[SubjectRef]
    registered: Registered
    options: Mapping[str, Json]
    seeds: Mapping[str, int] = field(default_factory=dict)

    @property
    def names(self) -> Sequence[str]:
        return list(self.seeds)

    def do(self, engine: Any) -> Iterator[tuple[str, Found]]:
        bench = _bench(engine, self.place)
        subject, metric = open_subject(bench, self.subject, self.everybody), self.registered.create(self.options)
        for name, seed in self.seeds.items():
            found = measured(metric, self.registered.who, bench, subject, seed)
            yield name, Found(found.as_json(), subject.dictionary.digest, tuple(bench.warnings.messages))


_opened: list[tuple[Any, str, TaskBench]] = []
"""The bench that this process, a worker, has opened for the run, so that corpus and dictionaries are opened once; whose engine, and of what task."""


def _bench(engine: Any, place: Place) -> TaskBench:
    """Return a worker's bench, opened when it is first asked for."""
    what = repr((place.task.folder, place.task.cell, place.choices, place.cache, place.corpus))
    if not (_opened and _opened[0][0] is engine and _opened[0][1] == what):
        _opened[:] = [(engine, what, place.open(engine))]
    return _opened[0][2]


def by_workers(run: Run, stage: Stage, wanted: Sequence[Wanted]) -> Iterator[Outcome]:
    """Yield the outcomes of those measurements that workers can make, as they come: none without workers, or where there is but one piece of work.

    Dictionaries that the task trains are trained before, by workers, too.

    Raises:
        QuarantinedError: at the end, for measurements that failed on several workers.
        HarnessError: at once, what a metric raised.
    """
    workers = run.bench.workers
    if workers is None or not wanted:
        return
    everybody = all_subjects(run.planned, run.bench)
    members = list(dict.fromkeys(ref.member for ref in everybody))
    train_ahead(run.bench, members, workers)
    for table in run.bench.task.file.ensembles:
        if table.name in members:
            _ = run.bench.dictionaries[table.name]  # made here, where each member of a boosted one waits for the one before
    works = _works(run, workers, wanted, everybody)
    if len(works) < 2:
        return
    known = {one.name: one for one in wanted}
    with run.progress.task("measuring dictionaries by workers", sum(len(work.seeds) for work in works)) as bar:
        try:
            for name, found in workers.do(works):
                one = known[name]
                _check_weights(run, one, found)
                for message in found.warnings:
                    run.bench.warn(message)
                keep_digest(run.store, [name], found.digest)
                run.progress.step(f"measured {one.planned.metric.label} of {one.subject.title}")
                yield Outcome(name, stage.source, "done", found.value)
                bar(1)
        except QuarantinedError as error:
            called = {one.name: f"{one.planned.metric.label} of {one.subject.title}" for one in wanted}
            raise error.naming(called) from error.__cause__


def _works(run: Run, workers: Workers, wanted: Sequence[Wanted], everybody: Sequence[SubjectRef]) -> list[MeasureWork]:
    """Return the pieces of work, a dictionary and a metric each; of a metric that workers cannot have, why is said once."""
    place = Place.of(run.bench)
    groups: dict[tuple[SubjectRef, int], list[Wanted]] = {}
    for one in wanted:
        groups.setdefault((one.subject, id(one.planned.metric)), []).append(one)
    refused: dict[int, str] = {}
    works = []
    for (subject, which), group in groups.items():
        metric = group[0].planned.metric
        work = MeasureWork(place, subject, everybody, metric.registered, metric.options, {one.name: one.seed for one in group})
        if which not in refused:
            refused[which] = _asks(metric.instance) or workers.refuses(work) or ""
            if refused[which]:
                run.progress.step(f"{metric.label} is measured in this process: {refused[which]}")
        if not refused[which]:
            works.append(work)
    return works


def _asks(metric: Any) -> str:
    """Return why a metric is left to the driver that asks an API, empty for any other: what is paid for is approved and counted there."""
    return "it asks an API, and what that takes is counted here" if isinstance(metric, Priced | Metered) else ""


def _check_weights(run: Run, one: Wanted, found: Found) -> None:
    """Raise DictionaryError where a worker has measured other weights than the run's."""
    stated = next((record.digest for record in run.manifest.metrics if record.id == one.name), "")
    if stated and stated != found.digest:
        message = f"a worker has measured another dictionary than {one.subject.title}: {found.digest}"
        raise DictionaryError(message, given=found.digest, allowed=stated, hint="give all machines the same files")
