"""The scores of an entry's page: tables and figures that an entry alone gives, whatever the kind of evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.leaderboard.arms_table import does_it_beat_random
from harness.leaderboard.columns import KINDS, Shown, grid, heading, metric_heading, number
from harness.leaderboard.entry import Entry, Row, full_name
from harness.leaderboard.site.arms import FIGURE, arms_figure, arms_table
from harness.leaderboard.site.limits import Limits
from harness.leaderboard.site.notes import judge_notes, notes_of
from harness.leaderboard.site.selection import spread_out
from harness.leaderboard.site.tables import Cell, Head, Table, of_grid, plain, rows_of, significant, words
from harness.leaderboard.subject import DictionarySubjectRef
from harness.types import EvaluationKind

COLOURS = 10
"""So many methods have a colour of their own."""


@dataclass(frozen=True)
class Method:
    """A row as figures and legends name it: ``colour`` is a number, ``control`` draws it dashed."""

    id: str
    name: str
    control: bool
    colour: int


@dataclass
class Section:
    """What a page shows of one kind of evaluation."""

    kind: EvaluationKind
    rows: tuple[Row, ...]
    methods: list[Method]
    scores: Table
    notes: list[str]
    judge_notes: list[str]
    sentences: list[str] = field(default_factory=list)
    """Who is ahead of whom, and who beats its controls, within this entry."""
    answers: list[str] = field(default_factory=list)
    """Of dictionaries: whether each beats its controls, by metric."""
    criteria: list[str] = field(default_factory=list)
    """How that was tested, and what to be careful of."""
    figures: dict[str, Any] = field(default_factory=dict)
    """By the id of the figure: what a script draws."""
    tables: dict[str, Table] = field(default_factory=dict)
    """By name; those that a template looks for."""

    @property
    def of_id(self) -> dict[str, Method]:
        """Return the methods by id."""
        return {method.id: method for method in self.methods}


def sections(entry: Entry, limits: Limits) -> list[Section]:
    """Return a section for each kind of evaluation of an entry."""
    return [_section(entry, kind, limits) for kind in KINDS if entry.rows_of(kind)]


def _section(entry: Entry, kind: EvaluationKind, limits: Limits) -> Section:
    rows = entry.rows_of(kind)
    shown = [Shown(row, row.score, _mark(row), style="dim" if row.role == "control" else "") for row in rows]
    section = Section(
        kind=kind,
        rows=rows,
        methods=[Method(row.subject.id, full_name(row, rows), row.role == "control", place % COLOURS) for place, row in enumerate(rows)],
        scores=of_grid(f"{kind}-scores", f"Scores: {kind}", grid(kind, shown)),
        notes=notes_of(entry, kind),
        judge_notes=judge_notes(entry) if kind == "steering" else [],
    )
    if kind == "dictionary":
        section.figures["dictionary-bars"] = _bars(rows)
        if (arms := arms_figure(rows)) is not None:
            section.figures[FIGURE] = arms
            section.tables["arms"] = arms_table(rows, "dictionary-arms-table")
            section.answers = does_it_beat_random(rows)
        section.tables["items"] = _dictionary_items(rows, limits)
    else:
        section.figures[f"{kind}-intervals"] = intervals(section.methods, rows)
        section.tables["concepts"] = _concepts(section, limits)
    return section


def _mark(row: Row) -> str:
    marks = ["control"] if row.role == "control" else []
    marks += ["in-sample" if row.in_sample else "not eligible"] if not row.eligible else []
    return ", ".join(marks)


def intervals(methods: Sequence[Method], rows: Sequence[Row]) -> dict[str, Any]:
    """Return the figure of scores with their intervals, the trivial value as a line."""
    primary = rows[0].metrics[rows[0].primary]
    points = [
        {
            "name": method.name,
            "value": row.score.value,
            "low": row.score.low,
            "high": row.score.high,
            "colour": method.colour,
            "control": method.control,
        }
        for method, row in zip(methods, rows, strict=True)
        if row.score.value is not None
    ]
    return {
        "type": "intervals",
        "label": metric_heading(rows[0], rows[0].primary),
        "points": points,
        "trivial": rows[0].score.trivial if rows[0].score.trivial is not None else primary.trivial,
        "bounds": list(primary.bounds),
    }


def _concepts(section: Section, limits: Limits) -> Table:
    """Return what each method got on each concept, with the features and strengths of the methods that have them."""
    steering = section.kind == "steering"
    values = {method.id: {item.id: item for item in row.items} for method, row in zip(section.methods, section.rows, strict=True)}
    texts = {item.id: item.text for row in section.rows for item in row.items}
    chosen = spread_out(list(texts), limits.rows)
    limits.note(len(chosen), len(texts), f"concepts in the table of {section.kind}")
    featured = [method for method in section.methods if not method.control and any(item.features for item in values[method.id].values())]
    varied = [
        method
        for method, row in zip(section.methods, section.rows, strict=True)
        if steering and len(getattr(row.subject, "grid", ())) > 1 and not method.control
    ]
    heads = [Head("concept", words=True)]
    heads += [Head(method.name + (" (control)" if method.control else "")) for method in section.methods]
    heads += [Head(f"strength of {method.name}") for method in varied] + [
        Head(f"features of {method.name}", words=True) for method in featured
    ]
    lines = []
    for concept in chosen:
        cells = [words(texts[concept])]
        for method, row in zip(section.methods, section.rows, strict=True):
            item = values[method.id].get(concept)
            abstained = item is not None and not item.answered
            cells.append(Cell("abstained") if abstained else plain(item.values.get(row.primary) if item is not None else None))
        for method in varied:
            item = values[method.id].get(concept)
            strength = item.strength if item is not None else None
            cells.append(Cell("–" if strength is None else f"{strength:g}", strength))
        for method in featured:
            item = values[method.id].get(concept)
            cells.append(words(", ".join(item.features[:4]) if item is not None else ""))
        lines.append(cells)
    primary = metric_heading(section.rows[0], section.rows[0].primary)
    return Table(f"{section.kind}-concepts", f"{primary} by concept", tuple(heads), rows_of(lines))


# --------------------------------------------------------------------------------------------------------------------- dictionaries


def _bars(rows: Sequence[Row]) -> dict[str, Any]:
    """Return a bar for each number of each dictionary, with its trivial and random value."""
    bars = []
    for row in rows:
        subject = row.subject
        assert isinstance(subject, DictionarySubjectRef)
        for name, metric in row.metrics.items():
            if metric.value is not None:
                bars.append({
                    "metric": f"{metric.title or heading(name)}{f' ({metric.unit})' if metric.unit else ''}",
                    "subject": _subject(row),
                    "control": row.role == "control",
                    "value": metric.value,
                    "low": metric.low,
                    "high": metric.high,
                    "trivial": metric.trivial,
                    "random": metric.random,
                    "better": {True: "higher is better", False: "lower is better", None: ""}[metric.higher_is_better],
                })  # fmt: skip
    return {"type": "bars", "bars": bars}


def _subject(row: Row) -> str:
    subject = row.subject
    assert isinstance(subject, DictionarySubjectRef)
    return subject.dictionary + (f", {subject.arm}" if row.role == "control" else "")


def _dictionary_items(rows: Sequence[Row], limits: Limits) -> Table:
    """Return what each metric's value is made of: seeds, layers, classes."""
    lines = []
    for row in rows:
        for item in row.items:
            for name, value in item.values.items():
                lines.append([words(heading(name)), words(_subject(row)), words(item.id), significant(value), words(item.reason)])
            for part, value in item.per_item.items():
                lines.append([words(heading(row.primary)), words(_subject(row)), words(f"{item.id}: {part}"), significant(value), words("")])
    chosen = spread_out(lines, limits.rows)
    limits.note(len(chosen), len(lines), "parts of the dictionaries' numbers")
    heads = (Head("metric", True), Head("dictionary", True), Head("part", True), Head("value"), Head("note", True))
    return Table("dictionary-items", "What the numbers are made of", heads, rows_of(chosen))


def ends(low: float | None, high: float | None, digits: int = 3) -> str:
    """Return an interval in brackets, or a dash."""
    return "–" if low is None or high is None else f"[{number(low, digits)}, {number(high, digits)}]"
