"""Between values and rows: what is stored is each value's canonical JSON, so that it comes back equal to what went in."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from harness.errors import StoreError
from harness.store.database import Database
from harness.types import (
    Abstention,
    Concept,
    FeatureRef,
    Generation,
    Instruction,
    Json,
    Labeling,
    Method,
    Rating,
    Trial,
    canonical_json,
    digest,
)


@dataclass(frozen=True)
class JudgeRecord:
    """Which judge a set of ratings is from. ``offline`` marks a judge that no person or strong model stands behind."""

    name: str
    rubric: str
    options: Mapping[str, Json] = field(default_factory=dict)
    offline: bool = False

    @property
    def key(self) -> str:
        """Tells sets of ratings apart: the judge's name, and a digest of name, rubric and full options."""
        return f"{self.name}-{digest([self.name, self.rubric, dict(self.options)], 12)}"


def encode(value: Any, what: str) -> str:
    """``value`` (a dataclass or JSON) as stored. Raises StoreError for what JSON cannot hold, such as NaN, arrays and tensors."""
    try:
        return canonical_json(_plain(value))
    except (TypeError, ValueError, RecursionError) as error:
        raise StoreError(f"{what} cannot be stored: {error}; use text, finite Python numbers, None, lists and dicts") from error


def _plain(value: Any) -> Any:
    """Dataclasses and every kind of mapping as dicts, tuples as lists; the rest as it is."""
    if is_dataclass(value) and not isinstance(value, type):
        return {part.name: _plain(getattr(value, part.name)) for part in fields(value)}
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def decode_instruction(text: str) -> Instruction:
    return Instruction(**json.loads(text))


def decode_method(text: str) -> Method:
    return Method(**json.loads(text))


def decode_trial(text: str) -> Trial:
    return Trial(**json.loads(text))


def decode_generation(text: str) -> Generation:
    return Generation(**json.loads(text))


def decode_rating(text: str) -> Rating:
    return Rating(**json.loads(text))


def decode_judge(text: str) -> JudgeRecord:
    return JudgeRecord(**json.loads(text))


def encode_labeling(labeling: Labeling) -> str:
    feature_list = [[feature.dictionary, int(feature.index)] for feature in labeling.features]
    what = f"the labeling of concept {labeling.concept.id!r}"
    return encode({"features": feature_list, "score": labeling.score, "evidence": labeling.evidence}, what)


def decode_answer(kind: str, concept: Concept, text: str) -> Labeling | Abstention:
    value = json.loads(text)
    if kind == "abstention":
        return Abstention(concept, value["reason"])
    features = tuple(FeatureRef(dictionary, index) for dictionary, index in value["features"])
    return Labeling(concept, features, value["score"], value["evidence"])


class Concepts:
    """The concepts of a run. Example texts, which many concepts share as negatives, are stored once each and referred to by number."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._decoded: dict[str, Concept] = {}
        self._texts: dict[int, str] = {}

    def store(self, concepts: Sequence[Concept]) -> list[str]:
        """Store ``concepts`` within a transaction; the digests that refer to them, in order."""
        numbers: dict[str, int] = {}
        known: dict[int, str] = {}  # by identity: comparing thousands of example texts for each labeling is slow
        digests = []
        for concept in concepts:
            if id(concept) not in known:
                value: dict[str, Json] = {"id": concept.id, "text": concept.text, "label": concept.label}
                value |= {name: self._numbers(getattr(concept, name), numbers) for name in ("positives", "negatives")}
                text = encode(value, f"concept {concept.id!r}")
                known[id(concept)] = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
                self._database.execute("INSERT OR IGNORE INTO concept_values VALUES (?, ?)", (known[id(concept)], text))
            digests.append(known[id(concept)])
        return digests

    def get(self, concept_digest: str) -> Concept:
        """The concept of a digest; equal digests give the same object."""
        if concept_digest not in self._decoded:
            value = json.loads(self._database.value("SELECT value FROM concept_values WHERE digest = ?", (concept_digest,)))
            texts = {name: tuple(self._text(number) for number in value[name]) for name in ("positives", "negatives")}
            self._decoded[concept_digest] = Concept(**{**value, **texts})
        return self._decoded[concept_digest]

    def _numbers(self, texts: Sequence[str], numbers: dict[str, int]) -> list[int]:
        """The number of each text, storing those that are new. ``numbers`` remembers what this call has seen."""
        for text in texts:
            if text not in numbers:
                key = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:16]
                self._database.execute("INSERT OR IGNORE INTO texts (digest, text) VALUES (?, ?)", (key, text))
                numbers[text] = self._database.value("SELECT id FROM texts WHERE digest = ?", (key,))
        return [numbers[text] for text in texts]

    def _text(self, number: int) -> str:
        if number not in self._texts:
            self._texts.update(self._database.rows("SELECT id, text FROM texts"))
        return self._texts[number]
