"""Who may be compared with whom, and who is ahead.

A ranking holds one task (name, version, digest), one split, one judge key and one set of concepts; nothing is ranked across these.
The rules:

- *fixed* mode: rows are ranked by the ``ranked`` score, in which an abstention counts 0; coverage stands beside it.
- *chosen* mode: rows are ranked only among those with exactly their concepts. Sets that differ stand side by side, marked unpaired; of
  these, a set with a single method gives no rank.
- Controls stand at their place by score and take no rank. Rows that are not eligible are listed last, with the reason and without a rank.
- Equal scores share a rank, and the next rank is skipped.
- Each row is compared with the scored row above it: whether the intervals overlap, and the paired difference on the concepts of both.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from harness.leaderboard.entry import ConceptResult, Entry, MethodResult, Score
from harness.types import ConceptMode, digest

Standing = Literal["ranked", "control", "unpaired", "ineligible"]
_TIE_DIGITS = 9


@dataclass(frozen=True, order=True)
class GroupKey:
    """What all rows of a group have in common. ``concept_set`` is a digest."""

    task: str
    version: str
    task_digest: str
    split: str
    mode: ConceptMode
    judge_key: str
    concept_set: str

    @property
    def family(self) -> tuple[str, ...]:
        """The key without the concepts: groups of one family stand side by side."""
        return (self.task, self.version, self.task_digest, self.split, self.mode, self.judge_key)


@dataclass(frozen=True)
class Comparison:
    """A row against the scored row above it (``above``, its method's name).

    Attributes:
        overlap: whether the two intervals overlap; None where one of them is missing.
        n_shared: concepts that both have a score for.
        difference: mean of (above − this row) over those concepts; None without a shared concept.
        low, high: its interval; None where it cannot be had.
        p_value: of the paired permutation test; None without a shared concept.
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
class Row:
    """A method of an entry in a group. ``score`` is what the group is sorted by; ``reasons`` say why there is no rank."""

    entry: Entry
    result: MethodResult
    score: Score
    standing: Standing
    rank: int | None = None
    reasons: tuple[str, ...] = ()
    comparison: Comparison | None = None


@dataclass(frozen=True)
class Group:
    """Rows that may be compared.

    Attributes:
        offline: an offline judge rated; such numbers serve demonstrations and tests.
        unpaired: other groups of the family have other concepts; the two are not ranked against each other.
        varies: what differs between the entries although a ranking allows it, e.g. ``seed``.
    """

    key: GroupKey
    rows: tuple[Row, ...]
    offline: bool
    unpaired: bool
    varies: tuple[str, ...] = ()


def rank(entries: Iterable[Entry]) -> list[Group]:
    """The groups of ``entries``, ranked by the rules of this module; a family's groups follow each other. A repeated entry counts once."""
    unique = {entry.id: entry for entry in entries}
    members: dict[GroupKey, list[tuple[Entry, MethodResult]]] = {}
    for entry in sorted(unique.values(), key=lambda entry: (entry.created, entry.id)):
        for result in entry.results:
            members.setdefault(_key(entry, result), []).append((entry, result))
    families: dict[tuple[str, ...], int] = {}
    for key in members:
        families[key.family] = families.get(key.family, 0) + 1
    return [_group(key, members[key], unpaired=families[key.family] > 1 and key.mode == "chosen") for key in sorted(members)]


def _key(entry: Entry, result: MethodResult) -> GroupKey:
    concepts = entry.concept_set_digest
    if entry.task.mode == "chosen":  # methods of one entry may have chosen different concepts
        concepts = digest(sorted({(row.concept_id, row.concept_text) for row in result.per_concept}))
    task = entry.task
    return GroupKey(task.name, task.version, task.digest, task.split, task.mode, entry.judge.key, concepts)


def _group(key: GroupKey, members: list[tuple[Entry, MethodResult]], unpaired: bool) -> Group:
    rows = [_row(entry, result, alone=unpaired and len(members) == 1) for entry, result in members]
    rows.sort(key=lambda row: (row.standing == "ineligible", -(row.score.mean or 0.0), row.result.method.name, row.entry.id))
    ranked: list[Row] = []
    scores = [_rounded(row.score) for row in rows if row.standing == "ranked"]
    for row in rows:
        above = ranked[-1] if ranked and ranked[-1].standing != "ineligible" else None
        ranked.append(
            Row(
                row.entry,
                row.result,
                row.score,
                row.standing,
                1 + sum(score > _rounded(row.score) for score in scores) if row.standing == "ranked" else None,
                row.reasons,
                _compare(above, row) if above is not None and row.standing != "ineligible" else None,
            )
        )
    entries = list({entry.id: entry for entry, _ in members}.values())
    return Group(key, tuple(ranked), any(entry.judge.offline for entry in entries), unpaired, _varies(entries))


def _row(entry: Entry, result: MethodResult, alone: bool) -> Row:
    score = result.ranked if entry.task.mode == "fixed" and result.ranked is not None else result.scores.overall
    if not result.eligible or score.mean is None:
        return Row(entry, result, score, "ineligible", reasons=result.reasons or (score.reason,))
    if result.role == "control":
        return Row(entry, result, score, "control", reasons=("a control is not ranked",))
    if alone:
        return Row(entry, result, score, "unpaired", reasons=("unpaired: no other method has these concepts",))
    return Row(entry, result, score, "ranked")


def _rounded(score: Score) -> float:
    return round(score.mean or 0.0, _TIE_DIGITS)


def _varies(entries: list[Entry]) -> tuple[str, ...]:
    """What differs between entries and is not part of the group's key."""
    aspects: dict[str, list[Any]] = {
        "model": [entry.model.model_copy(update={"dtype": "-", "device": "-"}) for entry in entries],
        "dtype": [entry.model.dtype for entry in entries],
        "device": [entry.model.device for entry in entries],
        "dictionaries": [entry.dictionaries for entry in entries],
        "decoding": [entry.decoding for entry in entries],
        "instructions": [entry.instruction_set_digest for entry in entries],
        "seed": [entry.seed for entry in entries],
        "harness version": [entry.harness_version for entry in entries],
    }
    return tuple(name for name, values in aspects.items() if any(value != values[0] for value in values[1:]))


def _compare(above: Row, row: Row) -> Comparison:
    """``row`` against the row above it."""
    from harness.scoring import clusters_of, paired_difference  # numpy-heavy: only when a ranking is made

    abstention = 0.0 if row.entry.task.mode == "fixed" else None
    first, second = above.result.values(abstention), row.result.values(abstention)
    shared = [concept for concept in first if concept in second]
    note = "" if above.entry.instruction_set_digest == row.entry.instruction_set_digest else "other instructions: paired by concept only"
    overlap = _overlap(above.score, row.score)
    name = above.result.method.name
    if not shared:
        return Comparison(name, overlap, 0, None, None, None, None, note or "no concept is shared")
    features = [_features(concept, (*above.result.per_concept, *row.result.per_concept)) for concept in shared]
    clusters = clusters_of(zip(shared, features, strict=True))
    found = paired_difference([first[concept] for concept in shared], [second[concept] for concept in shared], clusters)
    interval = found.interval
    return Comparison(
        name, overlap, len(shared), interval.estimate, interval.low, interval.high, found.p_value, note or interval.warning or ""
    )


def _features(concept: tuple[str, str], rows: Iterable[ConceptResult]) -> set[str]:
    """The features by which either of two methods steers to a concept: concepts that share one are not independent."""
    return set(itertools.chain.from_iterable(row.features for row in rows if (row.concept_id, row.concept_text) == concept))


def _overlap(first: Score, second: Score) -> bool | None:
    if first.low is None or first.high is None or second.low is None or second.high is None:
        return None
    return first.low <= second.high and second.low <= first.high
