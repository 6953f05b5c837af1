"""What two judges make of one run's texts: the shift of each method's score and of each difference between methods, over the same concepts.

Each judge's scores are those of its own entry: it chooses strengths by its own ratings, as in its own ranking. So a shift holds all that changing the
judge changes.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone

import numpy as np
from numpy.typing import NDArray

from harness.errors import JudgeError
from harness.evaluations.entry import make_entry
from harness.files.version import own_version
from harness.judging.agreement import Agreement, compare
from harness.leaderboard.bridge import AspectAgreement, Bridge, DifferenceShift, MethodShift
from harness.leaderboard.entry import Entry, Row
from harness.scoring import clusters_of, interval
from harness.scoring.intervals import Limits
from harness.store import JudgeRecord, RunStore
from harness.store.manifest import Manifest

FloatArray = NDArray[np.float64]
Concept = tuple[str, str]


def make_bridge(manifest: Manifest, store: RunStore, first: JudgeRecord, second: JudgeRecord) -> Bridge:
    """Return the bridge between two judges that have rated a run; what one of them could not rate is left out and counted.

    Raises:
        JudgeError: both are one judge, or no text is rated by both.
    """
    if first.ranking_key == second.ranking_key:
        message = f"both judges are {first.ranking_key}"
        raise JudgeError(message, given=first.ranking_key, hint="name another judge, or other options of the same one, with --to")
    entries = make_entry(manifest, store, first), make_entry(manifest, store, second)
    agreement = _agreement(store, first, second)
    judges = [entry.judge for entry in entries if entry.judge is not None]
    pairs = _pairs(*entries)
    trivial = manifest.task.mode == "fixed"
    return Bridge(
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        harness_version=own_version(),
        task=manifest.task,
        protocol=manifest.protocol,
        run_digest=manifest.run_digest,
        first=judges[0],
        second=judges[1],
        metric=pairs[0][0].primary if pairs else "overall",
        methods=tuple(_method_shift(ours, theirs, trivial) for ours, theirs in pairs),
        differences=tuple(_difference_shift(upper, lower, trivial) for upper, lower in itertools.combinations(pairs, 2)),
        agreement={
            name: AspectAgreement(
                n=part.n,
                n_missing=part.n_missing,
                exact=part.exact.value,
                kappa=part.kappa.value,
                kappa_low=part.kappa.low,
                kappa_high=part.kappa.high,
                bias=part.bias.value,
            )
            for name, part in agreement.aspects.items()
        },
    )


def _agreement(store: RunStore, first: JudgeRecord, second: JudgeRecord) -> Agreement:
    concepts = {trial.id: trial.concept_id for trial in store.trials()}
    ratings = {record.key: list(store.ratings(record.key).values()) for record in (first, second)}
    (found,) = compare(ratings, groups=concepts, top=0, goal=store.manifest.protocol.goal)
    return found


def _pairs(first: Entry, second: Entry) -> list[tuple[Row, Row]]:
    """Return each method's row by either judge."""
    theirs = {row.subject.id: row for row in second.rows_of("steering")}
    return [(row, theirs[row.subject.id]) for row in first.rows_of("steering") if row.subject.id in theirs]


def _method_shift(ours: Row, theirs: Row, trivial: bool) -> MethodShift:
    values = [row.values(trivial) for row in (ours, theirs)]
    concepts = _shared(values)
    before, after = (_array(value, concepts) for value in values)
    found = _interval(after - before, concepts, (ours, theirs), 1)
    return MethodShift(subject=ours.subject.id, name=ours.subject.name, role=ours.role, **_means(before, after), **found)


def _difference_shift(upper: tuple[Row, Row], lower: tuple[Row, Row], trivial: bool) -> DifferenceShift:
    values = [row.values(trivial) for row in (*upper, *lower)]
    concepts = _shared(values)
    upper_before, upper_after, lower_before, lower_after = (_array(value, concepts) for value in values)
    before, after = upper_before - lower_before, upper_after - lower_after
    found = _interval(after - before, concepts, (*upper, *lower), 2)
    return DifferenceShift(upper=upper[0].subject.name, lower=lower[0].subject.name, **_means(before, after), **found)


def _shared(values: Sequence[Mapping[Concept, float]]) -> list[Concept]:
    """Return the concepts that all have, in the order of the first."""
    return [concept for concept in values[0] if all(concept in other for other in values[1:])]


def _array(values: Mapping[Concept, float], concepts: Sequence[Concept]) -> FloatArray:
    return np.array([values[concept] for concept in concepts], dtype=np.float64)


def _means(before: FloatArray, after: FloatArray) -> dict[str, float | None]:
    return {"first": float(before.mean()), "second": float(after.mean())} if len(before) else {"first": None, "second": None}


def _interval(shifts: FloatArray, concepts: Sequence[Concept], rows: Sequence[Row], scales: int) -> dict[str, float | int | str | None]:
    """Return the mean shift with its interval over concepts; those that share a feature in any of the rows count together.

    Args:
        shifts: ``[concepts]``.
        concepts: in the order of ``shifts``.
        rows: whose features link concepts, and whose metric's bounds limit the shift.
        scales: of so many lengths of the scale a shift can be.
    """
    features: dict[Concept, set[str]] = {}
    for row in rows:
        for item in row.items:
            features.setdefault((item.id, item.text), set()).update(item.features)
    low, high = rows[0].metrics[rows[0].primary].bounds
    span: Limits = (None, None) if low is None or high is None else (scales * (low - high), scales * (high - low))
    clusters = clusters_of((concept[0], features.get(concept, ())) for concept in concepts) if concepts else None
    found = interval(shifts, clusters, bounds=span)
    return {
        "shift": found.estimate,
        "low": found.low,
        "high": found.high,
        "n": found.n,
        "n_effective": found.n_effective,
        "warning": found.warning or "",
    }
