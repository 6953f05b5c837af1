"""Dictionary: metric × dictionary × seed → measurement."""

from __future__ import annotations

import itertools
from collections.abc import Container, Iterator, Sequence
from typing import Any

from harness.contracts import Priced, Work
from harness.evaluations.base import Stage
from harness.evaluations.dictionary.measure import measured
from harness.evaluations.dictionary.pace import Pace, measuring_name, opening_name
from harness.evaluations.dictionary.records import all_subjects, record_id, seeds_of, subjects_of, unmeasured
from harness.evaluations.dictionary.rows import MEASURE, dictionary_rows, keep_digest
from harness.evaluations.dictionary.spread import Wanted, by_workers
from harness.evaluations.dictionary.subjects import open_subject
from harness.files.timing import CLOCK, OPENING
from harness.leaderboard.entry import Row
from harness.run.notes import chat_news, note_versions
from harness.run.plan import PlannedMetric
from harness.run.prepare import note_usage
from harness.run.profile import METRICS
from harness.run.run import Run
from harness.run.spending import Meter
from harness.sae.subject import DictionarySubject
from harness.store import JudgeRecord, RunStore
from harness.store.manifest import Manifest
from harness.store.values import Item, Outcome
from harness.types import EvaluationKind, Measurement


class DictionaryEvaluation:
    """See the module. Implements :class:`harness.evaluations.base.Evaluation`."""

    kind: EvaluationKind = "dictionary"

    def wanted(self, manifest: Manifest) -> bool:
        return bool(manifest.metrics)

    def stages(self, run: Run) -> Sequence[Stage]:
        return (Stage(MEASURE, "", spread=True),)

    def items(self, run: Run, stage: Stage) -> Sequence[Item]:
        return [
            Item(
                record.id,
                self.kind,
                {"dictionary": record.dictionary, "arm": record.arm, "training_seed": record.training_seed},
                method_id=record.id,
                seed=record.metric_seed,
            )
            for record in run.manifest.metrics
        ]

    def work(self, run: Run, stage: Stage, items: Sequence[Item]) -> Iterator[Outcome]:
        """Yield the outcomes dictionary by dictionary, so that each is opened once for all of its metrics; those that workers make come first."""
        plan, missing = run.planned, {item.id for item in items}
        note_versions(run.store, run.warnings, "metrics", [planned.metric.registered.made_by for planned in plan.metrics])
        _approve(run)
        done: set[str] = set()
        pace = Pace()
        try:
            for outcome in by_workers(run, stage, _wanted(run, missing)):
                done.add(outcome.item_id)
                yield outcome
            yield from _outcomes(run, stage, missing - done, pace)
        finally:
            pace.keep()

    def score(self, manifest: Manifest, store: RunStore, judge: JudgeRecord | None) -> Sequence[Row]:
        return dictionary_rows(manifest, store)


def _wanted(run: Run, missing: Container[str]) -> list[Wanted]:
    """Return the measurements whose items are ``missing`` (ids), dictionary by dictionary."""
    plan, bench = run.planned, run.bench
    return [
        Wanted(name, ref, planned, seed)
        for ref in all_subjects(plan, bench)
        for planned in plan.metrics
        if ref in subjects_of(planned, bench)
        for seed in seeds_of(planned, bench)
        if (name := record_id(planned.metric, ref, seed)) in missing
    ]


def _outcomes(run: Run, stage: Stage, missing: Container[str], pace: Pace) -> Iterator[Outcome]:
    """Yield the outcomes of the items ``missing`` (ids), made in this process."""
    from harness.model.devices import choose_device

    bench = run.bench
    everybody, device = all_subjects(run.planned, bench), choose_device(bench.choices.device).type
    asked = {ref: list(group) for ref, group in itertools.groupby(_wanted(run, missing), key=lambda one: one.subject)}
    for ref, group in run.progress.track(asked.items(), "measuring dictionaries", len(asked)):
        with pace.timed(opening_name(bench, device)), CLOCK.part(OPENING):
            subject = open_subject(bench, ref, everybody)
        keep_digest(run.store, [one.name for one in group], subject.dictionary.digest)
        for one in group:
            run.progress.step(f"measuring {one.planned.metric.label} of {ref.title}")
            with pace.timed(measuring_name(bench, one.planned.metric, device)):
                found = _measured(run, one.planned, subject, one.seed)
            yield Outcome(one.name, stage.source, "done", found.as_json())


def _approve(run: Run) -> None:
    """Have what metrics that cost money will take approved, before anything is measured."""
    done = {outcome.item_id for outcome in run.store.outcomes(MEASURE, kind="dictionary")}
    for planned in run.planned.metrics:
        instance: Any = planned.metric.instance
        if run.approve is not None and isinstance(instance, Priced) and (n := unmeasured(planned, run.bench, done)):
            run.approve(instance.estimate(Work(measurements=n)), run.planned.called(planned.metric))


def _measured(run: Run, planned: PlannedMetric, subject: DictionarySubject, seed: int) -> Measurement:
    """Return one measurement, see :func:`measured`; what it took is noted."""
    instance = planned.metric.instance
    meter = Meter(instance)
    try:
        with chat_news(run.progress), CLOCK.part(METRICS):
            return measured(instance, planned.metric.registered.who, run.bench, subject, seed)
    finally:
        note_usage(run, meter, run.planned.called(planned.metric))  # also of what was paid for before an interrupt or an error
