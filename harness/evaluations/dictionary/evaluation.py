"""Dictionary: metric × dictionary × seed → measurement."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from typing import Any

from harness.contracts import Priced, Work
from harness.errors import PluginError
from harness.evaluations.base import Stage
from harness.evaluations.dictionary.pace import Pace, measuring_name, opening_name
from harness.evaluations.dictionary.records import all_subjects, record_id, seeds_of, subjects_of, unmeasured
from harness.evaluations.dictionary.rows import MEASURE, dictionary_rows, keep_digest
from harness.evaluations.dictionary.subjects import open_subject, unmet
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
from harness.types import EvaluationKind, Measurement, canonical_json


class DictionaryEvaluation:
    """See the module. Implements :class:`harness.evaluations.base.Evaluation`."""

    kind: EvaluationKind = "dictionary"

    def wanted(self, manifest: Manifest) -> bool:
        return bool(manifest.metrics)

    def stages(self, run: Run) -> Sequence[Stage]:
        return (Stage(MEASURE, ""),)

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
        """Yield the outcomes dictionary by dictionary, so that each is opened once for all of its metrics."""
        plan, missing = run.planned, {item.id for item in items}
        note_versions(run.store, run.warnings, "metrics", [planned.metric.registered.made_by for planned in plan.metrics])
        _approve(run)
        pace = Pace()
        try:
            yield from _outcomes(run, stage, missing, pace)
        finally:
            pace.keep()

    def score(self, manifest: Manifest, store: RunStore, judge: JudgeRecord | None) -> Sequence[Row]:
        return dictionary_rows(manifest, store)


def _outcomes(run: Run, stage: Stage, missing: Container[str], pace: Pace) -> Iterator[Outcome]:
    """Yield the outcomes of the items ``missing`` (ids)."""
    from harness.model.devices import choose_device

    plan, bench = run.planned, run.bench
    everybody, device = all_subjects(plan, bench), choose_device(bench.choices.device).type
    for ref in run.progress.track(everybody, "measuring dictionaries", len(everybody)):
        wanted = [
            (name, planned, seed)
            for planned in plan.metrics
            if ref in subjects_of(planned, bench)
            for seed in seeds_of(planned, bench)
            if (name := record_id(planned.metric, ref, seed)) in missing
        ]
        if not wanted:
            continue
        with pace.timed(opening_name(bench, device)), CLOCK.part(OPENING):
            subject = open_subject(bench, ref, everybody)
        keep_digest(run.store, [name for name, _, _ in wanted], subject.dictionary.digest)
        for name, planned, seed in wanted:
            run.progress.step(f"measuring {planned.metric.label} of {ref.title}")
            with pace.timed(measuring_name(bench, planned.metric, device)):
                found = _measured(run, planned, subject, seed)
            yield Outcome(name, stage.source, "done", found.as_json())


def _approve(run: Run) -> None:
    """Have what metrics that cost money will take approved, before anything is measured."""
    done = {outcome.item_id for outcome in run.store.outcomes(MEASURE, kind="dictionary")}
    for planned in run.planned.metrics:
        instance: Any = planned.metric.instance
        if run.approve is not None and isinstance(instance, Priced) and (n := unmeasured(planned, run.bench, done)):
            run.approve(instance.estimate(Work(measurements=n)), run.planned.called(planned.metric))


def _measured(run: Run, planned: PlannedMetric, subject: DictionarySubject, seed: int) -> Measurement:
    """Return one measurement, checked against the contract; a metric whose needs are not met gives none, with the reason."""
    instance, who = planned.metric.instance, planned.metric.registered.who
    if why := unmet(instance.traits, subject, run.bench):
        return Measurement(None, reason=why, parts=dict.fromkeys(instance.traits.parts), part_reasons=dict.fromkeys(instance.traits.parts, why))
    meter = Meter(instance)
    try:
        with chat_news(run.progress), CLOCK.part(METRICS):
            found = instance.measure(run.bench, subject, seed)
    finally:
        note_usage(run, meter, run.planned.called(planned.metric))  # also of what was paid for before an interrupt or an error
    if not isinstance(found, Measurement):
        raise PluginError(f"{who}: measure returned a value of class {type(found).__name__}", given=found, allowed="Measurement")
    if set(found.parts) != set(instance.traits.parts):
        message = f"{who} gave the parts {', '.join(map(str, found.parts)) or 'none'}"
        raise PluginError(message, given=tuple(found.parts), allowed=tuple(instance.traits.parts) or "none", hint="correct parts or traits")
    try:
        canonical_json(found.as_json())
    except (TypeError, ValueError, RecursionError) as error:
        message = f"{who} gave a measurement that cannot be stored ({error})"
        raise PluginError(message, given=found, allowed="numbers of Python's own (float(…) makes one), and JSON without NaN") from None
    return found
