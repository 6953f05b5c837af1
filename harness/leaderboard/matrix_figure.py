"""The figure of a matrix, as SVG: a band a cell, in it a dot and an interval for each method; controls are grey. Light, with a ground of its own."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape

from harness.leaderboard.columns import heading, significant
from harness.leaderboard.matrix import Matrix, MatrixRow, Values
from harness.leaderboard.matrix_table import about
from harness.types import EvaluationKind

_INK, _FAINT, _LINE, _GROUND, _BAND = "#1f2430", "#5c6470", "#d9dde3", "#fbfbf9", "#f1f1ec"
_METHODS = ("#3355c4", "#c06a00", "#1d8f83", "#c2487f", "#2f8a3c", "#8a4fd0", "#8a5a3c", "#d2433b")
_CONTROLS = ("#7d838c", "#a9aeb5", "#5c6470", "#c4c8cd")
_FONT = "font-family=\"system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif\""
_MOST_TICKS = 6
_STEP, _PAD, _TOP, _PLOT, _LETTER = 13, 7, 74, 520, 7.0

Name = tuple[str, str]
"""Role and name of a method."""


def figure(matrix: Matrix, kind: EvaluationKind) -> str:
    """Return the figure of one kind of evaluation; cells in the order of the matrix, methods in the same order in each."""
    rows = [row for row in matrix.rows if row.kind == kind and row.score.value is not None]
    names: list[Name] = sorted(dict.fromkeys((row.role, row.name) for row in rows), key=lambda name: name[0] == "control")
    cells = list(dict.fromkeys(row.cell for row in rows))
    columns = _columns(matrix, cells)
    left = 20 + sum(width for _, _, width in columns)
    ticks = _ticks(rows)
    low, high = ticks[0], ticks[-1]
    band = _STEP * max(len(names), 1) + 2 * _PAD
    top = _TOP + 18 * len(names)
    height, width = top + band * max(len(cells), 1) + 40, left + _PLOT + 40
    colours = _colours(names)
    summary = f"{kind}, {', '.join(dict.fromkeys(heading(row.metric) for row in rows))}: {about(matrix)}"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" width="{width:.0f}" height="{height}" role="img" {_FONT}>',
        f"<title>{escape(summary)}</title>",
        f'<rect width="{width:.0f}" height="{height}" fill="{_GROUND}"/>',
        _text(20, 28, f"{matrix.name}: {kind}", 17, 600),
        _text(20, 48, summary.partition(": ")[2], 12, fill=_FAINT),
    ]
    for number, name in enumerate(names):
        y = 66 + 18 * number
        parts.append(f'<line x1="20" x2="44" y1="{y}" y2="{y}" stroke="{colours[name]}" stroke-width="3"{_dashes(name)}/>')
        parts.append(_text(52, y + 4, f"{name[1]} (control)" if name[0] == "control" else name[1], 12))
    parts += [
        f'<rect x="12" y="{top + band * number}" width="{left + _PLOT + 16:.0f}" height="{band}" fill="{_BAND}"/>'
        for number in range(1, len(cells), 2)
    ]
    parts += _axis(ticks, left, top, band * len(cells))
    before: Values | None = None
    for number, cell in enumerate(cells):
        y = top + band * number
        own = {(row.role, row.name): row for row in rows if row.cell == cell}
        parts += _names(cell, before, columns, y + band / 2 + 4)
        for place, name in enumerate(names):
            if name in own:
                parts += _mark(own[name], y + _PAD + _STEP * (place + 0.5), left, low, high, colours[name], name[0] == "control")
        before = cell
    return "\n".join([*parts, "</svg>"]) + "\n"


def _columns(matrix: Matrix, cells: Sequence[Values]) -> list[tuple[int, float, float]]:
    """Return, of each axis that varies, its place, where its column begins, and how wide that is."""
    found, x = [], 20.0
    for place, (_, values) in enumerate(matrix.axes):
        if len(values) > 1 or len(matrix.axes) == 1:
            width = 16 + _LETTER * max(len(cell[place][1]) for cell in cells) if cells else 60.0
            found.append((place, x, width))
            x += width
    return found


def _names(cell: Values, before: Values | None, columns: Sequence[tuple[int, float, float]], y: float) -> Iterator[str]:
    """A cell's values, from the first that differs from the cell above."""
    new = before is None
    for place, x, _ in columns:
        new = new or before is None or cell[place] != before[place]
        if new:
            yield _text(x, y, cell[place][1], 12, 600 if place == columns[0][0] else 400)


def _axis(ticks: Sequence[float], left: float, top: int, length: int) -> Iterator[str]:
    for value in ticks:
        x = _at(value, ticks[0], ticks[-1], left)
        yield f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{top + length}" stroke="{_LINE}"/>'
        yield _text(x, top + length + 18, significant(value), 11, fill=_FAINT, anchor="middle")


def _mark(row: MatrixRow, y: float, left: float, low: float, high: float, colour: str, control: bool) -> Iterator[str]:
    score = row.score
    assert score.value is not None
    ends = "" if score.low is None else f" [{significant(score.low)}, {significant(score.high)}]"
    yield f"<g><title>{escape(f'{row.name}: {significant(score.value)}{ends}')}</title>"
    if score.low is not None and score.high is not None:
        first, last = (_at(end, low, high, left) for end in (score.low, score.high))
        yield f'<line x1="{first:.1f}" x2="{last:.1f}" y1="{y:g}" y2="{y:g}" stroke="{colour}" stroke-width="2" stroke-opacity="0.55"/>'
    x = _at(score.value, low, high, left)
    fill = _GROUND if control else colour
    yield f'<circle cx="{x:.1f}" cy="{y:g}" r="4" fill="{fill}" stroke="{colour}" stroke-width="1.5"/></g>'


def _ticks(rows: Sequence[MatrixRow]) -> list[float]:
    """Return the marks of the axis, round numbers from the metric's lower bound (or the least value) to beyond the greatest end of an interval."""
    values = [end for row in rows for end in (row.score.value, row.score.low, row.score.high) if end is not None] or [0.0, 1.0]
    floor = next((row.score.bounds[0] for row in rows if row.score.bounds[0] is not None), None)
    low, high = min(values) if floor is None else floor, max(values)
    high = high if high > low else low + 1.0
    power = 10.0 ** math.floor(math.log10((high - low) / _MOST_TICKS))
    step = next(step * power for step in (1, 2, 2.5, 5, 10, 20) if (high - low) / (step * power) <= _MOST_TICKS)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, last + 1)]


def _colours(names: Sequence[Name]) -> dict[Name, str]:
    found: dict[Name, str] = {}
    for role, palette in (("method", _METHODS), ("control", _CONTROLS)):
        for number, name in enumerate(name for name in names if (name[0] == "control") == (role == "control")):
            found[name] = palette[number % len(palette)]
    return found


def _dashes(name: Name) -> str:
    return ' stroke-dasharray="5 3"' if name[0] == "control" else ""


def _at(value: float, low: float, high: float, left: float) -> float:
    return left + _PLOT * (value - low) / (high - low)


def _text(x: float, y: float, text: str, size: int, weight: int = 400, fill: str = _INK, anchor: str = "start") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:g}" font-size="{size}" font-weight="{weight}" fill="{fill}" text-anchor="{anchor}">{escape(text)}</text>'
    )
