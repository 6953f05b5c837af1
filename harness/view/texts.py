"""Texts of a run with all that belongs to them: what was asked, what the unsteered model wrote, what each judge said."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.files.json_text import parse_json, without_surrogates
from harness.files.visible import visible
from harness.scoring import overall as overall_of
from harness.store.database import Database
from harness.store.folder import UNREADABLE
from harness.types import ASPECTS, Json
from harness.view.filters import STATUSES
from harness.view.names import NamedJudge, NamedMethod, Names

LONGEST = 3000
"""Characters of a text that a list shows; its own page shows all."""
_LONGEST_DETAIL = 20_000
_STATUS = {stored: shown for shown, stored in STATUSES.items() if stored}
_TEXTS = (
    "SELECT i.id, i.position, i.method_id, i.labeling_id, i.concept_id, i.strength, i.instruction_id, i.seed, i.draw, t.value, t.created "
    "FROM json_each(?) e CROSS JOIN items i ON i.id = e.value "
    "LEFT JOIN outcomes t ON t.item_id = i.id AND t.stage = 'generate' AND t.status = 'done' WHERE i.kind = 'steering'"
)
_RATINGS = (
    "SELECT o.item_id, o.source, o.status, o.concept, o.instruction, o.fluency, o.reason, o.ticket, o.value "
    "FROM json_each(?) e CROSS JOIN outcomes o ON o.item_id = e.value AND o.stage = 'rate'"
)


@dataclass(frozen=True)
class JudgeAnswer:
    """What one judge said about a text.

    Attributes:
        judge: who.
        status: a name of :data:`harness.view.filters.STATUSES`.
        values: concept, instruction, fluency; empty where it is not rated.
        overall: their score, the harmonic mean as they count toward the run's goal.
        reason: why it is not rated, or what is to be known.
        details: what else the judge has handed over (its replies, its measurements), by name.
    """

    judge: NamedJudge
    status: str
    values: tuple[float, ...] = ()
    overall: float | None = None
    reason: str = ""
    details: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Segment:
    """A part of a text; ``found`` where it is what was searched for."""

    text: str
    found: bool = False


@dataclass(frozen=True)
class Text:
    """A text of the run.

    Attributes:
        id: the trial's.
        position: its place in the run.
        method, concept, instruction, features, strength, seed, draw: what was asked.
        concept_id, instruction_id, labeling_id: ids to filter by.
        text: what the model wrote; None before it has.
        prompt, n_tokens, finish, created: of the text.
        answers: what each judge said, in the order of the judges.
        chosen: the strength that the ratings chose for its concept and method; None where none is.
        unsteered: what the model writes for the same instruction unsteered; None where the run does not hold it.
        segments: the text with what was searched for marked; the beginning of a long one in a list.
        left_out: characters of the text that ``segments`` leave out.
    """

    id: str
    position: int
    method: NamedMethod
    concept: str
    instruction: str
    features: tuple[str, ...]
    strength: float
    seed: str
    draw: str
    concept_id: str
    instruction_id: str
    labeling_id: str
    text: str | None = None
    prompt: str = ""
    n_tokens: str = ""
    finish: str = ""
    created: str = ""
    answers: tuple[JudgeAnswer, ...] = ()
    chosen: float | None = None
    unsteered: Text | None = None
    segments: tuple[Segment, ...] = ()
    left_out: int = 0

    @property
    def is_chosen(self) -> bool:
        return self.chosen is not None and self.chosen == self.strength


def read_texts(database: Database, names: Names, ids: Sequence[str]) -> dict[str, Text]:
    """Return texts by their trials' ids; ids of no trial are left out."""
    answers = read_ratings(database, names, ids)
    return {row[0]: _text(row, names, answers.get(row[0], ())) for row in database.rows(_TEXTS, (json.dumps(list(ids)),))}


def _text(row: Sequence[Any], names: Names, answers: tuple[JudgeAnswer, ...]) -> Text:
    identity, position, method, labeling, concept, strength, instruction, seed, draw, value, created = row
    facts: dict[str, Any] = {}
    if value is not None:
        found = _parsed(value)
        text = found.get("text")
        facts = {name: str(found.get(name, "")) for name in ("prompt", "n_tokens", "finish")}
        facts["text"] = without_surrogates(text) if isinstance(text, str) else "(this text cannot be understood)"
        facts["created"] = str(created)
    return Text(
        id=identity,
        position=position,
        method=names.method(method),
        concept=names.concept(concept),
        instruction=names.instruction(instruction),
        features=names.features.get(labeling, ()),
        strength=float(strength or 0),
        seed=str(seed),
        draw=str(draw),
        concept_id=concept,
        instruction_id=instruction,
        labeling_id=labeling,
        answers=answers,
        **facts,
    )


def read_ratings(database: Database, names: Names, ids: Sequence[str]) -> dict[str, tuple[JudgeAnswer, ...]]:
    """Return what the judges said about texts, by the trials' ids."""
    judges = {judge.key: (place, judge) for place, judge in enumerate(names.judges)}
    found: dict[str, list[tuple[int, JudgeAnswer]]] = {}
    for identity, source, status, *values, reason, _, value in database.rows(_RATINGS, (json.dumps(list(ids)),)):
        place, judge = judges.get(source, (len(judges), NamedJudge(source, source, "", False)))
        rated = status == "done" and None not in values
        numbers = tuple(map(float, values)) if rated else ()
        overall = float(overall_of(np.array(numbers), names.rule.goal)) if numbers else None
        details = tuple(flatten(_parsed(value).get("details", {})))
        found.setdefault(identity, []).append((place, JudgeAnswer(judge, _STATUS.get(status, status), numbers, overall, reason, details)))
    return {identity: tuple(one for _, one in sorted(each, key=lambda pair: pair[0])) for identity, each in found.items()}


def read_ignored(database: Database, names: Names, identity: str) -> tuple[JudgeAnswer, ...]:
    """Return later answers about a text that differ from the first, which stands; the run keeps them as notes."""
    sql = "SELECT value FROM notes WHERE kind = 'rating-ignored' AND instr(value, ?) ORDER BY id"
    judges = {judge.key: judge for judge in names.judges}
    found = []
    for (value,) in database.rows(sql, (identity,)):
        note = _parsed(value)
        rating = note.get("ignored")
        if not isinstance(rating, dict) or rating.get("item_id") != identity:
            continue
        numbers = tuple(float(number) for aspect in ASPECTS if isinstance(number := rating.get(aspect), int | float))
        numbers = numbers if len(numbers) == len(ASPECTS) else ()
        overall = float(overall_of(np.array(numbers), names.rule.goal)) if numbers else None
        source = str(note.get("judge", ""))
        judge = judges.get(source, NamedJudge(source, source, "", False))
        details = tuple(flatten(rating.get("details", {})))
        found.append(JudgeAnswer(judge, str(rating.get("status", "")), numbers, overall, str(rating.get("reason", "")), details))
    return tuple(found)


def _parsed(value: str) -> Mapping[str, Json]:
    try:
        found = parse_json(value, surrogates="replace")
    except UNREADABLE:
        return {}
    return found if isinstance(found, dict) else {}


def flatten(value: Json, name: str = "") -> list[tuple[str, str]]:
    """Return JSON as names and texts: what lies within each other by names in a row, such as ``replies · concept``."""
    if isinstance(value, dict):
        return [pair for key, inner in value.items() for pair in flatten(inner, f"{name} · {key}" if name else str(key))]
    if value is None or value == [] or value == "":
        return []
    text = value if isinstance(value, str) else f"{value:g}" if isinstance(value, float) else json.dumps(value, ensure_ascii=False)
    return [(name, text[:_LONGEST_DETAIL])]


# ------------------------------------------------------------------------------------------------------------------------ unsteered


@dataclass(frozen=True)
class Unsteered:
    """Ids of the trials that leave the model as it is, by (concept, instruction) and by instruction alone."""

    by_concept: Mapping[tuple[str, str], str]
    by_instruction: Mapping[str, str]

    def of(self, text: Text) -> str:
        """Return the trial to hold a text against: of its own concept and instruction, else of its instruction; empty where there is none."""
        if text.method.unsteered:
            return ""
        own = self.by_concept.get((text.concept_id, text.instruction_id))
        return own or self.by_instruction.get(text.instruction_id, "")


def read_unsteered(database: Database, names: Names) -> Unsteered:
    """Return the run's trials of methods that leave the model as it is."""
    methods = json.dumps([method.id for method in names.methods.values() if method.unsteered])
    sql = "SELECT concept_id, instruction_id, id FROM items WHERE method_id IN (SELECT value FROM json_each(?)) ORDER BY position DESC"
    rows = database.rows(sql, (methods,)) if methods != "[]" else []
    return Unsteered({(concept, instruction): i for concept, instruction, i in rows}, {instruction: i for _, instruction, i in rows})


# --------------------------------------------------------------------------------------------------------------------------- segments

MARKS = ("\ufdd0", "\ufdd1")
"""What stands around what was found in a text; no characters, so that no text should hold them."""


def cut_into_segments(text: str, parts: Iterable[str] = (), longest: int | None = None) -> tuple[tuple[Segment, ...], int]:
    """Return a text cut where it is marked (:data:`MARKS`) and where it holds one of ``parts``, and how many characters were left out.

    What a page or a terminal would act on is written out.
    """
    found: list[Segment] = []
    room = len(text) if longest is None else longest
    inside = False
    for run in re.split(f"([{MARKS[0]}{MARKS[1]}])", text):
        if run in MARKS:
            inside = run == MARKS[0]
            continue
        shown, room = run[:room], max(0, room - len(run))
        found += [Segment(visible(shown), True)] if inside else _parts(shown, parts)
    kept = sum(len(run) for run in re.split(f"[{MARKS[0]}{MARKS[1]}]", text))
    return tuple(segment for segment in found if segment.text), max(0, kept - longest) if longest is not None else 0


def _parts(text: str, parts: Iterable[str]) -> list[Segment]:
    pattern = "|".join(re.escape(part) for part in parts if part)
    if not pattern:
        return [Segment(visible(text))]
    return [Segment(visible(run), place % 2 == 1) for place, run in enumerate(re.split(f"({pattern})", text, flags=re.IGNORECASE))]
