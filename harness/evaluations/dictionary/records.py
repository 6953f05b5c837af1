"""What is measured in a run, settled before anything is: a record for each metric, dictionary, training seed and draw of a control."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import asdict

from harness.contracts import NumberTraits
from harness.evaluations.dictionary.score import VALUE
from harness.evaluations.dictionary.subjects import SubjectRef, list_subjects
from harness.run.bench import TaskBench
from harness.run.manifest import plugin_ref
from harness.run.plan import Plan, PlannedMetric, PlannedPlugin
from harness.sae.subject import TRAINED
from harness.store.manifest import MetricRecord, NumberRecord
from harness.types import digest


def subjects_of(planned: PlannedMetric, bench: TaskBench) -> list[SubjectRef]:
    """Return the dictionaries that a metric measures: each training seed, each draw of each control; loads, trains and draws nothing."""
    return list_subjects(bench, [planned.dictionary], planned.controls, planned.control_seeds)


def all_subjects(plan: Plan, bench: TaskBench) -> list[SubjectRef]:
    """Return what all metrics of a run measure, each once."""
    return list(dict.fromkeys(subject for planned in plan.metrics for subject in subjects_of(planned, bench)))


def seeds_of(planned: PlannedMetric, bench: TaskBench) -> range:
    """Return the metric's own seeds."""
    return range(bench.seed, bench.seed + planned.seeds)


def unmeasured(planned: PlannedMetric, bench: TaskBench, measured: Container[str] = ()) -> int:
    """Return how many measurements of a metric are still to be made; ``measured``: the ids of those that are."""
    subjects, seeds = subjects_of(planned, bench), seeds_of(planned, bench)
    return sum(record_id(planned.metric, subject, seed) not in measured for subject in subjects for seed in seeds)


def metric_records(plan: Plan, bench: TaskBench) -> list[MetricRecord]:
    """Return the run's records, metric by metric, dictionary by dictionary."""
    digests = {ref.name: ref.digest for ref in bench.dictionary_refs} if plan.metrics else {}
    return [
        _record(planned.metric, subject, digests.get(subject.member, "") if subject.arm == TRAINED else "", seed)
        for planned in plan.metrics
        for subject in subjects_of(planned, bench)
        for seed in seeds_of(planned, bench)
    ]


def record_id(metric: PlannedPlugin, subject: SubjectRef, seed: int) -> str:
    """Identifies a metric with its options on a dictionary."""
    return digest(["metric", metric.registered.name, dict(metric.identity), subject.id, seed], 24)


def _record(metric: PlannedPlugin, subject: SubjectRef, weights: str, seed: int) -> MetricRecord:
    traits = metric.instance.traits
    return MetricRecord(
        id=record_id(metric, subject, seed),
        role="method" if subject.arm == TRAINED else "control",
        plugin=plugin_ref(metric),
        dictionary=subject.dictionary,
        digest=weights,
        arm=subject.arm,
        training_seed=subject.seed,
        metric_seed=seed,
        numbers={name: _meaning(meaning) for name, meaning in {VALUE: traits, **traits.parts}.items()},
    )


def _meaning(traits: NumberTraits) -> NumberRecord:
    return NumberRecord(**{name: value for name, value in asdict(traits).items() if name in NumberRecord.model_fields})
