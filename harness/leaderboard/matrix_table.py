"""A matrix for people: one table a kind of evaluation, a line a cell, a column a method; leads over controls beside."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group as Stack
from rich.console import RenderableType
from rich.text import Text

from harness.leaderboard.columns import MISSING, heading, number, signed, significant
from harness.leaderboard.layout import Column, Grid, Line, Prose
from harness.leaderboard.matrix import Lead, Matrix, MatrixRow
from harness.leaderboard.notices import OFFLINE_NOTICE
from harness.leaderboard.opening import NOTICE, judge_text, title
from harness.types import EvaluationKind

_MOST_NOTES = 12


def render_matrix(matrix: Matrix) -> RenderableType:
    """Return the matrix: its title, a table for each kind of evaluation, and what must be known to read it."""
    parts: list[RenderableType] = [title(about(matrix))]
    for kind in matrix.kinds:
        rows = [row for row in matrix.rows if row.kind == kind]
        metrics = ", ".join(dict.fromkeys(heading(row.metric) for row in rows))
        parts += [Text(), Text(f"{kind}: {metrics}", style="bold"), grid_of(matrix, kind)]
    return Stack(*parts, *[Prose(line, NOTICE if notice else "dim") for notice, line in notes(matrix)])


def about(matrix: Matrix) -> str:
    """Return what the matrix is of, in a line."""
    judges = dict.fromkeys(judge_text(entry.judge) for entry in matrix.entries if entry.judge is not None)
    models = dict.fromkeys(entry.model.name for entry in matrix.entries)
    parts = [f"{matrix.name} {matrix.version}", ", ".join(models), *judges, f"{len(matrix.cells)} of {matrix.of} cells"]
    return " · ".join(parts)


def grid_of(matrix: Matrix, kind: EvaluationKind) -> Grid:
    """Return the table of one kind of evaluation: axes that vary, each method's score with its interval, its leads over its controls."""
    rows = [row for row in matrix.rows if row.kind == kind]
    axes = [(place, axis) for place, (axis, values) in enumerate(matrix.axes) if len(values) > 1] or [(0, matrix.axes[0][0])]
    names = list(dict.fromkeys((row.role, row.name) for row in rows))
    names.sort(key=lambda name: name[0] == "control")
    pairs = list(dict.fromkeys((row.name, lead.control, lead.own) for row in rows for lead in row.leads))
    columns = [Column(axis, name=True) for _, axis in axes]
    columns += [Column(f"{name} (control)" if role == "control" else name) for role, name in names]
    several = len({name for name, _, _ in pairs}) > 1
    columns += [Column(f"lead {f'of {name} ' if several else ''}over {control}", optional=not own) for name, control, own in pairs]
    lines = []
    for cell in dict.fromkeys(row.cell for row in rows):
        own = {(row.role, row.name): row for row in rows if row.cell == cell}
        leads = {(row.name, lead.control, lead.own): lead for row in own.values() for lead in row.leads}
        values = [cell[place][1] for place, _ in axes]
        scores = [score_text(own.get(name)) for name in names]
        lines.append(Line((*values, *scores, *(lead_text(leads.get(pair)) for pair in pairs))))
    return Grid(columns, lines)


def score_text(row: MatrixRow | None) -> str:
    """Return a score with its interval; a star marks one that may not be ranked."""
    if row is None:
        return MISSING
    score, star = row.score, "*" if row.reasons and row.role == "method" else ""
    if row.kind == "dictionary":
        ends = "" if score.low is None else f" [{significant(score.low)}, {significant(score.high)}]"
        return f"{significant(score.value)}{star}{ends}"
    digits = 2 if row.kind == "steering" else 3
    ends = "" if score.low is None else f" [{number(score.low, digits)}, {number(score.high, digits)}]"
    return f"{number(score.value)}{star}{ends}"


def lead_text(lead: Lead | None) -> str:
    """Return a lead with its interval, and whether it is one."""
    if lead is None or lead.difference is None:
        return MISSING
    ends = "" if lead.low is None else f" [{number(lead.low, 2)}, {number(lead.high, 2)}]"
    return f"{signed(lead.difference, 2)}{ends}{' ✓' if lead.answer == 'yes' else ''}"


def notes(matrix: Matrix) -> list[tuple[bool, str]]:
    """Return what must be known to read the tables: whether it is a notice, and the line."""
    found = [(True, f"cell {cell}: {problem}") for cell, problem in matrix.problems]
    leads = [lead for row in matrix.rows for lead in row.leads]
    if any(entry.judge is not None and entry.judge.offline for entry in matrix.entries):
        found.append((True, OFFLINE_NOTICE))
    differing = _differing(matrix)
    if differing:
        found.append((True, f"the cells differ in more than their axes: {', '.join(differing)}"))
    refused: dict[str, list[str]] = {}
    for row in matrix.rows:
        for reason in row.reasons if row.role == "method" else ():
            refused.setdefault(f"{row.name}: {reason}", []).append(",".join(value for _, value in row.cell))
    found += _few([(True, f"* {line} (in {len(cells)} cell{'s' * (len(cells) != 1)}, first {cells[0]})") for line, cells in refused.items()])
    found.append((False, "intervals: 95 %, over the concepts of a cell; no two cells are compared"))
    if any(lead.paired for lead in leads):
        found.append((False, "leads over controls with the same concepts: paired, all of a cell's together; ✓ marks an interval above 0"))
    if any(not lead.paired for lead in leads):
        found.append((False, "leads over controls with concepts of their own: of two means (Welch), each pair for itself; ✓ as above"))
    untested = dict.fromkeys(lead.reason for lead in leads if lead.answer == "not tested" and lead.reason)
    found += _few([(False, f"not tested: {reason}") for reason in untested])
    if len(matrix.cells) + len(matrix.problems) < matrix.of:
        found.append((False, f"{matrix.of - len(matrix.cells) - len(matrix.problems)} of {matrix.of} cells were not run"))
    return found


def _few(lines: Sequence[tuple[bool, str]]) -> list[tuple[bool, str]]:
    more = len(lines) - _MOST_NOTES
    return [*lines[:_MOST_NOTES], *([(False, f"… and {more} more; `--json` has all")] if more > 0 else [])]


def _differing(matrix: Matrix) -> list[str]:
    """Return what a matrix does not vary by itself and its runs differ in all the same."""
    aspects = {
        "seed": [str(entry.seed) for entry in matrix.entries],
        "version of the task": [entry.task.version for entry in matrix.entries],
        "harness version": [entry.harness_version for entry in matrix.entries],
    }
    return [name for name, values in aspects.items() if len(set(values)) > 1]
