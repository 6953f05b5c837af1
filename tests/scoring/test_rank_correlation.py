"""Rank correlations: scipy's coefficients, intervals that hold the truth, and none where there is nothing to say."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from harness.scoring import ScoringError
from harness.scoring.rank_correlation import MIN_POINTS, rank_correlation
from harness.types import rng

POINTS = st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5)), min_size=MIN_POINTS, max_size=20)


@settings(max_examples=40, deadline=None)
@given(POINTS)
def test_the_coefficients_are_scipys_and_the_definition(points: list[tuple[int, int]]) -> None:
    x, y = np.array(points, dtype=float).T
    found = rank_correlation(x, y, resamples=20)
    if len(set(x)) == 1 or len(set(y)) == 1:
        assert found.tau.value is None
        assert found.reason
        return
    pairs = [(np.sign(x[i] - x[j]), np.sign(y[i] - y[j])) for i, j in itertools.combinations(range(len(x)), 2)]
    tau_b = sum(a * b for a, b in pairs) / np.sqrt(sum(a * a for a, _ in pairs) * sum(b * b for _, b in pairs))
    assert found.tau.value == pytest.approx(tau_b)
    assert found.tau.value == pytest.approx(stats.kendalltau(x, y).statistic)
    assert found.rho.value == pytest.approx(stats.spearmanr(x, y).statistic)
    for one in (found.tau, found.rho):
        if one.low is not None and one.high is not None:
            assert -1 <= one.low <= one.high <= 1


@settings(max_examples=20, deadline=None)
@given(POINTS, st.permutations(range(20)))
def test_the_points_order_and_any_rising_scale_change_nothing(points: list[tuple[int, int]], order: list[int]) -> None:
    order = [place for place in order if place < len(points)]
    x, y = np.array(points, dtype=float).T
    assert rank_correlation(x[order], y[order], resamples=20) == rank_correlation(x, y, resamples=20)
    scaled = rank_correlation(np.exp(x), y, resamples=20)
    assert scaled.tau == rank_correlation(x, y, resamples=20).tau


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    """tau of a normal pair with correlation r is 2/pi · arcsin(r)."""
    inside, truth = 0, 2 / np.pi * np.arcsin(0.6)
    for seed in range(20):
        x, noise = rng(seed, "pairs").normal(size=(2, 40))
        found = rank_correlation(x, 0.6 * x + 0.8 * noise, resamples=199)
        assert found.tau.low is not None
        assert found.tau.high is not None
        inside += found.tau.low <= truth <= found.tau.high
    assert inside >= 15  # .95 · 20 = 19, four standard deviations of a binomial below


def test_too_few_points_and_points_without_one_of_the_numbers() -> None:
    found = rank_correlation([1.0, 2.0, 3.0, 4.0, 5.0, float("nan"), 7.0], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, float("nan")])
    assert (found.n, found.tau.value, found.rho.value) == (5, None, None)
    assert found.reason == "5 points have both numbers, and it takes 6"
    assert rank_correlation([1.0], [2.0]).reason.startswith("1 point has")


def test_a_perfect_order_has_no_interval() -> None:
    found = rank_correlation(range(8), range(8), resamples=50)
    assert found.tau.value == pytest.approx(1)
    assert found.tau.low is None
    assert found.reason


def test_lists_of_other_lengths_are_refused() -> None:
    with pytest.raises(ScoringError):
        rank_correlation([1.0], [1.0, 2.0])
