"""What must be known to read an entry's numbers, each fact once."""

from __future__ import annotations

from harness.leaderboard.columns import number
from harness.leaderboard.entry import Entry, Row, full_name
from harness.leaderboard.notices import FAILS_SELFTEST, IS_OFFLINE, OFFLINE_NOTICE, aspects, gone_judge, side_effects
from harness.types import EvaluationKind


def judge_notes(entry: Entry) -> list[str]:
    """Return what must be known of the judge: that it is an offline one, where its self-test does not say more."""
    if entry.judge is None:
        return []
    about = [line for line in entry.warnings if line.startswith((f"judge {entry.judge.name} ", f"judge {entry.judge.name!r}"))]
    lines = [line for line in about if not (entry.judge.offline and IS_OFFLINE in line)]
    return [OFFLINE_NOTICE] * (entry.judge.offline and not any(FAILS_SELFTEST in line for line in lines)) + gone_judge(entry.judge) + lines


def general_notes(entry: Entry) -> list[str]:
    """Return the entry's other warnings."""
    about_judge = set(judge_notes(entry))
    return [line for line in entry.warnings if line not in about_judge and IS_OFFLINE not in line]


def notes_of(entry: Entry, kind: EvaluationKind) -> list[str]:
    """Return what must be known of the rows of one kind; what holds for several is said once, with their names."""
    rows = entry.rows_of(kind)
    names: dict[str, list[str]] = {}
    for row in rows:
        for line in _lines(row):
            names.setdefault(line, []).append(full_name(row, rows))
    own = [line if len(who) == len(rows) > 1 else f"{', '.join(who)}: {line}" for line, who in names.items()]
    return [*side_effects(rows), *aspects(rows), *own]


def _lines(row: Row) -> list[str]:
    found = [f"not eligible: {reason}" for reason in row.reasons] + list(row.warnings)
    if row.n_answered < row.n_items:
        found.append(f"{row.n_items - row.n_answered} of {row.n_items} items have no answer")
    if row.n_unrated and row.bounds is not None and row.bounds.low is not None:
        ends = f"{number(row.bounds.low)} and {number(row.bounds.high)}"
        found.append(f"{row.n_unrated} of {row.n_texts} texts have no rating; the score lies between {ends} whatever they are worth")
    return [*found, *([row.score.warning] if row.score.warning else [])]
