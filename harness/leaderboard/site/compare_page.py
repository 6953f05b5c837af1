"""The page that holds two entries of a site against each other, and the data that it reads of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.leaderboard.columns import heading
from harness.leaderboard.entry import Entry, MetricValue, Row, full_name
from harness.leaderboard.site.limits import Limits
from harness.leaderboard.site.pages import OF_FILES, json_block, render
from harness.leaderboard.site.selection import spread_out
from harness.types import judge_title

_MOST_ITEMS = 2000


def compare_page(listed: Sequence[Mapping[str, str]]) -> str:
    """Return the page: ``listed`` are the entries with ``file`` (the name of their page and data) and ``title``, the newest first."""
    return render("compare.html.jinja", title="Two entries compared", entries=listed, policy=OF_FILES, alone=False, root="", styles=[], scripts=[])


def compare_data(entry: Entry, file: str, title: str) -> str:
    """Return a script that hands the page what it needs of an entry."""
    judge = entry.judge
    facts = [
        ("task", f"{entry.task.name} {entry.task.version}, {entry.task.split}, concepts {entry.task.mode}"),
        ("task's digest", entry.task.digest),
        ("concepts' digest", entry.concept_set_digest),
        ("instructions' digest", entry.instruction_set_digest),
        ("model", f"{entry.model.name} ({entry.model.digest or 'digest not known'})"),
        ("precision and device", f"{entry.model.dtype} on {entry.model.device}"),
        ("dictionaries", ", ".join(f"{one.name}: layer {one.layer}, {one.d_sae:,} features, {one.digest}" for one in entry.dictionaries) or "none"),
        ("judge", "none" if judge is None else f"{judge_title(judge.name, judge.options)} ({judge.rubric}, {judge.key})"),
        ("decoding", ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in vars(entry.decoding).items())),
        ("seed", str(entry.seed)),
        ("harness", entry.harness_version),
        ("made", entry.created),
    ]
    rows = [_row(row, entry.rows) for row in entry.rows]
    value: dict[str, Any] = {"title": title, "file": file, "facts": facts, "rows": rows}
    return f"harnessEntry({json_block(value)});\n"


def _row(row: Row, rows: Sequence[Row]) -> dict[str, Any]:
    limits = Limits()
    chosen = spread_out(row.items, _MOST_ITEMS)
    better = row.metrics[row.primary].higher_is_better
    return {
        "kind": row.kind,
        "name": full_name(row, rows),
        "control": row.role == "control",
        "metric": row.score.title or heading(row.primary),
        "better": None if better is None else 1 if better else -1,
        "score": _number(row.score),
        "metrics": [[metric.title or heading(name), *_number(metric)] for name, metric in row.metrics.items()],
        "answered": f"{row.n_answered} of {row.n_items}",
        "items": [[item.id, limits.cut(item.text if row.kind != "dictionary" else item.id), item.values.get(row.primary)] for item in chosen],
        "left_out": len(row.items) - len(chosen),
    }


def _number(metric: MetricValue) -> list[float | None]:
    return [metric.value, metric.low, metric.high]
