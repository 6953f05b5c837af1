"""What a run holds of detection: its labelings with their figures, and the score of each text; and of dictionaries: the measurements.

A run keeps the texts of a detection by their places in the corpus, and their scores; the texts themselves are in the corpus.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.evaluations.detection.records import NO_KEYWORDS, REPORT, THRESHOLD, Truth, places_of, unpack
from harness.evaluations.detection.rows import DETECT, TEXTS
from harness.files.json_text import parse_json
from harness.scoring import auroc
from harness.store.database import Database
from harness.store.values import unpack as unpack_fact
from harness.types import Json
from harness.view.errors import BadRequest, NotFound
from harness.view.filters import finite_number
from harness.view.names import NamedMethod, Names
from harness.view.run_file import understood

PAGE, SCORES = 20, 100
"""Labelings, and scored texts, on a page."""
SETS: Mapping[str, str] = {REPORT: "reported", THRESHOLD: "for choosing the threshold", NO_KEYWORDS: "reported, without the concept's keywords"}
LABELS = ("positive", "negative", "hard negative")
ORDERS = {"high": "highest score first", "low": "lowest score first", "corpus": "as in the corpus"}
_ITEM = (
    "SELECT i.position, i.id, i.method_id, i.concept_id, i.labeling_id, i.value, o.status, o.reason, o.value FROM items i "
    f"LEFT JOIN outcomes o ON o.item_id = i.id AND o.stage = '{DETECT}' WHERE i.kind = 'detection' "
)


@dataclass(frozen=True)
class DetectionItem:
    """A labeling of a detection method. ``auroc`` is that on the reported texts; None where there is none yet, with the ``reason`` if it failed."""

    id: str
    position: int
    method: NamedMethod
    concept_id: str
    concept: str
    features: tuple[str, ...]
    status: str
    reason: str = ""
    auroc: float | None = None
    positives: int = 0
    texts: int = 0


@dataclass(frozen=True)
class ScoredText:
    """A text that was scored: its place in the corpus (None where it is not known), whether it has the concept, and its score."""

    place: int | None
    label: str
    score: float


@dataclass(frozen=True)
class Scores:
    """A page of the scored texts of a labeling; ``begin`` is the rank of its first, ``n`` how many there are under the filter."""

    texts: list[ScoredText]
    begin: int
    n: int
    sets: tuple[str, ...]


def list_detection_items(database: Database, names: Names, method: str, concept: str, after: int) -> tuple[list[DetectionItem], int | None]:
    """Return a page of labelings behind a position, and the position behind which the next page begins (None: there is none)."""
    where = "AND (? = '' OR i.method_id = ?) AND (? = '' OR i.concept_id = ?) AND i.position > ? ORDER BY i.position LIMIT ?"
    rows = database.rows(_ITEM + where, (method, method, concept, concept, after, PAGE + 1))
    with understood(database.path):
        found = [_detection_item(row, names) for row in rows[:PAGE]]
    return found, found[-1].position if len(rows) > PAGE else None


def _detection_item(row: Sequence[Any], names: Names) -> DetectionItem:
    position, identity, method, concept, labeling, value, status, reason, outcome = row
    facts: dict[str, Any] = {"status": status or "not yet", "reason": reason or ""}
    if status == "done":
        truth, scores = Truth.from_json(parse_json(value)), unpack(parse_json(outcome)[REPORT]).astype(np.float64)
        plain = ~truth.report_hard
        number = float(auroc(scores[plain], truth.report[plain]))
        facts |= {"auroc": None if math.isnan(number) else number, "positives": int(truth.report.sum()), "texts": len(scores)}
    features = names.features.get(labeling, ())
    return DetectionItem(identity, position, names.method(method), concept, names.concept(concept), features, **facts)


def detection_item(database: Database, names: Names, identity: str) -> tuple[DetectionItem, Json, Json]:
    """Return a labeling, and what its item and outcome hold. Raises NotFound for an id of none."""
    rows = database.rows(_ITEM + "AND i.id = ?", (identity,))
    if not rows:
        raise NotFound(f"the run has no detection {identity!r:.60}", given=identity)
    with understood(database.path):
        return _detection_item(rows[0], names), parse_json(rows[0][5]), None if rows[0][8] is None else parse_json(rows[0][8])


def scored_texts(database: Database, item: Json, outcome: Json, given: Mapping[str, str]) -> Scores:
    """Return a page of a labeling's scored texts.

    Args:
        database: the run's file.
        item, outcome: as :func:`detection_item` returns them.
        given: the address' fields: ``set``, ``label``, ``score_min``, ``score_max``, ``order``, ``from``.

    Raises:
        BadRequest: a field with a value that it cannot have.
    """
    with understood(database.path):
        truth = Truth.from_json(item)
        part, order = _choice(given, "set", SETS, REPORT), _choice(given, "order", ORDERS, "high")
        if part not in outcome:
            return Scores([], 0, 0, tuple(name for name in SETS if name in outcome))
        scores = unpack(outcome[part]).astype(np.float64)
        of_set = truth.threshold if part == THRESHOLD else truth.report
        hard = truth.threshold_hard if part == THRESHOLD else truth.report_hard
        rows = np.flatnonzero(truth.changed) if part == NO_KEYWORDS and truth.changed is not None else np.arange(len(scores))
        labels = np.where(of_set[rows], 0, np.where(hard[rows], 2, 1))
        places = _places(database, part)
    kept = np.ones(len(scores), dtype=bool)
    if label := _choice(given, "label", LABELS, ""):
        kept &= labels == LABELS.index(label)
    for name, sign in (("score_min", 1), ("score_max", -1)):
        if text := given.get(name, "").strip():
            kept &= sign * scores >= sign * finite_number(name, text)
    found = np.flatnonzero(kept)
    if order != "corpus":
        found = found[np.argsort(scores[found] if order == "low" else -scores[found], kind="stable")]
    begin = min(max(int(finite_number("from", given.get("from", "") or "0")), 0), len(found))
    texts = [
        ScoredText(int(places[rows[n]]) if rows[n] < len(places) else None, LABELS[labels[n]], float(scores[n]))
        for n in found[begin : begin + SCORES]
    ]
    return Scores(texts, begin, len(found), tuple(name for name in SETS if name in outcome))


def _places(database: Database, part: str) -> Any:
    """Return the places in the corpus of a set's texts; empty where the run does not say."""
    stored = database.value("SELECT value FROM facts WHERE name = ?", (TEXTS,))
    return places_of(parse_json(unpack_fact(stored)), THRESHOLD if part == THRESHOLD else REPORT) if stored is not None else np.empty(0, np.int64)


def _choice(given: Mapping[str, str], name: str, allowed: Any, default: str) -> str:
    value = given.get(name, "").strip() or default
    if value not in (*allowed, default):
        raise BadRequest(f"{name} is {value!r:.80}", given=value, allowed=tuple(allowed))
    return value


# ------------------------------------------------------------------------------------------------------------------- dictionaries


@dataclass(frozen=True)
class MeasurementItem:
    """A metric on one dictionary. ``value`` is None where there is none (yet), with the ``reason`` where it is known."""

    id: str
    metric: NamedMethod
    dictionary: str
    arm: str
    training_seed: str
    seed: str
    status: str
    value: float | None = None
    parts: tuple[tuple[str, float | None], ...] = ()
    reason: str = ""


def list_measurements(database: Database, names: Names, metric: str, arm: str) -> tuple[list[MeasurementItem], list[str]]:
    """Return a run's measurements under a filter (by a metric's name, an arm; empty: all), and all of its arms."""
    sql = (
        "SELECT i.id, i.method_id, i.value, i.seed, o.status, o.reason, o.value FROM items i "
        "LEFT JOIN outcomes o ON o.item_id = i.id WHERE i.kind = 'dictionary' ORDER BY i.position"
    )
    with understood(database.path):
        every = [_measured(row, names) for row in database.rows(sql)]
    arms = list(dict.fromkeys(one.arm for one in every))
    return [one for one in every if (not metric or one.metric.name == metric) and (not arm or one.arm == arm)], arms


def _measured(row: Sequence[Any], names: Names) -> MeasurementItem:
    identity, method, value, seed, status, reason, outcome = row
    item = parse_json(value)
    found = parse_json(outcome) if status == "done" else {}
    trained = item.get("training_seed")
    return MeasurementItem(
        id=identity,
        metric=names.method(method),
        dictionary=str(item.get("dictionary", "")),
        arm=str(item.get("arm", "")),
        training_seed="" if trained is None else str(trained),
        seed=str(seed),
        status=status or "not yet",
        value=found.get("value"),
        parts=tuple(found.get("parts", {}).items()),
        reason=reason or found.get("reason", ""),
    )
