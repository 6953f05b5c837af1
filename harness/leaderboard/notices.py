"""What must be known to read rows: abstentions, texts without a rating, rough intervals; each said once for all rows that it holds for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from harness.leaderboard.columns import metric_heading, number
from harness.leaderboard.entry import JudgeRef, Row
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
    ends = f"{number(row.bounds.low)} and {number(row.bounds.high)}"
    return [f"{row.n_unrated} of {row.n_texts} texts have no rating; {metric_heading(row, row.primary)} lies between {ends} whatever they are worth"]


def rough(row: Row) -> list[str]:
    """Return what the row's intervals warn of; that of a metric beside the score only where it is another."""
    own = row.score.warning
    others = {name: value.warning for name, value in row.metrics.items() if value.warning not in ("", own)}
    return ([own] if own else []) + [f"{metric_heading(row, name)}: {warning}" for name, warning in others.items()]


def rough_scores(places: Sequence[Place]) -> list[str]:
    """Return what the intervals of a group's scores warn of, each once, with the rows where it does not hold for all."""
    found: dict[str, list[str]] = {}
    for place in places:
        if place.score.warning:
            found.setdefault(place.score.warning, []).append(place.name)
    return [warning if len(names) == len(places) else f"{', '.join(names)}: {warning}" for warning, names in found.items()]
