"""The README's picture: the demo's newest entry in ``leaderboard/entries``, drawn as SVG.

``docs/generate.py`` writes it; a light card of its own, so that it can be read on a dark page, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from pathlib import Path

from harness.leaderboard.columns import heading, number
from harness.leaderboard.entry import Entry, MetricValue, Row, full_name
from harness.leaderboard.files import load_entries

WIDTH, TOP, STEP, BOTTOM = 880, 112, 36, 64
NAMES, SCORE, RATINGS, END = 24, 250, 560, 850
"""Where names, scores and ratings begin, and where the ratings end."""
INK, FAINT, LINE, CARD = "#1f2430", "#5c6470", "#d9dde3", "#fbfbf9"
METHOD, CONTROL = "#0b63a5", "#8a8f98"
PARTS = {"concept": "#b4540a", "instruction": "#3c7a3e", "fluency": "#6a4ea3"}
FONT = "font-family=\"system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif\""


def newest_entry(folder: Path, task: str) -> Entry:
    """Return the newest entry of a task's highest version that has rows of steering. Raises SystemExit where there is none."""
    entries, _ = load_entries(folder)
    found = [entry for entry in entries if entry.task.name == task and entry.rows_of("steering")]
    if not found:
        raise SystemExit(f"{folder} has no entry of task {task!r} to draw")
    return max(found, key=lambda entry: (int(entry.task.version), entry.created))


def picture(entry: Entry) -> str:
    """Return the SVG: scores with their intervals, and beside them the three ratings that they are made of."""
    rows = entry.rows_of("steering")
    height = TOP + STEP * len(rows) + BOTTOM
    most = _most(rows)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img" {FONT}>',
        f"<title>{escape(_summary(entry, rows))}</title>",
        f'<rect x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="10" fill="{CARD}" stroke="{LINE}"/>',
        _text(NAMES, 34, f"The demo: steering {entry.model.name} towards {rows[0].n_items} concepts", size=17, weight=600),
        _text(NAMES, 56, f"Judge {_judge(entry)}; overall is the AxBench score, 0 to 2, with its 95 % interval over concepts"),
        *_axis("overall", SCORE, most, [most * part / 4 for part in range(5)], height),
        *_axis("its three ratings", RATINGS, 2.0, [0.0, 0.5, 1.0, 1.5, 2.0], height, END),
    ]
    for place, row in enumerate(rows):
        parts += _row(row, full_name(row, rows), TOP + STEP * place + STEP / 2, most)
    parts += _legend(height - 20)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _row(row: Row, name: str, y: float, most: float) -> Iterator[str]:
    colour = METHOD if row.role == "method" else CONTROL
    role = "" if row.role == "method" else f' <tspan fill="{FAINT}" font-weight="400">control</tspan>'
    weight = 600 if row.role == "method" else 400
    length = len(name) + (8 if role else 0)
    size = min(14.0, (SCORE - NAMES - 10) / (0.55 * length))  # a long name (its options) is set smaller, so that it ends before the scores
    yield f'<text x="{NAMES}" y="{y + 5:g}" font-size="{size:.3g}" font-weight="{weight}" fill="{INK}">{escape(name)}{role}</text>'
    score: MetricValue = row.score
    if score.low is not None and score.high is not None:
        left, right = (_at(end, SCORE, RATINGS - 90, most) for end in (score.low, score.high))
        ends = f'x1="{left:.1f}" y1="{y:g}" x2="{right:.1f}" y2="{y:g}"'
        yield f'<line {ends} stroke="{colour}" stroke-width="3" stroke-opacity="0.45" stroke-linecap="round"/>'
    if score.value is not None:
        yield f'<circle cx="{_at(score.value, SCORE, RATINGS - 90, most):.1f}" cy="{y:g}" r="5.5" fill="{colour}"/>'
    yield _text(RATINGS - 70, y + 5, number(score.value), size=13, weight=600, fill=colour)
    for part, tint in PARTS.items():
        value = row.metrics[part].value
        if value is not None:
            yield f'<circle cx="{_at(value, RATINGS, END, 2.0):.1f}" cy="{y:g}" r="5" fill="{tint}" fill-opacity="0.9"/>'


def _axis(title: str, left: float, most: float, ticks: list[float], height: int, right: float = RATINGS - 90) -> Iterator[str]:
    bottom = height - BOTTOM + 6
    yield _text(left, TOP - 28, title, size=13, weight=600)
    for tick in ticks:
        x = _at(tick, left, right, most)
        yield f'<line x1="{x:.1f}" y1="{TOP - 6}" x2="{x:.1f}" y2="{bottom}" stroke="{LINE}"/>'
        yield _text(x, TOP - 10, f"{tick:g}", size=11, fill=FAINT, anchor="middle")


def _legend(y: int) -> Iterator[str]:
    x = float(RATINGS)
    for part, tint in PARTS.items():
        yield f'<circle cx="{x + 5:g}" cy="{y - 4}" r="5" fill="{tint}"/>'
        yield _text(x + 15, y, heading(part), size=12, fill=FAINT)
        x += 34 + 6.2 * len(part)


def _text(x: float, y: float, text: str, size: int = 13, weight: int = 400, fill: str = INK, anchor: str = "start") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:g}" font-size="{size}" font-weight="{weight}" fill="{fill}" text-anchor="{anchor}">{escape(text)}</text>'
    )


def _at(value: float, left: float, right: float, most: float) -> float:
    return left + (right - left) * value / most


def _most(rows: tuple[Row, ...]) -> float:
    """Return the end of the axis of scores: the largest end of an interval, rounded up to fifths."""
    ends = [value for row in rows for value in (row.score.high, row.score.value) if value is not None]
    return min(2.0, (int(max(ends, default=0.2) / 0.2 - 1e-9) + 1) * 0.2)


def _judge(entry: Entry) -> str:
    return "?" if entry.judge is None else entry.judge.rubric


def _summary(entry: Entry, rows: tuple[Row, ...]) -> str:
    """Return what the picture shows, for those who do not see it."""
    scores = ", ".join(f"{full_name(row, rows)} {number(row.score.value)}" for row in rows)
    return f"Overall scores of the demo (version {entry.task.version}, judge {_judge(entry)}): {scores}"
