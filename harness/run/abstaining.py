"""Concepts that a steerer or detector has no answer for: kept in the run, and read there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.store import RunStore
from harness.store.manifest import MethodRecord
from harness.types import Abstention, Labeling

ABSTAINED = "abstained"
"""The record of a run that says which concepts steerers and detectors have no answer for: reasons by method and concept."""


def reasons_of(method: MethodRecord, store: RunStore) -> Mapping[str, str]:
    """Return the concepts that a method's steerer or detector has no answer for, by id, with its reasons."""
    found: Any = store.record(ABSTAINED) or {}
    reasons: Mapping[str, str] = found.get(method.id, {})
    return reasons


def without(answers: Sequence[Labeling | Abstention], reasons: Mapping[str, str]) -> Sequence[Labeling | Abstention]:
    """Return answers with abstentions in place of those whose concept there is a reason against; of a borrowed fit, whose fit."""

    def of(answer: Labeling | Abstention) -> Labeling | Abstention:
        if not isinstance(answer, Labeling) or (reason := reasons.get(answer.fit or answer.concept.id)) is None:
            return answer
        return Abstention(answer.concept, reason)

    return [of(answer) for answer in answers] if reasons else answers
