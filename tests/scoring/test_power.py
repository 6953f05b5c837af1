"""Power: against statsmodels where it is installed, against drawn runs, and what must hold for any spread."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from harness.scoring import ScoringError
from harness.scoring.power import MOST, Spread, level_of_one, spread

ABOUT = Spread(difference=0.1, between=0.04, within=0.24, n_concepts=24, effective=24.0, n_instructions=6.0, level=0.95)


def test_the_power_is_that_of_a_t_test():
    power = pytest.importorskip("statsmodels.stats.power")
    deviation = np.sqrt(0.04 + 0.24 / 6)
    for size, n in ((0.1, 24), (0.2, 24), (0.05, 300)):
        expected = power.TTestPower().power(size / deviation, n, 0.05, alternative="two-sided")
        assert ABOUT.power(size, n) == pytest.approx(expected, abs=1e-6)


def test_drawn_runs_are_told_apart_as_often_as_foreseen():
    generator = np.random.default_rng(0)
    n, k, size, runs = 30, 4, 0.15, 4000
    means = size + 0.2 * generator.standard_normal((runs, n)) + np.sqrt(0.24 / k) * generator.standard_normal((runs, n))
    share = (stats.ttest_1samp(means, 0, axis=1).pvalue <= 0.05).mean()
    assert ABOUT.power(size, n, k) == pytest.approx(share, abs=0.03)


def test_the_two_parts_are_found_again():
    generator = np.random.default_rng(1)
    n, k = 4000, 8
    texts = 0.1 + 0.2 * generator.standard_normal((n, 1)) + 0.5 * generator.standard_normal((n, k))
    found = spread(texts.mean(axis=1), texts.var(axis=1, ddof=1), np.full(n, k))
    assert found.between == pytest.approx(0.04, rel=0.1)
    assert found.within == pytest.approx(0.25, rel=0.05)
    assert found.difference == pytest.approx(0.1, abs=0.02)
    assert (found.n_concepts, found.n_instructions) == (n, k)


@settings(max_examples=40, deadline=None)
@given(st.floats(0.02, 1.0), st.floats(0.5, 0.95))
def test_the_number_of_concepts_is_the_least_that_does(size, power):
    count = ABOUT.concepts_for(size, power)
    if count is None:
        assert ABOUT.power(size, MOST) < power
        return
    assert ABOUT.power(size, count) >= power
    assert count == 12 or ABOUT.power(size, count - 1) < power


def test_what_can_be_told_has_the_power_asked_for():
    assert ABOUT.power(ABOUT.detectable(0.8), 24) == pytest.approx(0.8, abs=1e-4)
    assert ABOUT.detectable(0.8, instructions=24) < ABOUT.detectable(0.8)


def test_more_instructions_take_away_their_part_alone():
    assert ABOUT.deviation(24, 1e12) == pytest.approx(np.sqrt(0.04 / 24))


def test_linked_concepts_count_as_fewer():
    linked = Spread(0.1, 0.04, 0.24, 24, 12.0, 6.0, 0.95)
    assert linked.deviation(24) == pytest.approx(ABOUT.deviation(12))
    assert linked.concepts_for(10.0) == 24


def test_a_difference_out_of_reach():
    assert ABOUT.concepts_for(1e-5) is None


def test_no_spread_at_all():
    flat = spread(np.full(12, 0.3), np.zeros(12), np.zeros(12))
    assert (flat.power(0.1, 12), flat.detectable()) == pytest.approx((1.0, 0.0), abs=1e-9)


def test_the_level_of_one_comparison():
    critical = stats.t.ppf(0.975, 23)
    assert level_of_one(critical, 24) == pytest.approx(0.95)


@pytest.mark.parametrize("arguments", [([0.1], [0.1], [4]), ([0.1, 0.2], [0.1], [4, 4]), ([0.1, 0.2], [-0.1, 0.1], [4, 4])])
def test_what_cannot_be_measured(arguments):
    with pytest.raises(ScoringError):
        spread(*arguments)
