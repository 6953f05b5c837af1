"""An entry's warnings, made again from its own items as far as these tell: one that was taken out is missed as one that was put in is seen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from harness.evaluations.detection.score import few_negatives
from harness.evaluations.steering.concepts import TIED
from harness.evaluations.steering.rows import strength_lines
from harness.leaderboard.entry import Entry, Row, SteeringSubject, full_name
from harness.leaderboard.findings import Finding
from harness.leaderboard.notices import FAILS_SELFTEST, IS_OFFLINE


def warning_problems(entry: Entry) -> Iterator[Finding]:
    """Yield what an entry's warnings lack, and what of theirs its items don't give.

    Its own of the judge (that it is an offline one, how many texts are unrated), and those of its rows. What its plugins and its corpus warned of is
    in the run alone.
    """
    if entry.migrated_from:  # an older schema, with other warnings
        return
    yield from (Finding("warnings", "", message) for message in _of_judge(entry))
    for row in entry.rows:
        expected = _of_row(row)
        if expected is not None:
            name = full_name(row, entry.rows_of(row.kind))
            lacking, added = [line for line in expected if line not in row.warnings], [line for line in row.warnings if line not in expected]
            yield from (Finding("warnings", name, f"lacks the warning that its items give: {line}") for line in lacking)
            yield from (Finding("warnings", name, f"has a warning that its items do not give: {line}") for line in added)


def _of_judge(entry: Entry) -> Iterator[str]:
    judge = entry.judge
    if judge is None:
        return
    about = [line for line in entry.warnings if line.startswith((f"judge {judge.name!r}", f"judge {judge.name} "))]
    if judge.offline and not any(IS_OFFLINE in line or FAILS_SELFTEST in line for line in about):
        yield f"lacks the warning that judge {judge.name!r} is an offline judge"
    unrated = sum(row.n_unrated for row in entry.rows_of("steering"))
    said = [line for line in about if " texts are unrated: " in line]
    wanted = f"judge {judge.name!r}: {unrated} texts are unrated: "
    if unrated and not any(line.startswith(wanted) for line in said):
        yield f"lacks the warning that {unrated} texts are unrated"
    for line in said:
        if not unrated or not line.startswith(wanted):
            yield f"warns of other than the {unrated} texts that are unrated: {line}"


def _of_row(row: Row) -> tuple[str, ...] | None:
    """The warnings that a row's items give; None where they do not tell."""
    answered = [item for item in row.items if item.answered]
    if not isinstance(row.subject, SteeringSubject):
        return few_negatives([item.details for item in answered]) if row.kind == "detection" else ()
    if row.n_pending:
        return None
    grid, places, any_draws = row.subject.grid, [], False
    for item in answered:
        draws: Any = item.details.get("draws")
        any_draws |= bool(draws)
        strengths = [draw["strength"] for draw in draws] if draws else [item.strength]
        told = not item.n_unrated if draws else item.strength is not None or item.reason.startswith(TIED)
        if not told and None in strengths:  # a tie, or no rating at all
            return None
        if any(strength is not None and strength not in grid for strength in strengths):  # said as such
            return None
        places += [None if strength is None else grid.index(strength) for strength in strengths]
    return strength_lines(places, grid, any_draws)
