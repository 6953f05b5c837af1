"""What different entries say of one dictionary, side by side: its metrics, its best features' AUROC, its steering scores.

Entries are joined by the digest of the dictionary's weights, and by the feature's number: a metric runs no evaluation, and a task's name for its
dictionary says nothing. Controls are left out: their features are not the dictionary's answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Literal

from harness.errors import UnknownNameError
from harness.leaderboard.arms import seeds_of
from harness.leaderboard.entry import Entry, Row
from harness.leaderboard.subject import TRAINED, DictionarySubjectRef

Per = Literal["dictionary", "feature"]
Point = tuple[str, str]
"""Digest of a dictionary and number of a feature of it, which is empty for the dictionary as a whole."""
LATENTS = ("latent", "feature")
"""What a metric's items are called where they are features, whose ids end in their numbers."""

_INDEX = re.compile(r"(\d+)$")


@dataclass
class Joined:
    """A column: one number of many dictionaries, or of their features.

    Attributes:
        name: ``reconstruction``, ``reconstruction.l0``, ``detection.auroc``, ``steering.overall``.
        per: what its points are.
        values: by point.
        tasks: that they come from.
    """

    name: str
    per: Per
    values: dict[Point, float] = field(default_factory=dict)
    tasks: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Board:
    """All columns of some entries.

    Attributes:
        columns: by name, those of dictionaries and those of features apart.
        names: what each dictionary is called in its newest entry, by digest.
    """

    columns: Mapping[Per, Mapping[str, Joined]]
    names: Mapping[str, str]

    def column(self, name: str, per: Per) -> Joined:
        """Return a column by its name. Raises UnknownNameError, which lists those that there are."""
        found = self.columns[per]
        if name not in found:
            raise UnknownNameError(f"column of {'dictionaries' if per == 'dictionary' else 'features'} in these entries", name, sorted(found))
        return found[name]


def join(entries: Iterable[Entry]) -> Board:
    """Return the columns of entries, oldest first given: of a number that several have, the mean over entries.

    - A metric's value and parts, of each training; where a metric was run with several options, each is a column, named with them.
    - A metric's value by feature, where its items are features.
    - ``detection.…``: of each concept the best result among the methods that go by features of the dictionary; of a dictionary the mean over
      concepts, of a feature the mean over those that it answers alone.
    - ``steering.…``: the same of steering.
    """
    unique = list({entry.id: entry for entry in entries}.values())
    found: dict[tuple[Per, str], tuple[dict[Point, list[float]], set[str]]] = {}
    names: dict[str, str] = {}

    labels = _labels(unique)
    for entry in unique:
        digests = {part.name: part.digest for part in entry.dictionaries if part.digest}
        names.update({digest: name for name, digest in digests.items()})
        numbers = [number for row in entry.rows_of("dictionary") for number in _measured(row, labels, names)]
        numbers += [*_answers(entry.rows_of("detection"), "detection", digests), *_answers(entry.rows_of("steering"), "steering", digests)]
        for per, name, point, value in numbers:
            values, tasks = found.setdefault((per, name), ({}, set()))
            values.setdefault(point, []).append(value)
            tasks.add(f"{entry.task.name} {entry.task.version}")
    columns: dict[Per, dict[str, Joined]] = {"dictionary": {}, "feature": {}}
    for (per, name), (values, tasks) in found.items():
        columns[per][name] = Joined(name, per, {point: fmean(numbers) for point, numbers in values.items()}, tasks)
    return Board(columns, names)


def shared_points(first: Joined, second: Joined) -> list[Point]:
    """Return the points that both columns have, in order."""
    return sorted(first.values.keys() & second.values.keys())


# ------------------------------------------------------------------------------------------------------------------------- inside


def _labels(entries: Sequence[Entry]) -> dict[str, str]:
    """Return what the column of each metric is called, by the subject's label: its plain name where it was run with one set of options."""
    labels: dict[str, dict[str, None]] = {}
    for entry in entries:
        for row in entry.rows_of("dictionary"):
            if isinstance(row.subject, DictionarySubjectRef):
                labels.setdefault(row.subject.metric, {})[row.subject.label or row.subject.metric] = None
    return {label: label if len(own) > 1 else metric for metric, own in labels.items() for label in own}


Number = tuple[Per, str, Point, float]
"""Of a column, by its name, the value at a point."""


def _measured(row: Row, labels: Mapping[str, str], names: dict[str, str]) -> Iterator[Number]:
    """Yield the numbers of a trained dictionary's row, and put what its dictionaries are called into ``names``."""
    subject = row.subject
    if not isinstance(subject, DictionarySubjectRef) or subject.arm != TRAINED:
        return
    title = labels[subject.label or subject.metric]
    for seed, own in seeds_of(row).items():
        digest = own.digest or subject.digest
        if not digest:
            continue
        names.setdefault(digest, subject.dictionary + (f" (seed {seed})" if seed else ""))
        for name, values in own.numbers.items():
            yield "dictionary", title if name == row.primary else f"{title}.{name}", (digest, ""), fmean(values)
        for part, values in own.items.items() if row.item in LATENTS else ():
            if (index := _INDEX.search(part)) is not None:
                yield "feature", title, (digest, index[1]), fmean(values)


def _answers(rows: Sequence[Row], kind: str, digests: Mapping[str, str]) -> Iterator[Number]:
    """Yield the results of one entry's concepts, the best of each concept, as means over concepts."""
    best: dict[tuple[Per, str, Point], dict[str, float]] = {}
    for item in (item for row in rows if row.role == "method" for item in row.items):
        owners = {digests.get(feature.rpartition("/")[0], "") for feature in item.features}
        if not item.answered or len(owners) != 1 or not (digest := owners.pop()):
            continue
        points: list[tuple[Per, Point]] = [("dictionary", (digest, ""))]
        if len(item.features) == 1:
            points.append(("feature", (digest, item.features[0].rpartition("/")[2])))
        known = {name: value for name, value in item.values.items() if value is not None}
        for per, point in points:
            for name, value in known.items():
                own = best.setdefault((per, f"{kind}.{name}", point), {})
                own[item.id] = max(own.get(item.id, value), value)
    yield from ((per, name, point, fmean(values.values())) for (per, name, point), values in best.items())
