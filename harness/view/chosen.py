"""Which strength the ratings choose for each labeling of a method: that with the largest mean overall score, the smallest of equal ones.

It is the strength that :func:`harness.scoring.cross_validate` calls ``chosen``: over all instructions, unrated texts left out.
"""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Iterator, Sequence

from harness.scoring.crossval import TIE


def update_chosen(connection: sqlite3.Connection) -> None:
    """Make the index' table ``chosen`` anew from the ratings in it; within a transaction."""
    sql = (
        "SELECT j.key, i.method_id, i.labeling_id, i.strength, avg(o.overall) FROM texts i JOIN ratings o ON o.position = i.position "
        "JOIN judges j ON j.id = o.judge GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4"
    )
    rows = connection.execute(sql).fetchall()
    connection.execute("DELETE FROM chosen")
    connection.executemany("INSERT INTO chosen VALUES (?, ?, ?, ?)", _choices(rows))


def _choices(rows: Sequence[tuple[str, str, str, float, float | None]]) -> Iterator[tuple[str, str, str, float]]:
    for key, group in itertools.groupby(rows, key=lambda row: row[:3]):
        found = choose([(strength, mean) for *_, strength, mean in group])
        if found is not None:
            yield *key, found


def choose(means: Sequence[tuple[float, float | None]]) -> float | None:
    """Return the chosen strength of (strength, mean score) pairs, strengths ascending; None where nothing is rated, or all score alike."""
    rated = [(strength, mean) for strength, mean in means if mean is not None]
    if not rated:
        return None
    best = max(mean for _, mean in rated)
    alike = best - TIE * max(1.0, abs(best))
    if len(means) > 1 and len(rated) == len(means) and min(mean for _, mean in rated) >= alike:
        return None
    return next(strength for strength, mean in rated if mean >= alike)
