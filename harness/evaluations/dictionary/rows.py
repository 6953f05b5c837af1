"""From stored measurements to the rows of an entry: one for each dictionary, or control, under a metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.contracts import NumberTraits
from harness.evaluations.dictionary.score import VALUE, DictionaryRow, Item, Measured, Number, rows
from harness.leaderboard.entry import DictionarySubjectRef, ItemResult, MetricValue, Row
from harness.store import RunStore
from harness.store.manifest import Manifest, MetricRecord
from harness.types import Measurement

MEASURE = "measure"
"""The stage in which dictionaries are measured."""


def dictionary_rows(manifest: Manifest, store: RunStore) -> list[Row]:
    """Return the rows of a run's metrics, metric by metric in the order of the plan."""
    found = {outcome.item_id: outcome for outcome in store.outcomes(MEASURE, kind="dictionary")}
    groups: dict[str, list[MetricRecord]] = {}
    for record in manifest.metrics:
        groups.setdefault(record.plugin.key, []).append(record)
    result = []
    for records in groups.values():
        measured = []
        for record in records:
            outcome = found.get(record.id)
            measurement = Measurement.of_json(outcome.value) if outcome is not None and outcome.status == "done" else None
            reason = "" if measurement is not None else "not measured yet" if outcome is None else outcome.reason
            measured.append(Measured(record.dictionary, record.arm, record.training_seed, record.metric_seed, measurement, reason))
        meanings = {name: NumberTraits(**number.model_dump()) for name, number in records[0].numbers.items()}
        parts = {name: meaning for name, meaning in meanings.items() if name != VALUE}
        result += [_row(row, records) for row in rows(measured, meanings[VALUE], parts)]
    return result


def _row(row: DictionaryRow, records: Sequence[MetricRecord]) -> Row:
    own = [record for record in records if (record.dictionary, record.arm) == (row.dictionary, row.arm)]
    metric, seeds = own[0].plugin, row.training_seeds
    names = {VALUE: metric.name}
    items = tuple(_item(item, row.dictionary, names) for item in row.items)
    whole = [item for item in row.items if ": " not in item.id]
    answered = sum(item.values.get(VALUE) is not None for item in whole)
    return Row(
        kind="dictionary",
        role=row.role,
        subject=DictionarySubjectRef(
            dictionary=row.dictionary,
            digest=own[0].digest,
            arm=row.arm,
            training_seed=seeds[0] if len(seeds) == 1 else None,
            metric=metric.name,
            metric_options=metric.options,
            label=metric.title,
        ),
        primary=metric.name,
        metrics={names.get(name, name): _value(number) for name, number in row.numbers.items()},
        n_items=len(whole),
        n_answered=answered,
        coverage=answered / len(whole) if whole else None,
        eligible=not row.reasons,
        reasons=row.reasons,
        items=items,
    )


def _value(number: Number) -> MetricValue:
    return MetricValue(
        value=number.value,
        low=number.low,
        high=number.high,
        interval_method=number.interval_method,
        reason=number.reason,
        unit=number.unit,
        bounds=number.bounds,
        higher_is_better=number.higher_is_better,
        trivial=number.trivial,
        random=number.random,
        title=number.title,
    )


def _item(item: Item, dictionary: str, names: Mapping[str, str]) -> ItemResult:
    return ItemResult(
        id=item.id,
        text=dictionary,
        values={names.get(name, name): value for name, value in item.values.items()},
        details=dict(item.details),
        reason=item.reason,
    )
