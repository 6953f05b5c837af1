"""The page that holds two entries of a site against each other, and the data that it reads of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.leaderboard.columns import heading
from harness.leaderboard.entry import Entry, MetricValue, Row, full_name
from harness.leaderboard.places import Group, Place
from harness.leaderboard.site.limits import Limits
from harness.leaderboard.site.pages import OF_FILES, json_block, render
from harness.leaderboard.site.selection import spread_out
from harness.leaderboard.summary import lead
from harness.types import judge_title

_MOST_ITEMS = 2000
MOST_PAIRS = 100
"""Tested pairs of a method that its data holds, the nearest in the ranking."""

Pairs = dict[str, dict[tuple[str, str], list[Mapping[str, str]]]]
"""By the entry's id, by kind and id of the row's subject: the pairs that were tested."""


def tested_pairs(groups: Sequence[Group], files: Mapping[str, str]) -> Pairs:
    """Return what each ranking says of its pairs of methods and of methods with their controls, for the rows of both."""
    found: Pairs = {}
    for group in groups:
        for pair in group.comparisons:
            if abs(pair.first - pair.second) <= MOST_PAIRS // 2 and pair.low is not None:
                answer = "they are apart" if pair.apart else "they cannot be told apart"
                _note(
                    found,
                    files,
                    group.places[pair.first],
                    group.places[pair.second],
                    f"{answer}: {lead(pair)} for {group.places[pair.first].name}",
                )
        for place in group.places:
            for one in place.against:
                if one.low is not None:
                    text = f"does {place.name} beat {one.name}? {one.answer}: {lead(one)}"
                    _note(found, files, place, group.places[one.control], text)
    return found


def _note(found: Pairs, files: Mapping[str, str], first: Place, second: Place, text: str) -> None:
    said = f"Tested together with the rest of the ranking, {text}."
    for own, other in ((first, second), (second, first)):
        for run in own.runs:
            rows = found.setdefault(run.entry.id, {}).setdefault((run.row.kind, run.row.subject.id), [])
            rows += [{"entry": files[that.entry.id], "name": that.row.subject.name, "text": said} for that in other.runs]


def compare_page(listed: Sequence[Mapping[str, str]]) -> str:
    """Return the page: ``listed`` are the entries with ``file`` (the name of their page and data) and ``title``, the newest first."""
    return render(
        "compare.html.jinja", title="Two entries compared", entries=listed, policy=OF_FILES, alone=False, root="", styles=[], scripts=[]
    )


def compare_data(entry: Entry, file: str, title: str, against: Mapping[tuple[str, str], Sequence[Mapping[str, str]]]) -> str:
    """Return a script that hands the page what it needs of an entry.

    Args:
        entry: what was measured.
        file: name of its page and data.
        title: what its page is called.
        against: by kind and id of a row's subject: the tested pairs of it with others, from :func:`tested_pairs`.
    """
    judge = entry.judge
    facts = [
        ("task", f"{entry.task.name} {entry.task.version}, {entry.task.split}, concepts {entry.task.mode}"),
        ("task's digest", entry.task.digest),
        ("concepts' digest", entry.concept_set_digest),
        ("instructions' digest", entry.instruction_set_digest),
        ("model", f"{entry.model.name} ({entry.model.digest or 'digest not known'})"),
        ("precision and device", f"{entry.model.dtype} on {entry.model.device}"),
        (
            "dictionaries",
            ", ".join(f"{one.name}: layer {one.layer}, {one.d_sae:,} features, {one.digest}" for one in entry.dictionaries) or "none",
        ),
        ("judge", "none" if judge is None else f"{judge_title(judge.name, judge.options)} ({judge.rubric}, {judge.key})"),
        ("decoding", ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in vars(entry.decoding).items())),
        ("seed", str(entry.seed)),
        ("harness", entry.harness_version),
        ("made", entry.created),
    ]
    rows = [_row(row, entry.rows, against.get((row.kind, row.subject.id), ())) for row in entry.rows]
    value: dict[str, Any] = {"title": title, "file": file, "facts": facts, "rows": rows}
    return f"harnessEntry({json_block(value)});\n"


def _row(row: Row, rows: Sequence[Row], against: Sequence[Mapping[str, str]]) -> dict[str, Any]:
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
        "metrics": [[row.score.title or heading(row.primary), *_number(row.score)], *_others(row)],
        "answered": f"{row.n_answered} of {row.n_items}",
        "items": [
            [item.id, limits.cut(item.text if row.kind != "dictionary" else item.id), item.values.get(row.primary)] for item in chosen
        ],
        "against": list(against),
        "left_out": len(row.items) - len(chosen),
    }


def _others(row: Row) -> list[list[Any]]:
    """Return the metrics beside the score."""
    return [[metric.title or heading(name), *_number(metric)] for name, metric in row.metrics.items() if name != row.primary]


def _number(metric: MetricValue) -> list[float | None]:
    return [metric.value, metric.low, metric.high]
