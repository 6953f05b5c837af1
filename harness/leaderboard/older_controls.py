"""As which control a row may stand: what its plugins said of themselves, or, in entries of before they did, what the shipped ones were called."""

from __future__ import annotations

from collections.abc import Mapping

from harness.leaderboard.entry import Row
from harness.leaderboard.subject import DictionarySubjectRef, SteeringSubject
from harness.types import ControlKind

_LABELERS: Mapping[str, ControlKind] = {"random": "random features", "permuted": "permuted labels"}
_STEERERS: Mapping[str, ControlKind] = {"random-direction": "random direction"}


def control_kind(row: Row) -> ControlKind | None:
    """Return as which control a row's plugins may be run; None for any other, and for a dictionary, whose controls are its arms."""
    subject = row.subject
    if row.control is not None or isinstance(subject, DictionarySubjectRef):
        return row.control
    steerers = subject.steerer.split("+") if isinstance(subject, SteeringSubject) else []
    kinds = [_LABELERS.get(subject.labeler or ""), *map(_STEERERS.get, steerers)]
    return next((kind for kind in kinds if kind is not None), None)
