"""Between values and rows: what is stored is each value's canonical JSON, or its columns, so that it comes back equal to what went in."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Literal, TypeVar

from pydantic import TypeAdapter, ValidationError

from harness.errors import StoreError
from harness.types import (
    ASPECTS,
    Abstention,
    Concept,
    EvaluationKind,
    FeatureRef,
    Generation,
    Json,
    Labeling,
    Rating,
    RatingStatus,
    Trial,
    canonical_json,
    digest,
)

STEERING: EvaluationKind = "steering"
GENERATE, RATE = "generate", "rate"
"""The stages of steering: a trial's text, a judge's rating of it."""

OutcomeStatus = Literal["done", "failed", "pending"]

_STATUS: dict[RatingStatus, OutcomeStatus] = {"rated": "done", "unrated": "failed", "pending": "pending"}
_RATING_STATUS: dict[OutcomeStatus, RatingStatus] = {outcome: rating for rating, outcome in _STATUS.items()}
_IS = " = "
_LARGE = 4096
_WIDEST = 2**63
T = TypeVar("T")


@dataclass(frozen=True)
class JudgeRecord:
    """Which judge a set of ratings is from.

    Attributes:
        name: of the judge.
        rubric: name and version of its rubric.
        options: those that its ratings depend on.
        offline: no person or strong model stands behind it.
        code: digest of the source of its plugin (of its version where that cannot be read); empty in a run of an older harness.
        files: the identity of a model that it runs itself; in a run of an older harness also digests of the files that its options name, by
            ``option = path``.
        content: of options that name files, their values with the digest of the content in place of each path.
    """

    name: str
    rubric: str
    options: Mapping[str, Json] = field(default_factory=dict)
    offline: bool = False
    code: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    content: Mapping[str, Json] = field(default_factory=dict)

    @property
    def identity(self) -> dict[str, Json]:
        """Return the options, with the content of files in place of their paths."""
        older = [(*where.split(_IS, 1), found) for where, found in self.files.items() if _IS in where]
        alone = {option: f"content:{found}" for option, path, found in older if self.options.get(option) == path}
        return {**self.options, **alone, **self.content}

    def goes_on_from(self, other: JudgeRecord) -> bool:
        """Whether this is the judge of another record, perhaps with other code or with edited files in the same place."""
        if (self.name, self.rubric) != (other.name, other.rubric):
            return False
        return self.identity == other.identity or dict(self.options) == dict(other.options)

    @property
    def models(self) -> dict[str, str]:
        """Return the identity of a model that it runs itself, by what it is called among :attr:`files`."""
        return {where: found for where, found in self.files.items() if _IS not in where}

    @property
    def ranking_key(self) -> str:
        """Tells judges apart on a leaderboard: the name, and a digest of name, rubric and options, of files their content."""
        return f"{self.name}-{digest([self.name, self.rubric, {**self.options, **self.content}], 12)}"

    @property
    def key(self) -> str:
        """Tells sets of ratings apart: the name, and a digest of all that the ratings depend on, its code and files among them."""
        if not self.code and not self.files:
            return self.ranking_key
        options = {**self.options, **self.content}  # in an older record paths are options, and told apart by its files
        return f"{self.name}-{digest([self.name, self.rubric, options, self.code, dict(self.files)], 12)}"


def of_judge(judge: JudgeRecord, records: Sequence[JudgeRecord]) -> list[JudgeRecord]:
    """Return those of ``records`` that are of one judge, in their order: each goes on from another (:meth:`JudgeRecord.goes_on_from`)."""
    known, left = [judge], list(records)
    while found := [record for record in left if any(record.goes_on_from(other) for other in known)]:
        known, left = found, [record for record in left if record not in found]
    return [record for record in records if record not in left]


@dataclass(frozen=True)
class Item:
    """A unit of work of an evaluation: a trial, a method on a labeling, a metric on a dictionary.

    Attributes:
        id: unique within the run; by convention a digest of all that the item's outcomes depend on.
        kind: of the evaluation.
        value: what its columns do not say, as JSON.
        method_id: a method of the run, or the metric's id.
        labeling_id: the labeling; empty without one.
        concept_id: the concept; empty without one.
        strength: None where nothing is steered.
        instruction_id: the instruction; empty without one.
        seed: the seed of its random draws.
        draw: numbers repeated draws.
    """

    id: str
    kind: EvaluationKind
    value: Mapping[str, Json] = field(default_factory=dict)
    method_id: str = ""
    labeling_id: str = ""
    concept_id: str = ""
    strength: float | None = None
    instruction_id: str = ""
    seed: int = 0
    draw: int = 0


@dataclass(frozen=True)
class Outcome:
    """What came of an item in a stage of its evaluation.

    Attributes:
        item_id: the item.
        source: who made it: the key of an engine, judge, detector or metric.
        status: ``done`` with its ``value``, ``failed`` with its ``reason``, or ``pending`` with the ``ticket`` to collect it by.
        value: JSON.
        ticket: of a pending outcome; kept when it is done.
        reason: why it failed, or what is to be known of it.
    """

    item_id: str
    source: str
    status: OutcomeStatus
    value: Json = None
    ticket: str = ""
    reason: str = ""

    def __post_init__(self) -> None:
        if self.status not in _RATING_STATUS:
            raise ValueError(f"the status of item {self.item_id} is {self.status!r}; it must be one of {', '.join(_RATING_STATUS)}")
        if self.status == "failed" and not self.reason:
            raise ValueError(f"a failed outcome needs a reason (item {self.item_id})")
        if self.status == "pending" and not self.ticket:
            raise ValueError(f"a pending outcome needs a ticket (item {self.item_id})")


# -------------------------------------------------------------------------------------------------------------------------- JSON


def encode(value: Any, what: str) -> str:
    """Return ``value`` (a dataclass or JSON) as stored. Raises StoreError for what JSON cannot hold, such as NaN, arrays and tensors."""
    try:
        return canonical_json(_plain_json(value))
    except (TypeError, ValueError, RecursionError) as error:
        allowed = "text, finite Python numbers, None, lists and dicts"
        raise StoreError(f"{what} cannot be stored: {error}", given=value, allowed=allowed) from error


def _plain_json(value: Any) -> Any:
    """Return dataclasses and every kind of mapping as dicts, tuples as lists; the rest as it is."""
    if is_dataclass(value) and not isinstance(value, type):
        return {part.name: _plain_json(getattr(value, part.name)) for part in fields(value)}
    if isinstance(value, Mapping):
        return {key: _plain_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain_json(item) for item in value]
    return value


_adapters: dict[type[Any], TypeAdapter[Any]] = {}


def decode(kind: type[T], text: str, **more: Any) -> T:
    """Return a dataclass from its JSON and ``more`` fields. Raises StoreError for rows that no harness wrote."""
    if kind not in _adapters:  # making one takes a millisecond
        _adapters[kind] = TypeAdapter(kind)
    try:
        value: T = _adapters[kind].validate_python({**json.loads(text), **more})
        return value
    except (ValidationError, ValueError, TypeError) as error:
        message = f"the file holds a {kind.__name__} that cannot be understood: {' '.join(str(error).split())[:300]}"
        raise StoreError(message, given=text, hint="put a copy of the file back") from error


def pack(text: str) -> str | bytes:
    """Return JSON as stored where it may be large: compressed above some thousand characters."""
    return text if len(text) <= _LARGE else zlib.compress(text.encode("utf-8"), 6)


def unpack(stored: str | bytes) -> str:
    """Return what :func:`pack` was given."""
    return stored if isinstance(stored, str) else zlib.decompress(stored).decode("utf-8")


# ------------------------------------------------------------------------------------------------------------------------ labelings


def encode_labeling(labeling: Labeling) -> str:
    """Return a labeling without its concept, which is stored by itself."""
    feature_list = [[feature.dictionary, int(feature.index)] for feature in labeling.features]
    what = f"the labeling of concept {labeling.concept.id!r}"
    fit = {} if labeling.fit is None else {"fit": labeling.fit}
    return encode({"features": feature_list, "score": labeling.score, "evidence": labeling.evidence, **fit}, what)


def decode_answer(kind: str, concept: Concept, text: str) -> Labeling | Abstention:
    """Return a labeler's answer about ``concept``."""
    value = json.loads(text)
    if kind == "abstention":
        return Abstention(concept, value["reason"])
    features = tuple(FeatureRef(dictionary, index) for dictionary, index in value["features"])
    return Labeling(concept, features, value["score"], value["evidence"], value.get("fit"))


# ----------------------------------------------------------------------------------------------------------------- items and outcomes

ITEM_COLUMNS = ("id", "kind", "method_id", "labeling_id", "concept_id", "strength", "instruction_id", "seed", "draw", "value")
OUTCOME_COLUMNS = ("source", "item_id", "status", "ticket", "reason", *ASPECTS, "value")


def item_row(item: Item) -> tuple[Any, ...]:
    """Return an item's columns, in the order of :data:`ITEM_COLUMNS`. Raises StoreError for what cannot be stored."""
    what = f"item {item.id} ({item.kind})"
    strength = None if item.strength is None else _stored_number(item.strength, what, "strength")
    seed, draw = (_stored_number(getattr(item, name), what, name) for name in ("seed", "draw"))
    places = (item.method_id, item.labeling_id, item.concept_id, strength, item.instruction_id, seed, draw)
    return (item.id, item.kind, *places, encode(item.value, what))


def row_item(row: Sequence[Any]) -> Item:
    """Return the item of a row."""
    identity, kind, method, labeling, concept, strength, instruction, seed, draw, value = row
    numbers = _number(strength), instruction, _number(seed), _number(draw)
    return Item(identity, kind, {} if value == "{}" else json.loads(value), method, labeling, concept, *numbers)


def _stored_number(value: Any, what: str, name: str) -> float | int | str:
    """Return a number as SQLite can hold it: a whole number beyond its 64 bits as text."""
    if not isinstance(value, int | float) or not math.isfinite(value if isinstance(value, float) else 0):
        raise StoreError(f"{what} cannot be stored: its {name} is {value!r}", given=value, allowed="a finite Python number")
    return str(value) if isinstance(value, int) and not -_WIDEST <= value < _WIDEST else value


def _number(stored: Any) -> Any:
    return int(stored) if isinstance(stored, str) else stored


def outcome_row(stage: str, outcome: Outcome) -> tuple[Any, ...]:
    """Return an outcome's columns, in the order of :data:`OUTCOME_COLUMNS`. Raises StoreError for what cannot be stored."""
    what = f"the outcome of {outcome.item_id} in stage {stage!r}"
    numbers: tuple[Any, ...] = (None,) * len(ASPECTS)
    value = outcome.value
    if stage == RATE:
        rating = outcome_rating(outcome)  # refuses what no rating can be
        numbers = tuple(getattr(rating, name) for name in ASPECTS)
        value = {name: part for name, part in outcome.value.items() if name not in ASPECTS}
    return (outcome.source, outcome.item_id, outcome.status, outcome.ticket, outcome.reason, *numbers, encode(value, what))


def row_outcome(row: Sequence[Any]) -> Outcome:
    """Return the outcome of a row."""
    source, item_id, status, ticket, reason, *numbers, value = row
    ratings = {name: number for name, number in zip(ASPECTS, numbers, strict=True) if number is not None}
    found = json.loads(value)
    return Outcome(item_id, source, status, {**found, **ratings} if ratings else found, ticket, reason)


def trial_item(trial: Trial) -> Item:
    """Return a trial as an item."""
    where = (trial.method_id, trial.labeling_id, trial.concept_id, trial.strength, trial.instruction_id, trial.seed, trial.draw)
    return Item(trial.id, STEERING, {}, *where)


def item_trial(item: Item) -> Trial:
    """Return the trial that an item is."""
    assert item.strength is not None
    return Trial(item.method_id, item.labeling_id, item.concept_id, item.strength, item.instruction_id, item.seed, item.draw)


def text_outcome(generation: Generation, source: str = "") -> Outcome:
    """Return a trial's text as an outcome of stage ``generate``; ``source`` is the engine's key."""
    value = {part.name: getattr(generation, part.name) for part in fields(generation) if part.name != "trial_id"}
    return Outcome(generation.trial_id, source, "done", value)


def decode_text(trial_id: str, value: str) -> Generation:
    """Return a trial's text from the value of its outcome."""
    return decode(Generation, value, trial_id=trial_id)


def rating_outcome(rating: Rating, judge_key: str) -> Outcome:
    """Return a judge's rating as an outcome of stage ``rate``."""
    numbers: dict[str, float] = {name: getattr(rating, name) for name in ASPECTS if getattr(rating, name) is not None}
    value = {**numbers, "details": rating.details}
    return Outcome(rating.item_id, judge_key, _STATUS[rating.status], value, rating.ticket, rating.reason)


def outcome_rating(outcome: Outcome) -> Rating:
    """Return the rating that an outcome of stage ``rate`` is. Raises StoreError for one that is not a rating."""
    value = outcome.value if isinstance(outcome.value, Mapping) else {}
    concept, instruction, fluency = (value.get(name) for name in ASPECTS)
    status, details = _RATING_STATUS[outcome.status], value.get("details", {})
    try:
        return Rating(outcome.item_id, status, concept, instruction, fluency, outcome.reason, outcome.ticket, details)
    except (ValueError, TypeError) as error:
        message = f"the outcome of {outcome.item_id} is not a rating: {error}"
        raise StoreError(message, given=outcome.value, allowed="three ratings: concept, instruction, fluency") from error
