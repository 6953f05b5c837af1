"""The difference of two sets that share no concept, held against scipy's Welch test."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_ind

from harness.scoring.unpaired import unpaired_difference

VALUES = st.lists(st.floats(0, 2).map(lambda value: round(value, 3)), min_size=3, max_size=40)


@given(VALUES, VALUES, st.sampled_from([0.5, 0.9, 0.95]))
def test_it_is_welchs(a: list[float], b: list[float], level: float) -> None:
    found = unpaired_difference(a, b, level=level)
    assert found.difference == pytest.approx(np.mean(a) - np.mean(b), abs=1e-12)
    if np.var(a) + np.var(b) < 1e-9:
        assert found.low is None
        assert found.reason
        return
    ends = ttest_ind(a, b, equal_var=False).confidence_interval(level)
    assert (found.low, found.high) == (pytest.approx(ends.low, abs=1e-9), pytest.approx(ends.high, abs=1e-9))


def test_values_that_belong_together_count_once() -> None:
    a, b = [0.1, 0.4, 0.9, 1.5], [0.0, 0.2, 0.3, 0.4]
    alone, twice = unpaired_difference(a, b), unpaired_difference([*a, *a], b, [0, 1, 2, 3, 0, 1, 2, 3])
    assert twice.difference == pytest.approx(alone.difference)
    assert (twice.low, twice.high) == (pytest.approx(alone.low), pytest.approx(alone.high))
    assert (twice.n, twice.effective) == ((8, 4), (4.0, 4.0))


@pytest.mark.parametrize(("a", "b"), [([], [1.0, 2.0, 0.5]), ([float("nan")], [1.0]), ([1.0, 2.0], [0.5, 1.0, 1.5]), ([1.0] * 5, [1.0] * 5)])
def test_without_an_interval_there_is_a_reason(a: list[float], b: list[float]) -> None:
    found = unpaired_difference(a, b)
    assert found.low is None
    assert found.reason
