"""Which columns the table of each kind of evaluation has, and what stands in them."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.leaderboard import aspects
from harness.leaderboard.entry import STEERING_METRICS, ItemResult, MetricValue, Reading, Row, full_name
from harness.leaderboard.layout import Column, Grid, Line
from harness.leaderboard.side_effects import ACCURACY, NAMES, NOT_MEASURABLE, TITLES
from harness.leaderboard.subject import DictionarySubjectRef, Subject
from harness.types import EvaluationKind, Json, canonical_json

MISSING = "–"
KINDS: tuple[EvaluationKind, ...] = ("steering", "detection", "dictionary")
"""The kinds of evaluation in the order in which their tables are shown."""

HEADINGS = {
    "ap": "average precision", "calibrated_f1": "calibrated F1", "auroc_plain": "AUROC, plain", "auroc_others": "AUROC, other concepts",
    "hard_negatives_rejected_youden": "hard negatives rejected (Youden)",
}  # fmt: skip
"""Headings of metrics whose names do not say it all; other names become words, see :func:`heading`."""

_WORDS = {"auroc": "AUROC", "f1": "F1", "ap": "AP", "l0": "L0"}
_ANSWERED = Column("answered")


@dataclass(frozen=True)
class Shown:
    """A row of an entry as a table shows it.

    Attributes:
        row: the row.
        score: what it is judged by; it stands in the place of its primary metric.
        mark: stands in brackets behind its name, e.g. ``control``.
        style: of rich.
        rank: on a leaderboard.
        name: on a leaderboard; empty: the subject's, told apart from other controls of its name.
        extra: cells of further columns, as :func:`grid` is given them.
    """

    row: Row
    score: MetricValue
    mark: str = ""
    style: str = ""
    rank: str = ""
    name: str = ""
    extra: tuple[str, ...] = ()


def grid(kind: EvaluationKind, rows: Sequence[Shown], ranks: bool = False, extra: Sequence[Column] = ()) -> Grid:
    """Return the table of ``rows``, which are of one ``kind``.

    Args:
        kind: of evaluation.
        rows: in the order in which they are shown.
        ranks: with their ranks before their names.
        extra: columns behind the kind's own, with cells in :attr:`Shown.extra`.
    """
    columns, cells = {"steering": _steering, "detection": _detection, "dictionary": _dictionary}[kind](rows)
    empty = (MISSING,) * len(extra)
    lines = [Line(((shown.rank,) if ranks else ()) + parts + (shown.extra or empty), shown.style) for shown, parts in cells]
    return Grid([*([Column("#")] if ranks else []), *columns, *extra], lines)


def number(value: float | None, digits: int = 3) -> str:
    """Return a number with ``digits`` decimals, or a dash."""
    return MISSING if value is None else f"{round(value, digits) + 0.0:.{digits}f}"  # no negative zero


def signed(value: float | None, digits: int = 3) -> str:
    """Return a difference: a number with its sign, or a dash."""
    return MISSING if value is None else f"{round(value, digits) + 0.0:+.{digits}f}"


def significant(value: float | None, sign: str = "") -> str:
    """Return four significant digits, for metrics of any scale; whole numbers from a thousand on. ``sign``: ``+`` for a difference."""
    if value is None:
        return MISSING
    return f"{value:{sign},.0f}" if 1000 <= abs(value) < 1e9 else f"{value:{sign}.4g}"


def heading(metric: str) -> str:
    """Return a metric's heading: the name's words, those that are abbreviations as they are written."""
    words = metric.replace("_", " ").replace("-", " ").split()
    return HEADINGS.get(metric, " ".join(_WORDS.get(word, word) for word in words))


def metric_heading(row: Row, metric: str) -> str:
    """Return the heading of a metric of a row: its title, or the words of its name."""
    found = row.metrics.get(metric)
    return heading(metric) if found is None or not found.title else found.title


# ------------------------------------------------------------------------------------------------------------------------ by kind

Cells = list[tuple[Shown, tuple[str, ...]]]


def _steering(rows: Sequence[Shown]) -> tuple[list[Column], Cells]:
    """Return the scores that every method has; ``answered`` is concepts answered of all."""
    overall, *parts = [Column(metric_heading(rows[0].row, name) if rows else heading(name)) for name in STEERING_METRICS]
    counts = [_ANSWERED, Column("texts", optional=True), Column("unrated", optional=True)]
    beside = [Column(TITLES[name]) for name in NAMES] if any(shown.row.side_effects is not None for shown in rows) else []
    columns = [Column("method", name=True), overall, Column("interval"), *parts, *counts, Column("strength"), *beside]  # fmt: skip
    cells: Cells = []
    for shown in rows:
        row = shown.row
        scores = (number(shown.score.value), _interval(shown.score, 2), *(number(row.metrics[name].value) for name in STEERING_METRICS[1:]))
        unrated = str(row.n_unrated) + (f" +{row.n_pending} pending" if row.n_pending else "")
        further = _beside(row) if beside else ()
        cells.append((shown, (_name(shown, rows), *scores, _answered(row), str(row.n_texts), unrated, _strengths(row), *further)))
        empty = (MISSING,) * len(beside)
        cells += [(Shown(row, shown.score, style="dim"), (*_reading(reading), *empty)) for reading in row.readings]
    return columns, cells


def _beside(row: Row) -> tuple[str, ...]:
    """Return a row's side effects, each with its interval over concepts."""
    if row.side_effects is None:
        return (MISSING,) * len(NAMES)
    found = [row.side_effects.metrics[name] for name in NAMES]
    texts = [signed(metric.value) if name == ACCURACY else significant(metric.value) for name, metric in zip(NAMES, found, strict=True)]
    ends = ["" if m.low is None else f" [{significant(m.low)}, {significant(m.high)}]" for m in found]
    return tuple(
        NOT_MEASURABLE if metric.value is None and metric.reason.startswith(NOT_MEASURABLE) else text + end
        for metric, text, end in zip(found, texts, ends, strict=True)
    )


def _reading(reading: Reading) -> tuple[str, ...]:
    """The line below a control: its texts at the strengths of a method. No score, since it is not to be compared."""
    ratings = [number(reading.metrics[name].value) if name in reading.metrics else MISSING for name in STEERING_METRICS[1:]]
    outside = reading.n_items - reading.n_read
    left = f"; {outside} concept{'s' * (outside != 1)} left out, whose strengths are not in the control's grid" if outside else ""
    name = f"… at the strengths of {reading.at_strengths_of} (to read, not to compare{left})"
    return (name, MISSING, MISSING, *ratings, f"{reading.n_read}/{reading.n_items}", MISSING, MISSING, MISSING)


_ENTRY_ALONE = ("precision", "recall")
"""Numbers of detection that the entry has and the table leaves out: F1 says both."""


def _detection(rows: Sequence[Shown]) -> tuple[list[Column], Cells]:
    """Return every metric that a row has, in the rows' order, the primary one with its interval."""
    found = dict.fromkeys(name for shown in rows for name in shown.row.metrics if not name.startswith(_ENTRY_ALONE))
    names = [name for name in found if any(_has(shown, name) for shown in rows)]
    primary = {shown.row.primary for shown in rows}
    columns = [Column("method", name=True)]
    for name in names:
        columns += [Column(heading(name)), *([Column("interval")] if name in primary else [])]
    robust = any(shown.row.aspects is not None for shown in rows)
    columns += [Column(title) for title in aspects.TITLES.values()] if robust else []
    cells: Cells = []
    for shown in rows:
        parts = [_name(shown, rows)]
        for name in names:
            value = shown.score if name == shown.row.primary else shown.row.metrics.get(name)
            parts.append(number(value.value if value else None))
            parts += [_interval(shown.score, 3) if name == shown.row.primary else MISSING] if name in primary else []
        parts += _aspects(shown.row) if robust else []
        cells.append((shown, (*parts, _answered(shown.row))))
    return [*columns, _ANSWERED], cells


def _aspects(row: Row) -> list[str]:
    """Return how robust a row is against other concepts in a text, each number with its interval over base texts."""
    if row.aspects is None:
        return [MISSING] * len(aspects.TITLES)
    found = [row.aspects.metrics[name] for name in aspects.TITLES]
    return [number(metric.value, 2) + ("" if metric.low is None else f" {_interval(metric, 2)}") for metric in found]


def _has(shown: Shown, name: str) -> bool:
    return name == shown.row.primary or (name in shown.row.metrics and shown.row.metrics[name].value is not None)


def _dictionary(rows: Sequence[Shown]) -> tuple[list[Column], Cells]:
    """Return a line a metric: a row's primary one first, then what else it measured."""
    columns = [Column("metric", name=True), Column("dictionary", name=True), Column("arm", name=True), Column("value"), Column("interval"),
               Column("unit", left=True), Column("better", left=True), Column("trivial"), Column("random"), _ANSWERED]  # fmt: skip
    cells: Cells = []
    for shown in rows:
        row, subject = shown.row, shown.row.subject
        assert isinstance(subject, DictionarySubjectRef)
        seed = "" if subject.training_seed is None else f", training seed {subject.training_seed}"
        arm = f"{subject.arm}{seed}" + (f" ({shown.mark})" if shown.mark and shown.mark != "control" else "")
        for name in (row.primary, *(name for name in row.metrics if name != row.primary)):
            metric = shown.score if name == row.primary else row.metrics[name]
            better = {True: "higher", False: "lower", None: MISSING}[metric.higher_is_better]
            ends = MISSING if metric.low is None else f"[{significant(metric.low)}, {significant(metric.high)}]"
            values = (significant(metric.value), ends, metric.unit or MISSING, better)
            options = subject.label.partition(":")[2]
            called = (metric.title or name) + (f" ({options})" if options else "")
            line = (called, subject.dictionary, arm, *values, significant(metric.trivial), significant(metric.random), _answered(row))
            cells.append((shown if name == row.primary else Shown(row, metric, style=shown.style), line))
    return columns, cells


# -------------------------------------------------------------------------------------------------------------------------- cells


def _name(shown: Shown, rows: Sequence[Shown]) -> str:
    return (shown.name or full_name(shown.row, [other.row for other in rows])) + (f" ({shown.mark})" if shown.mark else "")


def given_options(subject: Subject) -> str:
    """Return the options that were given to a subject's plugins: ``pi0=0.01``; empty where all have their defaults, or where its name has them."""
    parts = {**subject.model_dump(mode="json")}
    given = [
        (name, value if isinstance(value, str) else canonical_json(value))
        for field in ("labeler_options", "steerer_options", "detector_options", "metric_options")
        for name, value in parts.get(field, {}).get("given", {}).items()
    ]
    return ", ".join(f"{name}={value}" for name, value in given if f"{name.rpartition(':')[2]}={value}" not in subject.name)


def _interval(metric: MetricValue, digits: int) -> str:
    return MISSING if metric.low is None else f"[{number(metric.low, digits)}, {number(metric.high, digits)}]"


def _answered(row: Row) -> str:
    return f"{row.n_answered}/{row.n_items}"


def _strengths(row: Row) -> str:
    """Return the median and range of the strengths chosen for the concepts, or for the draws of each; the entry has each."""
    chosen = [strength for item in row.items for strength in _chosen(item)]
    if not chosen:
        return MISSING
    middle, low, high = statistics.median(chosen), min(chosen), max(chosen)
    return f"{middle:g}" if low == high else f"{middle:g} ({low:g}–{high:g})"


def _chosen(item: ItemResult) -> list[float]:
    parts = _parts(item.details, "draws") or [part for run in _parts(item.details, "runs") for part in (_parts(run, "draws") or [run])]
    if not parts:
        return [] if item.strength is None else [item.strength]
    found = [part.get("strength") for part in parts]
    return [float(strength) for strength in found if isinstance(strength, int | float)]


def _parts(details: Mapping[str, Json], name: str) -> list[Mapping[str, Json]]:
    """Return the draws of a concept, or its runs, as an item's details have them; empty where it has none."""
    found = details.get(name)
    return [part for part in found if isinstance(part, dict)] if isinstance(found, list) else []
