"""The page that holds two entries of a site against each other, and the data that it reads of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.leaderboard.columns import heading
from harness.leaderboard.entry import Entry, MetricValue, Row, full_name
from harness.leaderboard.places import Group
from harness.leaderboard.site.limits import Limits
from harness.leaderboard.site.pages import OF_FILES, json_block, render
from harness.leaderboard.site.selection import spread_out
from harness.leaderboard.summary import lead
from harness.types import EvaluationKind, judge_title

_MOST_ITEMS = 2000
MOST_PAIRS = 100
"""Of a method's tested pairs, those with so many methods behind it in the ranking are kept."""

Key = tuple[str, EvaluationKind, str]
"""Of a row: the entry's id, the kind, the subject's id."""


@dataclass(frozen=True)
class Tested:
    """What the rankings of a site say of their pairs.

    Attributes:
        place: of each row, the place that it has in a ranking; runs of one method share it.
        pairs: by place, by the place of the other one: how far one is ahead of the other, and whether they are apart.
    """

    place: Mapping[Key, str]
    pairs: Mapping[str, Mapping[str, str]]


def tested_pairs(groups: Sequence[Group]) -> Tested:
    """Return the tested pairs of methods, and of methods with their controls."""
    place = {
        (run.entry.id, run.row.kind, run.row.subject.id): f"{at}-{number}"
        for at, group in enumerate(groups)
        for number, one in enumerate(group.places)
        for run in one.runs
    }
    pairs: dict[str, dict[str, str]] = {}
    for at, group in enumerate(groups):
        for pair in group.comparisons:
            if abs(pair.first - pair.second) <= MOST_PAIRS and pair.low is not None:
                answer = "they are apart" if pair.apart else "they cannot be told apart"
                pairs.setdefault(f"{at}-{pair.first}", {})[f"{at}-{pair.second}"] = (
                    f"{answer}: {lead(pair)} for {group.places[pair.first].name}"
                )
        for number, one in enumerate(group.places):
            for found in one.against:
                if found.low is not None:
                    text = f"does {one.name} beat {found.name}? {found.answer}: {lead(found)}"
                    pairs.setdefault(f"{at}-{number}", {})[f"{at}-{found.control}"] = text
    return Tested(place, pairs)


def compare_page(listed: Sequence[Mapping[str, str]], second: int = 1) -> str:
    """Return the page as HTML.

    Args:
        listed: the entries with ``file`` (the name of their page and data), ``title`` and ``about``, the newest first.
        second: which of them is held against the first one at first.
    """
    return render(
        "compare.html.jinja",
        title="Two entries compared",
        entries=listed,
        second=second,
        policy=OF_FILES,
        alone=False,
        root="",
        styles=[],
        scripts=[],
    )


def compare_data(entry: Entry, file: str, title: str, tested: Tested) -> str:
    """Return a script that hands the page what it needs of an entry.

    Args:
        entry: what was measured.
        file: name of its page and data.
        title: what its page is called.
        tested: the pairs of the site's rankings.
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
        ("protocol", entry.protocol.title),
        ("decoding", ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in vars(entry.decoding).items())),
        ("seed", str(entry.seed)),
        ("harness", entry.harness_version),
        ("made", entry.created),
    ]
    rows = [_row(row, entry.rows, tested.place.get((entry.id, row.kind, row.subject.id), "")) for row in entry.rows]
    tests = {row["place"]: tested.pairs.get(row["place"], {}) for row in rows}
    value: dict[str, Any] = {"title": title, "file": file, "facts": facts, "rows": rows, "tests": tests}
    return f"harnessEntry({json_block(value)});\n"


def _row(row: Row, rows: Sequence[Row], place: str) -> dict[str, Any]:
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
        "place": place,
        "left_out": len(row.items) - len(chosen),
    }


def _others(row: Row) -> list[list[Any]]:
    """Return the metrics beside the score."""
    return [[metric.title or heading(name), *_number(metric)] for name, metric in row.metrics.items() if name != row.primary]


def _number(metric: MetricValue) -> list[float | None]:
    return [metric.value, metric.low, metric.high]
