"""Which rows of entries may be compared: the key that all rows of a group share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from harness.leaderboard.entry import Entry, Row
from harness.leaderboard.subject import DictionarySubjectRef
from harness.types import ConceptMode, EvaluationKind, digest


@dataclass(frozen=True, order=True)
class GroupKey:
    """What all rows of a group have in common.

    Attributes:
        metric: the primary metric of the rows.
        metric_options: a dictionary metric's options, as a digest; empty otherwise.
        judge_key: who rated, for steering; empty otherwise.
        concept_set: a digest; empty for dictionaries.
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
        concepts, options = "", digest(row.subject.metric_options.all)
    judge = entry.judge.key if entry.judge is not None and row.kind == "steering" else ""
    return GroupKey(task.name, task.version, task.digest, task.split, task.mode, row.kind, row.primary, options, judge, concepts)


def item_noun(kind: EvaluationKind) -> str:
    """Return what the rows of a kind are made of, in the singular."""
    return "seed" if kind == "dictionary" else "concept"
