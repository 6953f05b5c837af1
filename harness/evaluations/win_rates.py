"""How often the first of two compared methods is above the second: over concepts, and over instructions as in AxBench.

AxBench (Wu et al. 2025) holds two texts for each instruction against each other: the harmonic mean of the ratings of each, both at the strength that
the other instructions chose for its method. An entry of the leaderboard holds no single texts, so its win rates are over concepts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np

from harness.evaluations.compare import Comparison, Side, paired_scores
from harness.evaluations.steering.choices import instruction_scores
from harness.evaluations.steering.concepts import folds_of
from harness.evaluations.steering.score import scored_labelings
from harness.leaderboard.comparing import win_rate
from harness.leaderboard.comparisons import WinRate
from harness.leaderboard.paired import Item, Scores
from harness.scoring.checks import FloatArray
from harness.store import RunStore
from harness.types import Json

OVER_CONCEPTS, OVER_INSTRUCTIONS = "win rate over concepts", "win rate over instructions (AxBench)"
_A, _B = 0, 1


@dataclass(frozen=True)
class WinRates:
    """How often A is above B; None where there is nothing to count: metrics without a direction, dictionaries, texts that nobody rated.

    Attributes:
        concepts: on how many concepts.
        instructions: on how many instructions; steering alone has any.
    """

    concepts: WinRate | None = None
    instructions: WinRate | None = None

    @property
    def named(self) -> dict[str, WinRate]:
        """Return those that there are, by what they are called."""
        found = {OVER_CONCEPTS: self.concepts, OVER_INSTRUCTIONS: self.instructions}
        return {name: rate for name, rate in found.items() if rate is not None and rate.n}

    def as_json(self) -> dict[str, Json]:
        """Return both as JSON."""
        return {"concepts": _json(self.concepts), "instructions": _json(self.instructions)}


def win_rates(comparison: Comparison, first: RunStore, second: RunStore) -> WinRates:
    """Return how often A is above B.

    Args:
        comparison: of the two.
        first, second: the runs of its sides, open; reading is enough.
    """
    better = comparison.higher_is_better
    if comparison.kind == "dictionary" or better is None:
        return WinRates()
    scores = paired_scores(comparison.first, comparison.second, sign=1 if better else -1)
    over_concepts = win_rate(scores, _A, _B, against=_B)
    if comparison.kind != "steering":
        return WinRates(over_concepts)
    sides = [_by_instruction(side, store, scores.items) for side, store in ((comparison.first, first), (comparison.second, second))]
    return WinRates(over_concepts, win_rate(_paired(scores, sides), _A, _B, against=_B))


def _paired(scores: Scores, sides: list[Mapping[tuple[Item, str], float]]) -> Scores:
    """Return the values of both sides, paired by concept and instruction; instructions stay in the cluster of their concept."""
    cluster = dict(zip(scores.items, scores.clusters.tolist(), strict=True))
    keys = sorted(sides[_A].keys() & sides[_B].keys())
    return Scores(
        items=tuple((concept[0], instruction) for concept, instruction in keys),
        values=np.array([[own[key] for key in keys] for own in sides], dtype=np.float64).reshape(2, len(keys)),
        clusters=np.array([cluster[concept] for concept, _ in keys], dtype=np.int64),
        bounds=scores.bounds,
        noun="instruction",
    )


def _by_instruction(side: Side, store: RunStore, concepts: tuple[Item, ...]) -> dict[tuple[Item, str], float]:
    """Return the score of each concept's reporting instructions; a concept that the labeler left out counts as in the method's score."""
    assert side.method is not None
    assert side.judge is not None
    lists: dict[Item, list[FloatArray]] = {}
    for one in scored_labelings(side.manifest, store, side.judge, side.method):
        lists.setdefault((one.labeling.concept.id, one.labeling.concept.text), []).append(instruction_scores(one))
    counted = side.row.values(side.manifest.task.mode == "fixed")
    found: dict[tuple[Item, str], float] = {}
    for concept in concepts:
        if concept not in counted:
            continue
        instructions = side.manifest.instructions_for(concept[0])
        values = np.mean(lists[concept], axis=0) if concept in lists else _left_out(side, counted[concept], len(instructions))
        found |= {(concept, name): float(value) for name, value in zip(instructions, values, strict=True) if not np.isnan(value)}
    return found


def _left_out(side: Side, value: float, n_instructions: int) -> FloatArray:
    """Return a concept's value on each instruction that reports, where no text was generated."""
    assert side.method is not None
    folds = folds_of(side.manifest.protocol, len(side.method.grid), n_instructions, side.manifest.seed)
    return np.where(folds.reporting, value, np.nan)


def _json(rate: WinRate | None) -> Json:
    return None if rate is None else {name: value for name, value in asdict(rate).items() if name != "against"}
