"""Which rows of entries may be compared: the key that all rows of a group share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness.leaderboard.entry import Entry, Row
from harness.leaderboard.subject import DictionarySubjectRef, SteeringSubject
from harness.types import ConceptMode, EvaluationKind, digest


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


def group_rows(entries: Iterable[Entry]) -> dict[GroupKey, list[tuple[Entry, Row]]]:
    """Return the rows of ``entries`` by what they may be compared with, oldest first; a repeated entry counts once."""
    unique = {entry.id: entry for entry in entries}
    members: dict[GroupKey, list[tuple[Entry, Row]]] = {}
    for entry in sorted(unique.values(), key=lambda entry: (entry.created, entry.id)):
        for row in entry.rows:
            members.setdefault(key_of(entry, row), []).append((entry, row))
    return {key: members[key] for key in sorted(members)}


def key_of(entry: Entry, row: Row) -> GroupKey:
    """Return the key of a row of ``entry``."""
    task, concepts, options = entry.task, entry.concept_set_digest, ""
    if task.mode == "chosen":  # methods of one entry may have chosen different concepts
        concepts = digest(sorted({(item.id, item.text) for item in row.items}))
    if isinstance(row.subject, DictionarySubjectRef):
        concepts, options = "", digest(row.subject.metric_options.identity)
    judge = entry.judge.key if entry.judge is not None and row.kind == "steering" else ""
    protocol = entry.protocol.title if row.kind == "steering" else ""
    return GroupKey(task.name, task.version, task.digest, task.split, task.mode, row.kind, row.primary, options, judge, concepts, protocol)


def item_noun(kind: EvaluationKind) -> str:
    """Return what the rows of a kind are made of, in the singular."""
    return "seed" if kind == "dictionary" else "concept"


def what_varies(entries: Sequence[Entry], kind: EvaluationKind) -> tuple[str, ...]:
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


def _grids(entries: Sequence[Entry]) -> list[object]:
    """Return the grids of the first method that was run with several; nothing where there is none."""
    found: dict[str, list[object]] = {}
    for entry in entries:
        for row in entry.rows:
            if isinstance(row.subject, SteeringSubject):
                found.setdefault(row.subject.id, []).append(row.subject.grid)
    return next((grids for grids in found.values() if len(set(grids)) > 1), [])
