"""The harmonic mean of ratings."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from harness.scoring import ScoringError, harmonic_mean


@given(st.lists(st.one_of(st.sampled_from([0.0, 1.0, 2.0]), st.floats(0.001, 2)), min_size=1, max_size=6))
def test_it_is_the_standard_librarys(ratings: list[float]) -> None:
    assert harmonic_mean(ratings) == pytest.approx(statistics.harmonic_mean(ratings), rel=1e-12)


@given(hnp.arrays(float, hnp.array_shapes(min_dims=2, max_dims=3), elements=st.sampled_from([0.0, 1.0, 2.0, math.nan])), st.integers(-2, 1))
def test_it_runs_along_the_axis(ratings: np.ndarray, axis: int) -> None:
    rows = np.moveaxis(ratings, axis, -1)
    expected = np.empty(rows.shape[:-1])
    for index in np.ndindex(expected.shape):
        row = rows[index].tolist()
        expected[index] = math.nan if any(map(math.isnan, row)) else statistics.harmonic_mean(row)
    np.testing.assert_allclose(harmonic_mean(ratings, axis=axis), expected, rtol=1e-12)


def test_known_values() -> None:
    assert harmonic_mean([2, 2, 2]) == 2
    assert harmonic_mean([1, 2, 2]) == pytest.approx(1.5)
    assert harmonic_mean([2, 0, 2]) == 0
    assert math.isnan(harmonic_mean([1, math.nan, 2]))
    assert math.isnan(harmonic_mean([0, math.nan, 2]))  # an unrated text is unrated, whatever else was read from it
    assert math.isnan(harmonic_mean([1, None, 2]))  # type: ignore[list-item]
    assert isinstance(harmonic_mean([1, 2, 2]), float)


def test_tiny_ratings_do_not_overflow() -> None:
    assert harmonic_mean([5e-324, 2.0]) == pytest.approx(1e-323)


@given(hnp.arrays(float, (5, 3), elements=st.floats(0, 2)))
def test_the_two_overall_scores_are_ordered(ratings: np.ndarray) -> None:
    """The harmonic mean of means (Arad et al.) is never below the mean of harmonic means (AxBench), since the harmonic mean is concave."""
    assert harmonic_mean(ratings.mean(axis=0)) >= harmonic_mean(ratings).mean() - 1e-12


def test_what_has_no_harmonic_mean_is_refused() -> None:
    for call, refused, advice in (
        (lambda: harmonic_mean([1, -1, 2]), -1, "at least 0"),
        (lambda: harmonic_mean([1, math.inf]), math.inf, "finite"),
        (lambda: harmonic_mean(np.empty((3, 0))), (3, 0), "never rated"),
        (lambda: harmonic_mean([1, 2], axis=1), 1, "-1 to 0"),
        (lambda: harmonic_mean(1.0), -1, "axis"),
    ):
        with pytest.raises(ScoringError) as error:
            call()
        assert error.value.given == refused
        assert advice in f"{error.value.allowed} {error.value.hint}"
    assert harmonic_mean(np.empty((0, 3))).shape == (0,)
