"""Who may be compared with whom, and who is ahead.

A ranking holds one task (name, version, digest), one split, one kind of evaluation, one metric, for steering one judge key and one protocol, and
one set of concepts; nothing is ranked across these. The rules:

- *fixed* mode: rows are ranked by the ``ranked`` score, in which an abstention counts as the metric's trivial value; coverage stands beside it.
- *chosen* mode: rows are ranked only among those with exactly their concepts. Sets that differ stand side by side, marked unpaired; of
  these, a set with a single method gives no rank.
- A dictionary's rows are ranked by its metric, whose options are part of what it measures; concepts play no part there.
- The metric says whether higher or lower is better. Where it says neither, rows are listed by name and take no rank.
- Controls stand at their place by score and take no rank. Rows that are not eligible are listed last, with the reason and without a rank.
- Equal scores share a rank, and the next rank is skipped.
- Each row is compared with the scored row above it: whether the intervals overlap, and the paired difference on the items of both.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal

from harness.leaderboard.entry import Entry, ItemResult, MetricValue, Row, full_name
from harness.leaderboard.subject import DictionarySubjectRef, SteeringSubject
from harness.types import ConceptMode, EvaluationKind, digest

Standing = Literal["ranked", "control", "unpaired", "unordered", "ineligible"]
_TIE_DIGITS = 9


@dataclass(frozen=True, order=True)
class GroupKey:
    """What all rows of a group have in common.

    Attributes:
        metric: the primary metric of the rows.
        metric_options: a dictionary metric's options, as a digest; empty otherwise.
        judge_key: who rated, for steering; empty otherwise.
        concept_set: a digest; empty for dictionaries.
        protocol: how scores were made of ratings, for steering, e.g. ``axbench, harmonic mean of means``; empty otherwise.
    """

    task: str
    version: str
    task_digest: str
    split: str
    mode: ConceptMode
    kind: EvaluationKind
    metric: str
    metric_options: str
    judge_key: str
    concept_set: str
    protocol: str = ""

    @property
    def family(self) -> GroupKey:
        """Return the key without the concepts: groups of one family stand side by side."""
        return replace(self, concept_set="")


@dataclass(frozen=True)
class Comparison:
    """A row against the scored row above it (``above``, its subject's name).

    Attributes:
        overlap: whether the two intervals overlap; None where one of them is missing.
        n_shared: items that both have a score for.
        difference: how far this row is behind, as a mean over those items; None without a shared item.
        low, high: its interval; None where it cannot be had.
        p_value: of the paired permutation test; None without a shared item.
        note: what limits the comparison.
    """

    above: str
    overlap: bool | None
    n_shared: int
    difference: float | None
    low: float | None
    high: float | None
    p_value: float | None
    note: str = ""


@dataclass(frozen=True)
class Place:
    """A row of an entry in a group. ``score`` is what the group is sorted by; ``reasons`` say why there is no rank."""

    entry: Entry
    row: Row
    score: MetricValue
    standing: Standing
    rank: int | None = None
    reasons: tuple[str, ...] = ()
    comparison: Comparison | None = None
    name: str = ""
    """The subject's, and which labelers it is a control of where several of that name are of others."""


@dataclass(frozen=True)
class Group:
    """Rows that may be compared.

    Attributes:
        places: the best first.
        offline: an offline judge rated; such numbers serve demonstrations and tests.
        unpaired: other groups of the family have other concepts; the two are not ranked against each other.
        higher_is_better: the metric's direction; None where it has none.
        varies: what differs between the entries although a ranking allows it, e.g. ``seed``.
    """

    key: GroupKey
    places: tuple[Place, ...]
    offline: bool
    unpaired: bool
    higher_is_better: bool | None
    varies: tuple[str, ...] = ()


def rank(entries: Iterable[Entry]) -> list[Group]:
    """Return the groups of ``entries``, ranked by the rules of this module; a family's groups follow each other. A repeated entry counts once."""
    unique = {entry.id: entry for entry in entries}
    members: dict[GroupKey, list[tuple[Entry, Row]]] = {}
    for entry in sorted(unique.values(), key=lambda entry: (entry.created, entry.id)):
        for row in entry.rows:
            members.setdefault(_key(entry, row), []).append((entry, row))
    families: dict[GroupKey, int] = {}
    for key in members:
        families[key.family] = families.get(key.family, 0) + 1
    return [_group(key, members[key], unpaired=families[key.family] > 1 and key.mode == "chosen") for key in sorted(members)]


def _key(entry: Entry, row: Row) -> GroupKey:
    task, concepts, options = entry.task, entry.concept_set_digest, ""
    if task.mode == "chosen":  # methods of one entry may have chosen different concepts
        concepts = digest(sorted({(item.id, item.text) for item in row.items}))
    if isinstance(row.subject, DictionarySubjectRef):
        concepts, options = "", digest(row.subject.metric_options.identity)
    judge = entry.judge.key if entry.judge is not None and row.kind == "steering" else ""
    protocol = entry.protocol.title if row.kind == "steering" else ""
    return GroupKey(task.name, task.version, task.digest, task.split, task.mode, row.kind, row.primary, options, judge, concepts, protocol)


def _group(key: GroupKey, members: list[tuple[Entry, Row]], unpaired: bool) -> Group:
    directions = {row.metrics[row.primary].higher_is_better for _, row in members}
    better = directions.pop() if len(directions) == 1 else None
    sign = 0 if better is None else 1 if better else -1
    rows = [row for _, row in members]
    places = [
        replace(_place(entry, row, alone=unpaired and len(members) == 1, ordered=better is not None), name=full_name(row, rows))
        for entry, row in members
    ]
    places.sort(key=lambda place: (place.standing == "ineligible", -sign * (place.score.value or 0.0), place.name, place.entry.id))
    scores = [sign * _rounded(place.score) for place in places if place.standing == "ranked"]
    found: list[Place] = []
    for place in places:
        above = found[-1] if found and sign else None
        found.append(
            replace(
                place,
                rank=1 + sum(score > sign * _rounded(place.score) for score in scores) if place.standing == "ranked" else None,
                comparison=_compare(above, place, sign) if above is not None and place.standing != "ineligible" else None,
            )
        )
    entries = list({entry.id: entry for entry, _ in members}.values())
    offline = key.kind == "steering" and any(entry.judge is not None and entry.judge.offline for entry in entries)
    return Group(key, tuple(found), offline, unpaired, better, _varies(entries, key.kind))


def _place(entry: Entry, row: Row, alone: bool, ordered: bool) -> Place:
    score = row.score
    if not row.eligible or score.value is None:
        return Place(entry, row, score, "ineligible", reasons=row.reasons or (score.reason,))
    if row.role == "control":
        return Place(entry, row, score, "control", reasons=("a control is not ranked",))
    if not ordered:
        return Place(entry, row, score, "unordered", reasons=("neither direction of this metric is better",))
    if alone:
        return Place(entry, row, score, "unpaired", reasons=("unpaired: no other method has these concepts",))
    return Place(entry, row, score, "ranked")


def _rounded(score: MetricValue) -> float:
    return round(score.value or 0.0, _TIE_DIGITS)


def _varies(entries: list[Entry], kind: EvaluationKind) -> tuple[str, ...]:
    """Return what differs between entries, matters for the kind, and is not part of the group's key."""
    aspects: dict[str, list[Any]] = {
        "model": [entry.model.model_copy(update={"dtype": "-", "device": "-"}) for entry in entries],
        "dtype": [entry.model.dtype for entry in entries],
        "device": [entry.model.device for entry in entries],
    }
    if kind != "dictionary":  # there they are what is compared
        aspects["dictionaries"] = [entry.dictionaries for entry in entries]
    if kind == "steering":
        aspects["decoding"] = [entry.decoding for entry in entries]
        aspects["instructions"] = [entry.instruction_set_digest for entry in entries]
        aspects["strengths"] = _grids(entries)
        aspects["the judge's code"] = [entry.judge.code for entry in entries if entry.judge is not None]
    aspects["seed"] = [entry.seed for entry in entries]
    aspects["harness version"] = [entry.harness_version for entry in entries]
    return tuple(name for name, values in aspects.items() if any(value != values[0] for value in values[1:]))


def _grids(entries: list[Entry]) -> list[object]:
    """Return the grids of the first method that was run with several; nothing where there is none."""
    found: dict[str, list[object]] = {}
    for entry in entries:
        for row in entry.rows:
            if isinstance(row.subject, SteeringSubject):
                found.setdefault(row.subject.id, []).append(row.subject.grid)
    return next((grids for grids in found.values() if len(set(grids)) > 1), [])


# ------------------------------------------------------------------------------------------------------- against the row above


def _compare(above: Place, place: Place, sign: int) -> Comparison:
    """Return ``place`` against the one above it; ``sign`` is -1 where lower is better."""
    from harness.scoring import clusters_of, paired_difference  # numpy-heavy: only when a ranking is made

    trivial = place.entry.task.mode == "fixed"
    first, second = above.row.values(trivial), place.row.values(trivial)
    shared = [item for item in first if item in second]
    note = _other_instructions(above.entry, place.entry) if place.row.kind == "steering" else ""
    overlap = _overlap(above.score, place.score)
    noun = item_noun(place.row.kind)
    if not shared:
        return Comparison(above.name, overlap, 0, None, None, None, None, note or f"no {noun} is shared")
    features = [_features(item, (*above.row.items, *place.row.items)) for item in shared]
    clusters = clusters_of(zip(shared, features, strict=True))
    bounds = place.row.metrics[place.row.primary].bounds
    ours, theirs = [sign * first[item] for item in shared], [sign * second[item] for item in shared]
    found = paired_difference(ours, theirs, clusters, bounds=bounds, item=noun)
    ends = found.interval
    return Comparison(above.name, overlap, len(shared), ends.estimate, ends.low, ends.high, found.p_value, note or ends.warning or "")


def _other_instructions(first: Entry, second: Entry) -> str:
    """Return why a concept's texts answer other instructions in one entry than in the other; empty where they answer the same."""
    if first.instruction_set_digest != second.instruction_set_digest:
        return "other instructions: paired by concept only"
    if first.seed != second.seed:  # the seed draws each concept's instructions from the set
        return f"seeds {first.seed} and {second.seed} draw other instructions for a concept: paired by concept only"
    return ""


def item_noun(kind: EvaluationKind) -> str:
    """Return what the rows of a kind are made of, in the singular."""
    return "item" if kind == "dictionary" else "concept"


def _features(item: tuple[str, str], rows: Iterable[ItemResult]) -> set[str]:
    """Return the features by which either of two methods answers a concept: concepts that share one are not independent."""
    return set(itertools.chain.from_iterable(row.features for row in rows if (row.id, row.text) == item))


def _overlap(first: MetricValue, second: MetricValue) -> bool | None:
    if first.low is None or first.high is None or second.low is None or second.high is None:
        return None
    return first.low <= second.high and second.low <= first.high
