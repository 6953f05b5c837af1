"""Makers of valid entries, from which tests vary what they are about."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from harness.leaderboard.entry import STEERING_METRICS, Entry, Row
from harness.types import ConceptMode, Decoding, digest

CREATED = "2026-01-31T12:00:00+00:00"
POINTS = {"bounds": [0, 2], "higher_is_better": True}
SHARE = {"bounds": [0, 1], "higher_is_better": True}


def metric(value: float | None, half: float | None = 0.1, **scale: Any) -> dict[str, Any]:
    """A metric as JSON: an interval of ``half`` to both sides, clipped to the bounds, or none, with a reason."""
    if value is None or half is None:
        return {"value": value, "reason": "for the test", **scale}
    low, high = scale.get("bounds", (None, None))
    ends = (value - half if low is None else max(low, value - half), value + half if high is None else min(high, value + half))
    return {"value": value, "low": ends[0], "high": ends[1], "interval_method": "t, 95 %", **scale}


def score(value: float | None, half: float | None = 0.1) -> dict[str, Any]:
    """A steering score as JSON."""
    return metric(value, half, **POINTS, trivial=0)


def result(
    name: str = "calibf1",
    values: Sequence[float | None] = (1.0, 0.5, 0.6, 0.4),
    *,
    mode: ConceptMode = "fixed",
    steerer: str = "sae-clamp",
    concepts: Sequence[str] | None = None,
    half: float = 0.1,
    **changes: Any,
) -> Row:
    """A steering row with one concept a value; None is an abstention."""
    names = concepts or [f"c{number}" for number in range(len(values))]
    items = [
        {"id": concept, "text": f"about {concept}", "features": [f"sae/{number}"], "values": dict.fromkeys(STEERING_METRICS, value),
         "strength": 0.4, "n": 10}
        if value is not None
        else {"id": concept, "text": f"about {concept}", "answered": False, "reason": "no feature passes the filter"}
        for number, (concept, value) in enumerate(zip(names, values, strict=True))
    ]  # fmt: skip
    answered = [value for value in values if value is not None]
    mean = sum(answered) / len(answered) if answered else None
    fields: dict[str, Any] = {
        "kind": "steering",
        "role": "method",
        "subject": {"kind": "steering", "labeler": name, "steerer": steerer, "strength_unit": "residual-norm", "grid": [0.2, 0.4]},
        "primary": "overall",
        "metrics": {part: score(mean, half) for part in STEERING_METRICS},
        "ranked": score(sum(answered) / len(values), half) if mode == "fixed" else None,
        "bounds": {"low": mean, "high": mean, "reason": "" if answered else "nothing rated"},
        **_counts(len(values), len(answered)),
        "n_texts": 10 * len(answered),
        "items": items,
    }
    return Row.model_validate({**fields, **changes})


def detection(
    name: str = "calibf1",
    values: Sequence[float | None] = (0.9, 0.8, 0.95, 0.7),
    *,
    detector: str = "sae",
    mode: ConceptMode = "fixed",
    extra: Sequence[str] = ("average_precision", "f1", "calibrated_f1"),
    **changes: Any,
) -> Row:
    """A detection row with one concept an AUROC; None is an abstention. ``extra`` metrics have the same values."""
    items = [
        {"id": f"c{number}", "text": f"about c{number}", "features": [f"sae/{number}"], "values": dict.fromkeys(("auroc", *extra), value),
         "n": 100, "details": {"threshold": 0.5}}
        if value is not None
        else {"id": f"c{number}", "text": f"about c{number}", "answered": False, "trivial": {"average_precision": 0.1}, "reason": "no feature"}
        for number, value in enumerate(values)
    ]  # fmt: skip
    answered = [value for value in values if value is not None]
    mean = sum(answered) / len(answered) if answered else None
    filled = [0.5 if value is None else value for value in values]
    fields: dict[str, Any] = {
        "kind": "detection",
        "role": "method",
        "subject": {"kind": "detection", "labeler": name, "detector": detector},
        "primary": "auroc",
        "metrics": {"auroc": metric(mean, **SHARE, trivial=0.5), **{part: metric(mean, **SHARE) for part in extra}},
        "ranked": metric(sum(filled) / len(filled), **SHARE, trivial=0.5) if mode == "fixed" else None,
        **_counts(len(values), len(answered)),
        "n_texts": 100 * len(answered),
        "items": items,
    }
    return Row.model_validate({**fields, **changes})


def dictionary(
    name: str = "reconstruction",
    values: Sequence[float] = (0.9, 0.91, 0.92),
    *,
    arm: str = "trained",
    of: str = "sae",
    better: bool | None = True,
    half: float | None = 0.01,
    scale: dict[str, Any] | None = None,
    made_of: Sequence[Sequence[float]] = (),
    **changes: Any,
) -> Row:
    """A row of a dictionary's metric with one seed a value; ``made_of``: what each seed's value is the mean of, data sets by default."""
    values = [sum(parts) / len(parts) for parts in made_of] or values
    per_item = [{f"set {place}": value for place, value in enumerate(parts)} for parts in made_of] or [{} for _ in values]
    how = {"unit": "share", "higher_is_better": better, "trivial": 0, "random": 0.2, **(scale or {})}
    fields: dict[str, Any] = {
        "kind": "dictionary",
        "role": "method" if arm == "trained" else "control",
        "subject": {"kind": "dictionary", "dictionary": of, "digest": f"d-{of}", "arm": arm, "metric": name},
        "primary": name,
        "metrics": {name: metric(sum(values) / len(values), half, **how)},
        **_counts(len(values), len(values)),
        "items": [
            {"id": f"seed {seed}", "text": f"seed {seed}", "values": {name: value}, "per_item": parts}
            for seed, (value, parts) in enumerate(zip(values, per_item, strict=True))
        ],
        "item": "data set" if made_of else "",
    }
    return Row.model_validate({**fields, **changes})


def _counts(n_items: int, n_answered: int) -> dict[str, Any]:
    return {"n_items": n_items, "n_answered": n_answered, "coverage": n_answered / n_items if n_items else None, "eligible": True}


def entry(*rows: Row, mode: ConceptMode = "fixed", judge: str | None = "offline-1", offline: bool = False, task: str = "demo",
          **changes: Any) -> Entry:  # fmt: skip
    """An entry of task ``demo`` with the given rows."""
    rows = rows or (result(mode=mode),)
    concepts = digest(sorted({(item.id, item.text) for row in rows for item in row.items}))
    fields: dict[str, Any] = {
        "created": CREATED,
        "harness_version": "0.1.0",
        "libraries": {"torch": "2.6.0"},
        "task": {"name": task, "version": "1", "digest": "t1", "split": "report", "mode": mode},
        "model": {"name": "tiny", "digest": "m1", "dtype": "float32", "device": "cpu"},
        "dictionaries": [{"name": "sae", "source": "task", "digest": "d1", "layer": 2, "d_sae": 512}],
        "judge": {"name": "offline", "rubric": "axbench-1", "offline": offline, "key": judge} if judge else None,
        "concept_set_digest": concepts,
        "instruction_set_digest": "i1",
        "decoding": Decoding(),
        "seed": 0,
        "run_digest": "r1",
        "rows": rows,
    }
    return Entry.model_validate({**fields, **changes})


@pytest.fixture(scope="session")
def make_result() -> Callable[..., Row]:
    return result


@pytest.fixture(scope="session")
def make_detection() -> Callable[..., Row]:
    return detection


@pytest.fixture(scope="session")
def make_dictionary() -> Callable[..., Row]:
    return dictionary


@pytest.fixture(scope="session")
def make_entry() -> Callable[..., Entry]:
    return entry


@pytest.fixture(scope="session")
def make_score() -> Callable[..., dict[str, Any]]:
    return score


@pytest.fixture(scope="session")
def make_metric() -> Callable[..., dict[str, Any]]:
    return metric
