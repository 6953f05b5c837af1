"""Makers of valid entries, from which tests vary what they are about."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from harness.leaderboard.entry import Bounds, ConceptResult, Entry, MethodResult
from harness.types import ConceptMode, Decoding, digest

CREATED = "2026-01-31T12:00:00+00:00"


def score(mean: float | None, half: float | None = 0.1) -> dict[str, Any]:
    """A score as JSON: an interval of ``half`` to both sides, or none, with a reason."""
    if mean is None or half is None:
        return {"mean": mean, "reason": "for the test"}
    return {"mean": mean, "low": mean - half, "high": mean + half, "interval_method": "t, 95 %"}


def result(
    name: str = "calibf1",
    values: Sequence[float | None] = (1.0, 0.5, 0.6, 0.4),
    *,
    mode: ConceptMode = "fixed",
    steerer: str = "sae-clamp",
    concepts: Sequence[str] | None = None,
    half: float = 0.1,
    **changes: Any,
) -> MethodResult:
    """A row with one concept a value; None is an abstention."""
    names = concepts or [f"c{number}" for number in range(len(values))]
    rows = [
        ConceptResult(concept_id=concept, concept_text=f"about {concept}", features=(f"sae/{number}",), overall=value, concept=value,
                      instruction=value, fluency=value, chosen_strength=0.4, n_trials=10)
        if value is not None
        else ConceptResult(concept_id=concept, concept_text=f"about {concept}", answered=False, overall=None, concept=None,
                           instruction=None, fluency=None, chosen_strength=None, n_trials=0, reason="no feature passes the filter")
        for number, (concept, value) in enumerate(zip(names, values, strict=True))
    ]  # fmt: skip
    answered = [value for value in values if value is not None]
    mean = sum(answered) / len(answered) if answered else None
    fields: dict[str, Any] = {
        "role": "method",
        "method": {"labeler": name, "steerer": steerer, "strength_unit": "residual-norm", "grid": [0.2, 0.4]},
        "scores": {part: score(mean, half) for part in ("overall", "concept", "instruction", "fluency")},
        "ranked": score(sum(answered) / len(values), half) if mode == "fixed" else None,
        "bounds": Bounds(low=mean, high=mean, reason="" if answered else "nothing rated"),
        "n_concepts": len(values),
        "n_answered": len(answered),
        "coverage": len(answered) / len(values),
        "n_trials": 10 * len(answered),
        "n_unrated": 0,
        "n_pending": 0,
        "eligible": True,
        "per_concept": rows,
    }
    return MethodResult.model_validate({**fields, **changes})


def entry(
    *results: MethodResult, mode: ConceptMode = "fixed", judge: str = "offline-1", offline: bool = False, task: str = "demo", **changes: Any
) -> Entry:
    """An entry of task ``demo`` with the given rows."""
    rows = results or (result(mode=mode),)
    concepts = digest(sorted({(row.concept_id, row.concept_text) for part in rows for row in part.per_concept}))
    fields: dict[str, Any] = {
        "created": CREATED,
        "harness_version": "0.1.0",
        "libraries": {"torch": "2.6.0"},
        "task": {"name": task, "version": "1", "digest": "t1", "split": "report", "mode": mode},
        "model": {"name": "tiny", "digest": "m1", "dtype": "float32", "device": "cpu"},
        "dictionaries": [{"name": "sae", "source": "task", "digest": "d1", "layer": 2, "d_sae": 512}],
        "judge": {"name": "offline", "rubric": "axbench-1", "offline": offline, "key": judge},
        "concept_set_digest": concepts,
        "instruction_set_digest": "i1",
        "decoding": Decoding(),
        "seed": 0,
        "run_digest": "r1",
        "results": rows,
    }
    return Entry.model_validate({**fields, **changes})


@pytest.fixture
def make_result() -> Callable[..., MethodResult]:
    return result


@pytest.fixture
def make_entry() -> Callable[..., Entry]:
    return entry


@pytest.fixture
def make_score() -> Callable[..., dict[str, Any]]:
    return score
