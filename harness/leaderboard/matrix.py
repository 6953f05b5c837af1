"""A task's matrix as plain values: what each method got in each cell, and how far it is ahead of its controls there.

Everything comes from the entries of the cells' runs. A method and a control that answer the same concepts are compared as in a ranking of that
cell: paired, all pairs of the cell at once. Where each has concepts of its own (chosen mode: random features under their own labels), the means of
the two sets are compared, see :func:`harness.scoring.unpaired.unpaired_difference`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from harness.leaderboard.comparisons import Answer
from harness.leaderboard.controls import Pairing, pairings_of
from harness.leaderboard.entry import Entry, MetricValue, Row, full_name
from harness.leaderboard.places import Group, Place
from harness.leaderboard.ranking import rank
from harness.leaderboard.subject import DictionarySubjectRef
from harness.types import EvaluationKind, Json, Role

Values = tuple[tuple[str, str], ...]
"""Which cell: (axis, value), in the order of the axes."""
LEAST = 12.0
"""Effective concepts on either side below which an unpaired lead is shown and not judged."""


@dataclass(frozen=True)
class Lead:
    """How far a method is ahead of one of its controls in a cell.

    Attributes:
        control: the control's name.
        own: whether it is the method's own (random features), and not everybody's (a prompt).
        paired: whether the two have the same concepts; else the means of two sets are compared.
        difference, low, high: of the scores, the method's less the control's (turned where lower is better); None where there is none.
        answer: whether the method beats it.
        reason: why that was not tested, or there is no interval; empty where there is one.
    """

    control: str
    own: bool
    paired: bool
    difference: float | None
    low: float | None
    high: float | None
    answer: Answer
    reason: str = ""


@dataclass(frozen=True)
class MatrixRow:
    """What one method, control or dictionary got in one cell.

    Attributes:
        cell: which.
        kind, role, name: of the method.
        metric: what it is judged by.
        score: its value with the interval.
        parts: the other metrics' values, by name.
        n_items, n_answered: concepts, and those that were answered.
        reasons: why it may not be ranked; empty where it may.
        leads: over its controls; empty for a control.
    """

    cell: Values
    kind: EvaluationKind
    role: Role
    name: str
    metric: str
    score: MetricValue
    parts: dict[str, float | None]
    n_items: int
    n_answered: int
    reasons: tuple[str, ...]
    leads: tuple[Lead, ...]


@dataclass(frozen=True)
class Matrix:
    """A matrix as far as it was run.

    Attributes:
        name, version: of the task.
        axes: (axis, its values), of the cells that are there.
        rows: by cell, in the order of the matrix.
        entries: of the cells, in that order.
        problems: (cell, why it has no result).
        of: cells of the whole matrix.
    """

    name: str
    version: str
    axes: tuple[tuple[str, tuple[str, ...]], ...]
    rows: tuple[MatrixRow, ...]
    entries: tuple[Entry, ...]
    problems: tuple[tuple[str, str], ...] = ()
    of: int = 0

    @property
    def cells(self) -> tuple[Values, ...]:
        """Return the cells that have a result."""
        return tuple(dict.fromkeys(row.cell for row in self.rows))

    @property
    def kinds(self) -> tuple[EvaluationKind, ...]:
        """Return the kinds of evaluation that the cells have."""
        return tuple(dict.fromkeys(row.kind for row in self.rows))

    def as_json(self) -> dict[str, Json]:
        """Return all but the entries, which are named by their ids."""
        rows: list[dict[str, Any]] = []
        for row in self.rows:
            plain = asdict(row)
            rows.append({**plain, "cell": dict(row.cell), "score": row.score.model_dump(mode="json"), "reasons": list(row.reasons)})
        return {
            "task": self.name,
            "version": self.version,
            "cells": len(self.cells),
            "of": self.of,
            "axes": {axis: list(values) for axis, values in self.axes},
            "rows": rows,
            "problems": [{"cell": cell, "problem": problem} for cell, problem in self.problems],
            "entries": [entry.id for entry in self.entries],
        }


def matrix_of(entries: Iterable[Entry], problems: Sequence[tuple[str, str]] = ()) -> Matrix:
    """Return the matrix of entries that are each of one cell of it.

    Args:
        entries: of one task's cells, at least one, each cell once.
        problems: (cell, why it has no result).
    """
    found = sorted((entry for entry in entries if entry.task.cell is not None), key=lambda entry: entry.task.cell.place)  # type: ignore[union-attr]
    cells = [entry.task.cell for entry in found]
    axes: dict[str, dict[str, None]] = {}
    for cell in cells:
        assert cell is not None
        for axis, value in cell.values:
            axes.setdefault(axis, {})[value] = None
    rows = tuple(row for entry in found for row in _rows(entry))
    first = cells[0]
    assert first is not None
    every = tuple((axis, tuple(values)) for axis, values in axes.items())
    return Matrix(first.matrix, found[0].task.version, every, rows, tuple(found), tuple(problems), max(cell.of for cell in cells if cell))


def _rows(entry: Entry) -> list[MatrixRow]:
    """Return a cell's rows, methods first."""
    assert entry.task.cell is not None
    groups, found = rank([entry]), []
    leads: dict[str, list[Lead]] = {}
    for kind in dict.fromkeys(row.kind for row in entry.rows):
        leads.update(_leads([group for group in groups if group.key.kind == kind]))
    for row in sorted(entry.rows, key=lambda row: row.role == "control"):
        parts = {name: metric.value for name, metric in row.metrics.items() if name != row.primary}
        name = _name(row, entry.rows)
        found.append(
            MatrixRow(
                entry.task.cell.values, row.kind, row.role, name, row.primary, row.score, parts, row.n_items, row.n_answered, row.reasons,
                tuple(leads.get(_key(row), ())),
            )
        )  # fmt: skip
    return found


def _name(row: Row, rows: Sequence[Row]) -> str:
    subject = row.subject
    if not isinstance(subject, DictionarySubjectRef):
        return full_name(row, rows)
    seed = "" if subject.training_seed is None else f", training seed {subject.training_seed}"
    return f"{subject.name}: {subject.dictionary}{f', {subject.arm}' if row.role == 'control' else ''}{seed}"


def _key(row: Row) -> str:
    return f"{row.kind} {row.subject.id}"


def _leads(groups: Sequence[Group]) -> dict[str, list[Lead]]:
    """Return the leads of a cell's methods of one kind, by their row, own controls first."""
    where = [(group, number) for group in groups for number in range(len(group.places))]
    places = [group.places[number] for group, number in where]
    found: dict[str, list[Lead]] = {}
    for pairing in pairings_of(places):
        (group, _), (other, control) = where[pairing.method], where[pairing.control]
        method = places[pairing.method]
        if method.row.primary != places[pairing.control].row.primary:
            continue
        lead = _paired(method, control, pairing) if group is other else _unpaired(method, places[pairing.control], pairing, group)
        if lead is not None:
            found.setdefault(_key(method.row), []).append(lead)
    return {key: sorted(leads, key=lambda lead: not lead.own) for key, leads in found.items()}


def _paired(method: Place, control: int, pairing: Pairing) -> Lead | None:
    found = next((one for one in method.against if one.control == control), None)
    if found is None:
        return None
    return Lead(pairing.name, found.own, True, found.difference, found.low, found.high, found.answer, found.reason)


def _unpaired(method: Place, control: Place, pairing: Pairing, group: Group) -> Lead:
    from harness.leaderboard.paired import features_of  # numpy-heavy: only where something is compared
    from harness.scoring import clusters_of
    from harness.scoring.unpaired import unpaired_difference

    sign = -1.0 if group.higher_is_better is False else 1.0
    sides, clusters = [], []
    for place in (method, control):
        values = place.row.values(group.key.mode == "fixed")
        features = features_of((run.row, run.entry.dictionaries) for run in place.runs)
        sides.append([sign * value for value in values.values()])
        clusters.append(clusters_of((item, sorted(features.get(item, ()))) for item in values))
    found = unpaired_difference(sides[0], sides[1], clusters[0], clusters[1])
    reason, answer = found.reason, _answer(found.low, found.high, group.smallest)
    if found.low is not None and min(found.effective) < LEAST:
        answer, reason = "not tested", f"fewer than {LEAST:g} independent concepts on one side"
    return Lead(pairing.name, pairing.own, False, found.difference, found.low, found.high, answer, reason)


def _answer(low: float | None, high: float | None, smallest: float | None) -> Answer:
    if low is None or high is None:
        return "not tested"
    return "yes" if low > 0 else "no" if high < (smallest or 0.0) else "not shown"
