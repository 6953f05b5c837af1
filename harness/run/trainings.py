"""How the trainings of a stored run went: the curves that its plugins gave, and what is said of them in a line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from harness.store import RunStore

CURVES = "curves"
"""Kind of the notes that keep how the training of a plugin went, with its name behind: ``curves: steerer NAME``."""

Loss = Literal["loss", "held_out"]
Curves = Mapping[str, Mapping[str, Any]]
"""Curves by concept id, as :class:`harness.contracts.Fitted` gives them."""


def trainings(store: RunStore) -> dict[str, Curves]:
    """Return the curves of each plugin that trained something, by its kind and name; of a concept that was trained twice the last one."""
    found: dict[str, dict[str, Any]] = {}
    for note in store.notes():
        kind, _, name = note.kind.partition(": ")
        if kind == CURVES:
            found.setdefault(name, {}).update(note.value)
    return dict(found)


@dataclass(frozen=True)
class Summary:
    """A plugin's trainings in a few numbers.

    Attributes:
        concepts: how many were trained.
        loss: mean over concepts of their first and of their last training loss; None where there is none.
        held_out: the same of the loss on held-out examples.
        diverged: ids of the concepts whose training was given up.
    """

    concepts: int
    loss: tuple[float, float] | None
    held_out: tuple[float, float] | None
    diverged: tuple[str, ...]


def summary_of(curves: Curves) -> Summary:
    """Return a plugin's trainings in a few numbers."""
    diverged = tuple(concept for concept, curve in curves.items() if curve.get("stopped") is not None)
    return Summary(len(curves), _ends(curves, "loss"), _ends(curves, "held_out"), diverged)


def _ends(curves: Curves, name: Loss) -> tuple[float, float] | None:
    known = [[value for value in curve.get(name, ()) if value is not None] for curve in curves.values()]
    ends = [(values[0], values[-1]) for values in known if values]
    return None if not ends else (sum(first for first, _ in ends) / len(ends), sum(last for _, last in ends) / len(ends))
