"""Runs of one configuration are one method: what makes two rows one method, their values together, and the spread between runs.

One configuration has one subject (plugins with all options), model, precision, strengths, decoding, instructions and, where features are used,
dictionaries; task, judge and concepts are those of the group. Seed, device, version of harness and the day may differ. Each item's value is the
mean over the runs, so more runs make no interval over items narrower than the items allow.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from harness.leaderboard.aspects import merged as merged_aspects
from harness.leaderboard.entry import Entry, ItemResult, MetricValue, Reading, Row, metric_value
from harness.leaderboard.grouping import item_noun
from harness.leaderboard.side_effects import merged
from harness.leaderboard.subject import DictionarySubjectRef, SteeringSubject
from harness.leaderboard.values import Bounds
from harness.types import EvaluationKind, Json, digest


@dataclass(frozen=True)
class MethodRun:
    """One run of a method: its entry, and its row there."""

    entry: Entry
    row: Row


@dataclass(frozen=True)
class Spread:
    """How the scores of a method's runs differ.

    Attributes:
        n: runs that have a score.
        sd: standard deviation (n − 1) of the scores; None for fewer than two.
        lowest, highest: of the scores; None without one.
    """

    n: int
    sd: float | None
    lowest: float | None
    highest: float | None

    @classmethod
    def of(cls, rows: Iterable[Row]) -> Spread:
        """Return the spread of the rows' scores."""
        scores = [row.score.value for row in rows if row.score.value is not None]
        return cls(len(scores), statistics.stdev(scores) if len(scores) > 1 else None, min(scores, default=None), max(scores, default=None))


def configuration(entry: Entry, row: Row) -> dict[str, Json]:
    """Return what makes a row the method that it is, by aspect; two rows of a group with equal values are runs of one method."""
    subject, model = row.subject, entry.model
    found: dict[str, Json] = {
        "subject": subject.id,
        "eligible": row.eligible,
        "model": model.digest or model.name,
        "dtype": model.dtype,
    }
    if isinstance(subject, DictionarySubjectRef):
        return found
    if subject.labeler is not None:
        found["dictionaries"] = sorted([part.name, part.digest or part.source, part.layer] for part in entry.dictionaries)
    if isinstance(subject, SteeringSubject):
        found["strengths"] = list(subject.grid)
        found["decoding"] = asdict(entry.decoding)
        found["instructions"] = entry.instruction_set_digest
    return found


def runs_by_method(members: Iterable[tuple[Entry, Row]]) -> list[list[MethodRun]]:
    """Return the runs of each method, in the order of their first runs.

    The same values with the same seed count once: a run rated by two judges brings its detection and its metrics twice, and a control that several
    runs share is in each of them.
    """
    found: dict[str, dict[str, MethodRun]] = {}
    for entry, row in members:
        values = [[item.id, item.text, dict(item.values)] for item in row.items]
        same_run = digest([entry.seed, values or entry.id])
        found.setdefault(digest(configuration(entry, row)), {})[same_run] = MethodRun(entry, row)
    return [list(runs.values()) for runs in found.values()]


# ------------------------------------------------------------------------------------------------------------------------- merging


def merged_row(rows: Sequence[Row]) -> Row:
    """Return the rows of one method's runs as one row, the last one's where they do not differ.

    An item's values are means over the runs that have one; in fixed mode a run that abstained from an item that others answered counts there with
    the trivial value. Metrics are means over items with their intervals (of a dictionary: means over the runs, without one). Counts of texts are
    sums, counts of items those of all runs' items together.
    """
    if len(rows) == 1:
        return rows[0]
    last, fixed = rows[-1], any(row.ranked is not None for row in rows)
    items = _items(rows, fixed)
    answered = [item for item in items if item.answered]
    names = list(dict.fromkeys(name for row in reversed(rows) for name in row.metrics))
    n_items = len({item.id for item in items}) if items and last.kind != "dictionary" else max(row.n_items for row in rows)
    n_answered = len({item.id for item in answered}) if items and last.kind != "dictionary" else max(row.n_answered for row in rows)
    reasons = tuple(dict.fromkeys(reason for row in rows for reason in row.reasons))
    metrics = {name: _metric(name, rows, answered) for name in names}
    whole = fixed and len(answered) == len(items) and bool(items)  # then the ranked score is the primary metric
    values: dict[str, object] = {
        "role": "method" if any(row.role == "method" for row in rows) else "control",
        "metrics": metrics,
        "ranked": (metrics[last.primary] if whole else _ranked(rows, items)) if fixed else None,
        "bounds": _bounds(rows) if last.bounds is not None else None,
        "n_items": n_items,
        "n_answered": n_answered,
        "coverage": n_answered / n_items if n_items else None,
        "n_texts": sum(row.n_texts for row in rows),
        "n_unrated": sum(row.n_unrated for row in rows),
        "n_pending": sum(row.n_pending for row in rows),
        "eligible": not reasons,
        "reasons": reasons,
        "items": tuple(items),
        "warnings": tuple(dict.fromkeys(warning for row in rows for warning in row.warnings)),
        "controls": tuple(dict.fromkeys(name for row in rows for name in row.controls)),
    }
    values["aspects"] = merged_aspects([row.aspects for row in rows])
    values["side_effects"] = merged([row.side_effects for row in rows])
    values["readings"] = _readings(rows) if values["role"] == "control" else ()
    return last.model_copy(update=values)


def _items(rows: Sequence[Row], fixed: bool) -> list[ItemResult]:
    """Return one item for each of the runs' items; the first, second, … of several results of one concept belong together."""
    found: dict[tuple[str, str, int], list[tuple[int, ItemResult]]] = {}
    for run, row in enumerate(rows):
        seen: dict[tuple[str, str], int] = {}
        for item in row.items:
            place = seen[item.id, item.text] = seen.get((item.id, item.text), -1) + 1
            found.setdefault((item.id, item.text, place), []).append((run, item))
    return [_item(parts, rows[-1], fixed) for parts in found.values()]


def _item(parts: Sequence[tuple[int, ItemResult]], row: Row, fixed: bool) -> ItemResult:
    answered = [item for _, item in parts if item.answered]
    last = parts[-1][1]
    if not answered:
        return last
    values: dict[str, float | None] = {}
    for name in dict.fromkeys(name for item in answered for name in item.values):
        known = [value for item in answered if (value := item.values.get(name)) is not None]
        if fixed and name == row.primary:
            trivial = [item.trivial.get(name, row.metrics[name].trivial) for _, item in parts if not item.answered]
            known += [value for value in trivial if value is not None]
        values[name] = statistics.fmean(known) if known else None
    strengths = {item.strength for item in answered}
    reasons = list(dict.fromkeys(item.reason for _, item in parts if item.reason))
    reasons += ["the runs chose different strengths"] if len(strengths) > 1 else []
    own = [{"run": run, "values": dict(item.values), "strength": item.strength, "draws": item.details.get("draws")} for run, item in parts]
    return last.model_copy(
        update={
            "answered": True,
            "features": tuple(dict.fromkeys(feature for item in answered for feature in item.features)),
            "values": values,
            "strength": strengths.pop() if len(strengths) == 1 else None,
            "per_item": _per_item(answered),
            "n": sum(item.n for item in answered),
            "n_unrated": sum(item.n_unrated for item in answered),
            "details": {"runs": own},
            "reason": "; ".join(reasons),
        }
    )


def _per_item(items: Sequence[ItemResult]) -> dict[str, float | None]:
    """Return what the values of a dictionary's measurements are made of: means over the runs that have each."""
    found: dict[str, list[float]] = {}
    for item in items:
        for name, value in item.per_item.items():
            found.setdefault(name, []).extend([] if value is None else [value])
    return {name: statistics.fmean(values) if values else None for name, values in found.items()}


def _metric(name: str, rows: Sequence[Row], answered: Sequence[ItemResult]) -> MetricValue:
    last = next(row.metrics[name] for row in reversed(rows) if name in row.metrics)
    known = [row.metrics[name].value for row in rows if name in row.metrics and row.metrics[name].value is not None]
    own = [item for item in answered if name in item.values]
    if rows[-1].kind == "dictionary" or not own:
        why = f"the mean of {len(known)} runs: each has its own interval" if known else last.reason
        value = statistics.fmean(value for value in known if value is not None) if known else None
        return last.model_copy(update={"value": value, "low": None, "high": None, "interval_method": "", "reason": why})
    return _mean(own, [item.values[name] for item in own], last, rows[-1].kind, "auto" if name == rows[-1].primary else "t")


def _ranked(rows: Sequence[Row], items: Sequence[ItemResult]) -> MetricValue:
    """Return the score over all items, an abstention of all runs counting as the trivial value."""
    name = rows[-1].primary
    like = next((row.ranked for row in reversed(rows) if row.ranked is not None), rows[-1].metrics[name])
    values = [item.values.get(name) if item.answered else item.trivial.get(name, like.trivial) for item in items]
    if not items or None in values:
        known = [row.ranked.value for row in rows if row.ranked is not None and row.ranked.value is not None]
        update = {"value": statistics.fmean(known) if known else None, "low": None, "high": None, "interval_method": ""}
        return like.model_copy(update={**update, "reason": like.reason or "a concept has no score in any run"})
    return _mean(items, values, like, rows[-1].kind, "auto")


def _mean(
    items: Sequence[ItemResult], values: Sequence[float | None], like: MetricValue, kind: EvaluationKind, method: Literal["auto", "t"]
) -> MetricValue:
    """Return the mean over items; by ``t`` without the bootstrap, which a board of many entries has no time for in every number."""
    from harness.scoring import clusters_of  # numpy-heavy: only where something is merged

    clusters = clusters_of(((item.id, item.text), item.features) for item in items)
    found = metric_value(
        values, clusters, unit=like.unit, bounds=like.bounds, higher_is_better=like.higher_is_better, trivial=like.trivial,
        random=like.random, item=item_noun(kind), method=method,
    )  # fmt: skip
    return found.model_copy(update={"title": like.title})


def _bounds(rows: Sequence[Row]) -> Bounds:
    """Return the mean bounds: the score of the runs together lies between them, whatever their unrated texts are worth."""
    ends = [(row.bounds.low, row.bounds.high) for row in rows if row.bounds is not None]
    known = [(low, high) for low, high in ends if low is not None and high is not None]
    if not known or len(known) < len(rows):
        return Bounds(low=None, high=None, reason="a run has no bounds")
    return Bounds(low=statistics.fmean(low for low, _ in known), high=statistics.fmean(high for _, high in known))


def _readings(rows: Sequence[Row]) -> tuple[Reading, ...]:
    """Return each method's reading, its numbers means over the runs that have it."""
    found: dict[str, list[Reading]] = {}
    for row in rows:
        for reading in row.readings:
            found.setdefault(reading.method, []).append(reading)
    merged = []
    for parts in found.values():
        metrics = {}
        for name, like in parts[-1].metrics.items():
            known = [value for part in parts if name in part.metrics and (value := part.metrics[name].value) is not None]
            reason = f"the mean of {len(known)} runs" if known else like.reason
            gone = {"low": None, "high": None, "interval_method": "", "reason": reason}
            metrics[name] = like.model_copy(update={"value": statistics.fmean(known), **gone}) if len(parts) > 1 and known else like
        counts = {"n_items": sum(part.n_items for part in parts), "n_read": sum(part.n_read for part in parts)}
        merged.append(parts[-1].model_copy(update={"metrics": metrics, **counts}))
    return tuple(merged)
