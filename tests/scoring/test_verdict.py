"""Yes, no, not shown: what each needs of the interval."""

from __future__ import annotations

import numpy as np
import pytest

from harness.scoring import ScoringError
from harness.scoring.simultaneous import Pair, compare_pairs
from harness.scoring.verdict import verdict


def pair(difference: float, low: float, high: float, apart: bool) -> Pair:
    return Pair(0, 1, 24, 24.0, difference, low, high, difference - low, 0.01 if apart else 0.5, apart)


@pytest.mark.parametrize(
    ("found", "smallest", "answer"),
    [
        (pair(0.3, 0.1, 0.5, True), 0.05, "yes"),
        (pair(0.3, 0.0, 0.6, True), 0.05, "yes"),  # told apart on a later step alone
        (pair(0.1, -0.1, 0.3, False), 0.05, "not shown"),
        (pair(0.0, -0.04, 0.04, False), 0.05, "no"),
        (pair(0.0, -0.06, 0.06, False), 0.05, "not shown"),
        (pair(-0.3, -0.5, -0.1, True), 0.05, "no"),
        (pair(-0.3, -0.5, -0.1, True), None, "no"),
        (pair(0.0, -0.001, 0.001, False), None, "not shown"),
    ],
)
def test_answers(found, smallest, answer):
    assert verdict(found, smallest).answer == answer
    assert verdict(found, smallest).shown_from == pytest.approx(found.half_width)


def test_what_was_not_tested_is_not_shown():
    found = compare_pairs(np.random.default_rng(0).random((2, 8)), [(0, 1)]).pairs[0]
    assert verdict(found, 0.05).answer == "not shown"
    assert verdict(found, 0.05).shown_from is None


def test_a_difference_of_the_size_that_could_be_shown_is_shown():
    generator = np.random.default_rng(3)
    noise = generator.standard_normal(30)
    table = np.vstack([noise - noise.mean(), np.zeros(30)])
    limit = verdict(compare_pairs(table, [(0, 1)]).pairs[0], 0.05).shown_from
    for share, answer in ((0.9, "not shown"), (1.1, "yes")):
        moved = table + np.array([[share * limit], [0.0]])
        assert verdict(compare_pairs(moved, [(0, 1)]).pairs[0], 0.05).answer == answer


@pytest.mark.parametrize("smallest", [0.0, -1.0, float("nan")])
def test_the_smallest_difference_is_above_zero(smallest):
    with pytest.raises(ScoringError):
        verdict(pair(0.1, 0.0, 0.2, True), smallest)
