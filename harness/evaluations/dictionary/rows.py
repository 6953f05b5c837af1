"""From stored measurements to the rows of an entry: one for each dictionary, or control, under a metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.contracts import NumberTraits
from harness.evaluations.dictionary.score import VALUE, DictionaryRow, Item, Measured, Number, rows
from harness.leaderboard.arms import with_verdicts
from harness.leaderboard.entry import DictionarySubjectRef, ItemResult, MetricValue, Row
from harness.store import RunStore
from harness.store.manifest import Manifest, MetricRecord
from harness.types import Measurement

MEASURE = "measure"
"""The stage in which dictionaries are measured."""
_DIGESTS = "dictionaries measured"


def dictionary_rows(manifest: Manifest, store: RunStore) -> list[Row]:
    """Return the rows of a run's metrics, metric by metric in the order of the plan; each dictionary's with its verdicts against its controls."""
    digests = known_digests(store)
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
            weights = "" if record.digest else digests.get(record.id, "")
            measured.append(Measured(record.dictionary, record.arm, record.training_seed, record.metric_seed, measurement, reason, weights))
        meanings = {name: NumberTraits(**number.model_dump()) for name, number in records[0].numbers.items()}
        parts = {name: meaning for name, meaning in meanings.items() if name != VALUE}
        result += [_row(row, records) for row in rows(measured, meanings[VALUE], parts)]
    return with_verdicts(result)


def keep_digest(store: RunStore, records: Sequence[str], digest: str) -> None:
    """Keep the digest of the weights that some measurements, named by their records, are of: of trained ones nobody knows it before."""
    known = known_digests(store)
    if new := [record for record in records if known.get(record) != digest]:
        store.note(_DIGESTS, {"digest": digest, "records": new})


def known_digests(store: RunStore) -> dict[str, str]:
    """Return the digests that :func:`keep_digest` has kept, by record; empty in older runs."""
    found: dict[str, str] = {}
    for note in store.notes(_DIGESTS):
        if isinstance(note.value, dict) and isinstance(records := note.value.get("records"), list):
            found.update(dict.fromkeys(map(str, records), str(note.value.get("digest", ""))))
    return found


def _row(row: DictionaryRow, records: Sequence[MetricRecord]) -> Row:
    own = [record for record in records if (record.dictionary, record.arm) == (row.dictionary, row.arm)]
    metric, seeds = own[0].plugin, row.training_seeds
    names = {VALUE: metric.name}
    items = tuple(_item(item, row.dictionary, names) for item in row.items)
    answered = sum(item.values.get(VALUE) is not None for item in row.items)
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
        n_items=len(items),
        n_answered=answered,
        coverage=answered / len(items) if items else None,
        eligible=not row.reasons,
        reasons=row.reasons,
        items=items,
        item=own[0].item,
        items_shared=own[0].items_shared,
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
        digest=item.digest,
        per_item=dict(item.per_item),
    )
