"""Pairs the values of several methods by item, and says which items are independent evidence.

An item is a concept; for a dictionary a seed. Concepts that share a feature of any compared method or control are kept together
(:func:`harness.scoring.clusters_of`). Where a lower value is better, all values change their sign, so that more is better.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass

import numpy as np

from harness.leaderboard.arms import is_whole
from harness.leaderboard.entry import DictionaryRef, Row
from harness.leaderboard.grouping import item_noun
from harness.leaderboard.places import Place
from harness.leaderboard.subject import DictionarySubjectRef
from harness.scoring import clusters_of
from harness.scoring.checks import FloatArray, IntArray

Item = tuple[str, str]
"""Id and text of a concept; of a dictionary the seed and no text."""
Features = Mapping[Item, Set[str]]
"""The features by which a method answers each item."""


@dataclass(frozen=True)
class Scores:
    """The values of several methods on the items of any of them.

    Attributes:
        items: in the order of their ids.
        values: float64 ``[methods, items]``, NaN where a method has none; the larger the better.
        clusters: int64 ``[items]``.
        bounds: of the values.
        noun: what an item is.
    """

    items: tuple[Item, ...]
    values: FloatArray
    clusters: IntArray
    bounds: tuple[float | None, float | None]
    noun: str


def scores_of(rows: Sequence[Row], features: Sequence[Features], sign: int, trivial: bool) -> Scores:
    """Return the values of rows, paired by item.

    Args:
        rows: at least one, all of one kind and metric.
        features: of each row (:func:`features_of`).
        sign: -1 where lower is better.
        trivial: an abstention counts as the metric's trivial value; else it is left out.
    """
    values = [_values(row, trivial) for row in rows]
    items = sorted({item for own in values for item in own})
    links = _links(rows, features)
    low, high = rows[0].metrics[rows[0].primary].bounds
    return Scores(
        tuple(items),
        np.array([[sign * own.get(item, np.nan) for item in items] for own in values], dtype=np.float64).reshape(len(rows), len(items)),
        clusters_of((item, sorted(links.get(item, ()))) for item in items),
        (low, high) if sign > 0 else (None if high is None else -high, None if low is None else -low),
        item_noun(rows[0].kind),
    )


def scores_of_places(places: Sequence[Place], sign: int, trivial: bool) -> Scores:
    """Return the values of a group's places, paired by item; arguments as of :func:`scores_of`."""
    features = [features_of((run.row, run.entry.dictionaries) for run in place.runs) for place in places]
    return scores_of([place.row for place in places], features, sign, trivial)


def features_of(runs: Iterable[tuple[Row, Sequence[DictionaryRef]]]) -> Features:
    """Return the features by which a method answers each item, named by the dictionaries' weights rather than by their names in a task.

    Args:
        runs: of the method: its row, and the dictionaries of that run.
    """
    found: dict[Item, set[str]] = {}
    for row, dictionaries in runs:
        weights = {part.name: part.digest or part.source for part in dictionaries}
        for item in row.items:
            for feature in item.features:
                name, _, index = feature.rpartition("/")
                found.setdefault((item.id, item.text), set()).add(f"{weights.get(name, name)}/{index}")
    return found


def _values(row: Row, trivial: bool) -> dict[Item, float]:
    """Return a row's values by item; of a dictionary by seed, without the parts that a seed's value is made of."""
    if not isinstance(row.subject, DictionarySubjectRef):
        return row.values(trivial)
    found = {item.id: item.values.get(row.primary) for item in row.items if is_whole(item.id)}
    return {(item, ""): value for item, value in found.items() if value is not None}


def _links(rows: Sequence[Row], features: Sequence[Features]) -> dict[Item, set[str]]:
    """Return the features that link items: those by which any method or control answers them.

    What a control borrows is no link: a feature by which a method answers *another* item, as labels that were permuted are. It would link all
    items to one, and it takes no evidence away: what the feature does by itself counts once for the method and once against it.
    """
    found: dict[Item, set[str]] = {}
    users: dict[str, set[Item]] = {}
    for row, answers in sorted(zip(rows, features, strict=True), key=lambda method: method[0].role == "control"):
        for item, own in answers.items():
            if row.role == "control":
                own = {feature for feature in own if not users.get(feature, set()) - {item}}
            else:
                for feature in own:
                    users.setdefault(feature, set()).add(item)
            found.setdefault(item, set()).update(own)
    return found
