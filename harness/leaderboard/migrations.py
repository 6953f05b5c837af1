"""Entries of older schemas as JSON of the newest, one function a step.

A step reads the older fields by name and refuses what it does not know, so that nothing is lost on the way without a word. It also checks
the older seal: the id of what comes out is computed anew, and the old one is kept as ``migrated_from``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from harness.leaderboard.values import clip
from harness.types import Json, digest

_POINTS = (0.0, 2.0)
_PARTS = ("overall", "concept", "instruction", "fluency")


def migrate(value: dict[str, Json]) -> dict[str, Json]:
    """Return an entry's JSON in the newest schema; one that is there already, or of an unknown schema, comes back as it is.

    Raises:
        ValueError: a field that is missing, unknown or of the wrong type in the schema that the file names (with its place), or a file
            that was changed after it was written.
    """
    while (step := STEPS.get(value["schema_version"])) is not None:
        value = step(value)
    return value


class _Fields:
    """The fields of one object of an older file: each is taken once, and none may be left over."""

    def __init__(self, value: Json, place: str) -> None:
        if not isinstance(value, dict):
            raise ValueError(f"{place}: must be an object, got {type(value).__name__}")
        self._left = dict(value)
        self._place = place

    def take(self, name: str, **default: Json) -> Any:
        """Return a field's value; ``default=…`` where it may be left out."""
        if name not in self._left and "default" not in default:
            raise ValueError(f"{self.place(name)}: field required")
        return self._left.pop(name, default.get("default"))

    def parts(self, name: str) -> list[tuple[str, Any]]:
        """Return the parts of a list with the place of each; no such field is an empty one."""
        value = self.take(name, default=[])
        if not isinstance(value, list):
            raise ValueError(f"{self.place(name)}: must be a list, got {type(value).__name__}")
        return [(f"{self.place(name)}.{number}", part) for number, part in enumerate(value)]

    def rest(self) -> dict[str, Json]:
        """Return whatever was not taken, for an object that did not change."""
        rest, self._left = self._left, {}
        return rest

    def place(self, name: str) -> str:
        return f"{self._place}.{name}" if self._place else name

    def end(self) -> None:
        if self._left:
            raise ValueError(f"{self.place(min(self._left))}: no such field in this schema")


# ------------------------------------------------------------------------------------------------------------------- from 1 to 2


def from_1(old: dict[str, Json]) -> dict[str, Json]:
    """Schema 1 knew steering alone: ``results`` with four scores each become ``rows`` with metrics, ``per_concept`` becomes ``items``."""
    sealed = digest({name: value for name, value in old.items() if name not in ("id", "created")})
    fields = _Fields(old, "")
    fields.take("schema_version")
    name = fields.take("id", default="")
    if name not in ("", sealed):
        raise ValueError(f"the id is {name}, but the content's is {sealed}: the entry was changed after it was written")
    new: dict[str, Json] = {"schema_version": 2, "id": "", "migrated_from": name}
    for field in ("created", "harness_version", "task", "model", "judge", "concept_set_digest", "instruction_set_digest", "decoding", "seed",
                  "run_digest"):  # fmt: skip
        new[field] = fields.take(field)
    for field, default in (("libraries", {}), ("plugins", {}), ("git", None), ("dictionaries", []), ("warnings", [])):
        new[field] = fields.take(field, default=default)
    new["rows"] = [_row_from_1(value, place) for place, value in fields.parts("results")]
    fields.end()
    return new


def _row_from_1(value: Json, place: str) -> dict[str, Json]:
    fields = _Fields(value, place)
    scores = _Fields(fields.take("scores"), fields.place("scores"))
    ranked = fields.take("ranked", default=None)
    row: dict[str, Json] = {
        "kind": "steering",
        "role": fields.take("role"),
        "subject": {**_Fields(fields.take("method"), fields.place("method")).rest(), "kind": "steering"},
        "primary": "overall",
        "metrics": {part: _metric_from_1(scores.take(part), scores.place(part), part) for part in _PARTS},
        "ranked": None if ranked is None else _metric_from_1(ranked, fields.place("ranked"), "overall"),
        "bounds": fields.take("bounds"),
        "n_items": fields.take("n_concepts"),
        "n_texts": fields.take("n_trials"),
        "items": [_item_from_1(part, where) for where, part in fields.parts("per_concept")],
    }
    scores.end()
    for field in ("n_answered", "coverage", "n_unrated", "n_pending", "eligible"):
        row[field] = fields.take(field)
    for field in ("reasons", "warnings", "samples"):
        row[field] = fields.take(field, default=[])
    fields.end()
    return row


def _metric_from_1(value: Json, place: str, name: str) -> dict[str, Json]:
    """Return a score; schema 1 did not clip the ends of its interval to the scale."""
    fields = _Fields(value, place)
    metric: dict[str, Json] = {
        "value": fields.take("mean"),
        **{end: _clipped(fields.take(end, default=None)) for end in ("low", "high")},
        "interval_method": fields.take("interval_method", default=""),
        "reason": fields.take("reason", default=""),
        "bounds": list(_POINTS),
        "higher_is_better": True,
        "trivial": 0.0 if name == "overall" else None,
    }
    fields.end()
    return metric


def _clipped(end: Json) -> Json:
    return clip(end, _POINTS) if isinstance(end, int | float) else end


def _item_from_1(value: Json, place: str) -> dict[str, Json]:
    fields = _Fields(value, place)
    item: dict[str, Json] = {
        "id": fields.take("concept_id"),
        "text": fields.take("concept_text"),
        "features": fields.take("features", default=[]),
        "answered": fields.take("answered", default=True),
        "values": {part: fields.take(part) for part in _PARTS},
        "strength": fields.take("chosen_strength"),
        "n": fields.take("n_trials"),
        "n_unrated": fields.take("n_unrated", default=0),
        "reason": fields.take("reason", default=""),
    }
    fields.end()
    return item


STEPS: dict[Any, Callable[[dict[str, Json]], dict[str, Json]]] = {1: from_1}
"""By the schema that a step reads."""
