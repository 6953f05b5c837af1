"""The texts of two compared methods: those in which they differ most, and whether all of them are the same.

Those that differ most are of one concept and instruction, each at the strength that was chosen for it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from harness.evaluations.compare import Comparison, Side
from harness.evaluations.compare_alike import TextsOf, alike
from harness.evaluations.steering.choices import overall
from harness.run.label import labelings_of
from harness.store import RunStore
from harness.store.run import Record
from harness.types import ASPECTS, Goal, Json, Rating


@dataclass(frozen=True)
class TextPair:
    """Two texts that answer one instruction for one concept."""

    concept: str
    instruction: str
    first: Record
    second: Record
    goal: Goal = "express"
    """What the two steered for."""

    @property
    def difference(self) -> float | None:
        """Return the difference first − second of the texts' scores; None where one is unrated."""
        one, other = overall(self.first.rating, self.goal), overall(self.second.rating, self.goal)
        return None if one is None or other is None else one - other

    def as_json(self) -> dict[str, Json]:
        """Return it as JSON."""
        return {
            "concept": self.concept,
            "instruction": self.instruction,
            "difference": self.difference,
            "first": _text_json(self.first, self.goal),
            "second": _text_json(self.second, self.goal),
        }


def _text_json(record: Record, goal: Goal) -> dict[str, Json]:
    assert record.generation is not None
    rating = record.rating
    return {
        "strength": record.trial.strength,
        "text": record.generation.text,
        "overall": overall(record.rating, goal),
        **{aspect: None if rating is None else getattr(rating, aspect) for aspect in ASPECTS},
        "judge": said(rating),
    }


def said(rating: Rating | None) -> str:
    """Return what a judge said beside its numbers: why a text is unrated, its replies, the rule by which it rated."""
    if rating is None:
        return "not rated yet"
    replies = rating.details.get("replies")
    parts = [rating.reason, str(rating.details.get("rule") or "")]
    parts += [f"{aspect}: {text}" for aspect, text in replies.items()] if isinstance(replies, dict) else []
    return " ".join(part for part in parts if part)


def told_alike(comparison: Comparison, first: RunStore, second: RunStore) -> Comparison:
    """Return the comparison, which now says whether its two sides gave the very same.

    Args:
        comparison: of the two.
        first, second: the runs of its sides, open; reading is enough.
    """
    sides = (first, comparison.first), (second, comparison.second)
    texts = [TextsOf(store, side.method.id, None if side.judge is None else side.judge.key) for store, side in sides if side.method is not None]
    n = sum(item.difference is not None for item in comparison.items)
    own = (texts[0], texts[1]) if comparison.kind == "steering" else None
    return replace(comparison, alike=alike((comparison.first.row, comparison.second.row), comparison.item, n, own))


def most_different(comparison: Comparison, first: RunStore, second: RunStore, count: int) -> list[TextPair]:
    """Return the pairs of texts whose scores differ most, the largest difference first; none that are rated alike.

    The strength is that chosen on all instructions, the smallest one where all score alike. Of a control with several draws the first one counts.

    Args:
        comparison: of steering.
        first, second: the runs of its two sides, open; reading is enough.
        count: so many at most.
    """
    if comparison.kind != "steering" or count < 1:
        return []
    texts = {instruction.id: instruction.text for store in (first, second) for instruction in store.instructions()}
    ours, theirs = _Texts(first, comparison.first), _Texts(second, comparison.second)
    found: list[TextPair] = []
    goal = comparison.first.manifest.protocol.goal
    for item in comparison.items:
        records = ours.at_choice(item.id), theirs.at_choice(item.id)
        shared = [name for name in records[0] if name in records[1]]
        found += [TextPair(item.text, texts[name], records[0][name], records[1][name], goal) for name in shared]
        found.sort(key=lambda pair: -abs(pair.difference or 0.0))
        del found[count:]
    return [pair for pair in found if pair.difference]


class _Texts:
    """The texts of one side, each concept's at the strength that was chosen for it."""

    def __init__(self, store: RunStore, side: Side) -> None:
        assert side.method is not None
        self._store, self._judge = store, side.judge.key if side.judge is not None else None
        self._positions = store.positions_of(side.method.id)
        chosen = _chosen(side)
        self._answers: dict[str, tuple[str, float]] = {}  # by concept: its first labeling, with the strength
        for labeling in labelings_of(side.method, side.manifest, store):
            strength = chosen.get((labeling.concept.id, tuple(map(str, labeling.features))))
            self._answers.setdefault(labeling.concept.id, (labeling.id, side.method.grid[0] if strength is None else strength))

    def at_choice(self, concept: str) -> dict[str, Record]:
        """Return the texts of a concept by instruction; none where the method has no answer."""
        labeling, strength = self._answers.get(concept, ("", None))
        records = self._store.records_at(self._positions.get(labeling, ()), self._judge)
        return {record.trial.instruction_id: record for record in records if record.trial.strength == strength and record.generation is not None}


def _chosen(side: Side) -> dict[tuple[str, tuple[str, ...]], float | None]:
    """Return the strength chosen for each concept and its features, those of single draws included; None where all strengths score alike."""
    found: dict[tuple[str, tuple[str, ...]], float | None] = {}
    for item in side.row.items:
        found[item.id, item.features] = item.strength
        draws: Any = item.details.get("draws") or ()
        found |= {(item.id, tuple(draw["features"])): draw["strength"] for draw in draws}
    return found
