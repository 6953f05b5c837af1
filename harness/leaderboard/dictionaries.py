"""Dictionaries side by side: a line for each, a column for each number of a metric. The table of a matrix whose cells measure dictionaries alone."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group as Stack
from rich.console import RenderableType
from rich.text import Text

from harness.leaderboard.columns import MISSING, metric_heading, significant
from harness.leaderboard.entry import Entry, MetricValue, Row
from harness.leaderboard.layout import Column, Grid, Line, Prose
from harness.leaderboard.opening import title
from harness.leaderboard.subject import DictionarySubjectRef


def side_by_side(entries: Sequence[Entry]) -> RenderableType:
    """Return a table for each metric of the entries' dictionaries: an entry's lines in its own order, controls behind what they stand beside.

    Where entries are cells of a matrix, the cell's values stand first. Every number is a mean over seeds; where it has an interval, it stands behind.
    """
    rows = [(entry, row) for entry in entries for row in entry.rows_of("dictionary")]
    found: list[RenderableType] = []
    for label in dict.fromkeys(row.subject.label for _, row in rows if isinstance(row.subject, DictionarySubjectRef)):
        own = [(entry, row) for entry, row in rows if isinstance(row.subject, DictionarySubjectRef) and row.subject.label == label]
        found += [Text(), title(label), _grid(own)]
        found += [Prose(line, "dim") for line in _reasons([row for _, row in own])]
    units = "numbers are means over seeds, with the 95 % interval where there are three seeds or more"
    return Stack(title(" · ".join(dict.fromkeys(_about(entry) for entry in entries))), *found, Prose(units, "dim"))


def _about(entry: Entry) -> str:
    cell = entry.task.cell
    return f"{entry.task.name if cell is None else cell.matrix} {entry.task.version}"


def _grid(rows: Sequence[tuple[Entry, Row]]) -> Grid:
    axes = list(dict.fromkeys(axis for entry, _ in rows if entry.task.cell is not None for axis, _ in entry.task.cell.values))
    first = rows[0][1]
    names = [first.primary, *(name for name in first.metrics if name != first.primary)]
    columns = [*(Column(axis, name=True) for axis in axes), Column("dictionary", name=True), Column("seeds")]
    columns += [Column(metric_heading(first, name)) for name in names]
    lines = []
    for entry, row in _together(rows):
        cell = dict(entry.task.cell.values) if entry.task.cell is not None else {}
        subject = row.subject
        assert isinstance(subject, DictionarySubjectRef)
        name = subject.dictionary if row.role == "method" else f"  {subject.arm}"
        values = [_cell(row.metrics.get(metric)) for metric in names]
        lines.append(Line((*(cell.get(axis, MISSING) for axis in axes), name, str(row.n_items), *values), "dim" if row.role == "control" else ""))
    return Grid(columns, lines)


def _together(rows: Sequence[tuple[Entry, Row]]) -> list[tuple[Entry, Row]]:
    """Return rows with the snapshots of a training (``name~tokens``) beside it, as they come; entries stay in their order."""
    places = {id(row): (entry.id, row.subject.dictionary.partition("~")[0]) for entry, row in rows if isinstance(row.subject, DictionarySubjectRef)}
    order = list(dict.fromkeys(places.values()))
    entries = list(dict.fromkeys(entry.id for entry, _ in rows))
    return sorted(rows, key=lambda pair: (entries.index(pair[0].id), order.index(places[id(pair[1])])))


def _cell(value: MetricValue | None) -> str:
    if value is None or value.value is None:
        return MISSING
    return significant(value.value) + ("" if value.low is None else f" [{significant(value.low)}, {significant(value.high)}]")


def _reasons(rows: Sequence[Row]) -> list[str]:
    """Return why numbers are missing, each reason once."""
    missing = [f"{metric_heading(row, name)}: {value.reason}" for row in rows for name, value in row.metrics.items() if value.value is None]
    return list(dict.fromkeys(missing))
