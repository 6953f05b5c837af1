"""Win rates over concepts and over instructions: AxBench's from its definition, in a plain loop; what leaves no text has no rate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.steered import steered_run

from harness.evaluations.compare import compare, load_side
from harness.evaluations.win_rates import OVER_CONCEPTS, OVER_INSTRUCTIONS, WinRates, win_rates
from harness.scoring import harmonic_mean
from harness.store import Manifest, RunStore

N_CONCEPTS, N_INSTRUCTIONS = 14, 6


def drawn(unrated: tuple[int, int] | None = None) -> dict[tuple[str, int, float, int], tuple[float, float, float] | None]:
    """Ratings of all texts of two methods; ``unrated`` is concept and instruction of texts that cannot be rated."""
    draw = np.random.default_rng(5)
    keys = [
        (name, concept, strength, place)
        for name in ("clamp", "prompt")
        for concept in range(N_CONCEPTS)
        for strength in (0.5, 1.0)
        for place in range(N_INSTRUCTIONS)
    ]
    values = {key: (float(draw.integers(0, 3)), float(draw.integers(1, 3)), 2.0) for key in keys}
    return {key: None if (key[1], key[3]) == unrated else value for key, value in values.items()}


def rates_of(folder: Path, ratings: dict[Any, Any], protocol: dict[str, Any], one: str = "clamp", other: str = "prompt") -> tuple[WinRates, Manifest]:
    manifest = steered_run(
        folder, lambda *key: ratings[key], ("clamp", "prompt!"), N_CONCEPTS, N_INSTRUCTIONS, protocol=protocol
    )
    with RunStore.open(folder, read_only=True) as store:
        found = compare(load_side(store, "steering", one), load_side(store, "steering", other))
        return win_rates(found, store, store), manifest


@pytest.mark.parametrize("unrated", [None, (3, 5)])
def test_the_rate_over_instructions_is_axbenchs(tmp_path: Path, unrated: tuple[int, int] | None) -> None:
    """The first half chooses the method's factor; on each instruction of the second half the two harmonic means are held against each other."""
    ratings = drawn(unrated)
    rates, _ = rates_of(tmp_path / "run", ratings, {"name": "axbench"})
    wins = ties = losses = 0
    for concept in range(N_CONCEPTS):
        means = {
            strength: np.mean([_mean(ratings["clamp", concept, strength, place]) for place in range(3)]) for strength in (0.5, 1.0)
        }
        best = 0.5 if means[0.5] >= means[1.0] else 1.0
        for place in range(3, N_INSTRUCTIONS):
            if (concept, place) == unrated:
                continue
            difference = _mean(ratings["clamp", concept, best, place]) - _mean(ratings["prompt", concept, 1.0, place])
            wins, ties, losses = wins + (difference > 1e-6), ties + (abs(difference) <= 1e-6), losses + (difference < -1e-6)
    found = rates.instructions
    assert found is not None
    assert (found.wins, found.ties, found.losses) == (wins, ties, losses)
    assert found.n == 3 * N_CONCEPTS - (unrated is not None)
    assert found.value == pytest.approx((wins + ties / 2) / found.n)
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.value < found.high
    assert list(rates.named) == [OVER_CONCEPTS, OVER_INSTRUCTIONS]


def _mean(rated: Any) -> float:
    return float(harmonic_mean(rated))


def test_with_cross_validation_all_instructions_count_and_both_sides_agree(tmp_path: Path) -> None:
    ratings = drawn()
    rates, manifest = rates_of(tmp_path / "run", ratings, {"repeats": 3, "splits": 2})
    turned, _ = rates_of(tmp_path / "again", ratings, {"repeats": 3, "splits": 2}, "prompt", "clamp")
    for one, other in ((rates.concepts, turned.concepts), (rates.instructions, turned.instructions)):
        assert one is not None
        assert other is not None
        assert (one.wins, one.ties, one.losses) == (other.losses, other.ties, other.wins)
        assert one.value == pytest.approx(1 - (other.value or 0.0))
    assert rates.instructions is not None
    assert rates.instructions.n == N_CONCEPTS * len(manifest.instructions)


def test_what_instructions_add_is_the_concepts_score(tmp_path: Path) -> None:
    from harness.evaluations.steering.choices import instruction_scores
    from harness.evaluations.steering.score import scored_labelings

    ratings = drawn()
    steered_run(tmp_path / "run", lambda *key: ratings[key], ("clamp",), N_CONCEPTS, N_INSTRUCTIONS)
    with RunStore.open(tmp_path / "run", read_only=True) as store:
        judge, (method,) = store.judge_named(None), store.manifest.methods_of("steering")
        assert judge is not None
        for one in scored_labelings(store.manifest, store, judge, method):
            assert np.mean(instruction_scores(one)) == pytest.approx(one.result.values["overall"])
