"""What must be known to read rows: abstentions, texts without a rating, rough intervals; each said once for all rows that it holds for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from harness.leaderboard.columns import metric_heading, number
from harness.leaderboard.entry import JudgeRef, MetricValue, Row
from harness.leaderboard.places import Place

if TYPE_CHECKING:
    from harness.chat.retirement import Retirement

IS_OFFLINE = "is an offline judge"
FAILS_SELFTEST = "fails the self-test"
"""How warnings of entries begin to say it, after the judge's name."""
GONE_JUDGE = "the judge is gone"
"""How the line on a judge whose model was shut down begins."""
OFFLINE_NOTICE = "offline judge: for demonstrations and tests, no person or strong model stands behind these ratings"


def gone_judge(judge: JudgeRef | None) -> list[str]:
    """Return a line where the model that rated was shut down by its API: nobody can have it rate again. Nothing for any other judge."""
    model = None if judge is None else judge.options.get("model")
    if judge is None or not isinstance(model, str) or "base_url" not in judge.options:
        return []
    from harness.chat.providers.servers import HOMES, is_own

    url = judge.options["base_url"]
    if url is not None and not any(is_own(api, str(url)) for api in HOMES):
        return []  # another server that serves a model of that name
    found = retired(model)
    return [] if found is None else [f"{GONE_JUDGE}: {found.fact}; these ratings stay, and nobody can have them repeated"]


def retired(model: str) -> Retirement | None:
    """Return the retirement of a model that its API has shut down; None for any other."""
    from harness.chat.retirement import load_retirements
    from harness.errors import HarnessError
    from harness.files.cache_dir import cache_root

    try:
        found = load_retirements(cache_root()).of_any(model)
    except HarnessError:  # a price file that is not valid: said where prices matter
        return None
    return found if found is not None and found.gone else None


def abstention_notices(rows: Iterable[Row]) -> list[str]:
    """Return what the scores of rows with abstentions count, once per metric."""
    found = []
    for row in rows:
        if row.ranked is not None and row.n_answered < row.n_items:
            trivial = row.metrics[row.primary].trivial
            worth = "as the trivial value" if trivial is None else f"as {trivial:g}"
            found.append(f"{metric_heading(row, row.primary)} counts a concept without an answer {worth}; the other numbers are of the answered ones")
    return list(dict.fromkeys(found))


_MOST = 8
"""So many concepts without an answer are named below a table; the entry has all."""


def unanswered(rows: Iterable[Row]) -> list[str]:
    """Which concepts have no answer, and why: a line each, with the methods where not all that abstain say the same."""
    abstaining = [row for row in rows if any(not item.answered for item in row.items)]
    found: dict[tuple[str, str], list[str]] = {}
    for row in abstaining:
        for item in row.items:
            if not item.answered:
                found.setdefault((item.id, item.reason), []).append(row.subject.name)
    lines = [
        f"{'' if len(names) == len(abstaining) else ', '.join(names) + ': '}concept {concept} has no answer: {reason or 'no reason is given'}"
        for (concept, reason), names in found.items()
    ]
    return lines[:_MOST] + ([f"{len(lines) - _MOST} more concepts have no answer; --json and the entry say why"] if len(lines) > _MOST else [])


def bounds(row: Row) -> list[str]:
    """Return what the texts without a rating could have changed."""
    if row.bounds is None or not row.n_unrated or row.bounds.low is None or row.bounds.high is None:
        return []
    low, high = number(row.bounds.low), number(row.bounds.high)
    have, worth = ("has", "it is") if row.n_unrated == 1 else ("have", "they are")
    score = metric_heading(row, row.primary)
    rest = f"which moves {score} by less than 0.001" if low == high else f"{score} lies between {low} and {high}"
    return [f"{row.n_unrated} of {row.n_texts} texts {have} no rating{',' if low == high else ';'} {rest} whatever {worth} worth"]


def aspects(rows: Iterable[Row]) -> list[str]:
    """Return what was asked of aspect texts, once, and why a number is missing."""
    known = [row.aspects for row in rows if row.aspects is not None]
    reasons = [metric.reason for found in known for metric in found.metrics.values() if metric.value is None]
    return list(dict.fromkeys([*(found.line for found in known), *reasons]))


def side_effects(rows: Iterable[Row]) -> list[str]:
    """Return on which texts side effects were measured, each set once, and why a number of them is missing."""
    known = [row.side_effects for row in rows if row.side_effects is not None]
    reasons = [metric.reason for found in known for metric in found.metrics.values() if metric.value is None]
    return list(dict.fromkeys([*(found.line for found in known), *reasons]))


def no_interval(row: Row) -> list[str]:
    """Return why numbers of a row that its table shows with an interval have none."""
    shown = [row.score] if row.kind != "dictionary" else [row.score, *(metric for name, metric in row.metrics.items() if name != row.primary)]
    return list(dict.fromkeys(line for metric in shown for line in missing(metric)))


def missing(metric: MetricValue) -> list[str]:
    """Return why a number has no interval; nothing for one that has, and where there is no number."""
    if metric.value is None or metric.low is not None:
        return []
    return [metric.reason if "interval" in metric.reason else f"no interval: {metric.reason}"]


def no_intervals(places: Sequence[Place]) -> list[str]:
    """Return why numbers of a group have no interval, each reason once, with the rows where it does not hold for all."""
    return said_once([(place.name, line) for place in places for line in no_interval(place.row)], len(places))


def said_once(lines: Iterable[tuple[str, str]], n: int) -> list[str]:
    """Return each line once, with the names of those for whom it holds where these are not all ``n``."""
    found: dict[str, list[str]] = {}
    for name, line in lines:
        found.setdefault(line, []).append(name)
    return [line if len(names) == n else f"{', '.join(names)}: {line}" for line, names in found.items()]


def rough(row: Row) -> list[str]:
    """Return what the row's intervals warn of; that of a metric beside the score only where it is another."""
    own = row.score.warning
    others = {name: value.warning for name, value in row.metrics.items() if value.warning not in ("", own)}
    return ([own] if own else []) + [f"{metric_heading(row, name)}: {warning}" for name, warning in others.items()]


def rough_scores(places: Sequence[Place]) -> list[str]:
    """Return what the intervals of a group's scores warn of, each once, with the rows where it does not hold for all."""
    return said_once([(place.name, place.score.warning) for place in places if place.score.warning], len(places))
