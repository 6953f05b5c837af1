"""The figures of a ranking: scores with their intervals, and scores against the size and the sparsity of the dictionary."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from harness.leaderboard.columns import heading
from harness.leaderboard.entry import Entry, Row
from harness.leaderboard.places import Group, Place
from harness.leaderboard.site.selection import spread_out
from harness.leaderboard.subject import TRAINED, DictionarySubjectRef
from harness.store.manifest import DictionaryRef

MOST_DRAWN = 40
"""Rows in the figure of a ranking."""


def dictionaries_of(entry: Entry, row: Row) -> list[DictionaryRef]:
    """Return the dictionaries whose features a row uses, or that it measures; none for a method without features."""
    if isinstance(row.subject, DictionarySubjectRef):
        names = {row.subject.dictionary}
    else:
        names = {feature.rpartition("/")[0] for item in row.items for feature in item.features}
    return [one for one in entry.dictionaries if one.name in names]


def _point(place: Place) -> dict[str, Any]:
    control = place.standing == "control"
    return {"name": place.name, "low": place.score.low, "high": place.score.high, "control": control}


def figure_of(group: Group, places: Sequence[Place]) -> dict[str, Any]:
    drawn = [place for place in places if place.score.value is not None]
    chosen = spread_out(drawn, MOST_DRAWN)
    metric = group.places[0].row.metrics[group.key.metric]
    points = [{**_point(place), "value": place.score.value, "colour": 0, "rank": place.rank_text} for place in chosen]
    bounds = list(metric.bounds)
    trivial = next((place.score.trivial for place in chosen if place.score.trivial is not None), None)
    return {"type": "intervals", "label": metric.title or heading(group.key.metric), "points": points, "trivial": trivial, "bounds": bounds}


def sparsity_of(entries: Iterable[Entry]) -> dict[str, float]:
    """Return the L0 of every dictionary that some entry has measured, by its digest."""
    found: dict[str, float] = {}
    for entry in entries:
        for row in entry.rows_of("dictionary"):
            subject = row.subject
            if isinstance(subject, DictionarySubjectRef) and subject.arm == TRAINED and "l0" in row.metrics:
                value = row.metrics["l0"].value
                if value is not None:
                    found.setdefault(subject.digest or subject.dictionary, value)
    return found


def sparsity_points(places: Sequence[Place], sparsity: dict[str, float]) -> list[dict[str, Any]]:
    """Return the score of each row that uses one dictionary, with that dictionary's width and L0."""
    found = []
    for place in places:
        own = dictionaries_of(place.entry, place.row)
        if len(own) == 1 and place.score.value is not None:
            key = own[0].digest or own[0].name
            size = {"width": own[0].d_sae, "l0": sparsity.get(key)}
            found.append({**_point(place), "dictionary": key, "sae": own[0].name, "score": place.score.value, **size})
    return found
