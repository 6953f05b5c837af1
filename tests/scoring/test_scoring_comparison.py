"""Paired differences, the sign-flip test and Holm's correction against their definitions."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.scoring import ScoringError, holm, interval, paired_difference

nan = math.nan


def sign_flip_p(differences: list[float], clusters: list[int]) -> float:
    """Share of all sign patterns of clusters whose total is at least as far from 0 as the observed one."""
    totals = [sum(d for d, c in zip(differences, clusters, strict=True) if c == cluster) for cluster in sorted(set(clusters))]
    patterns = list(itertools.product([1, -1], repeat=len(totals)))
    observed = abs(sum(totals))
    return sum(abs(sum(s * t for s, t in zip(signs, totals, strict=True))) >= observed - 1e-9 for signs in patterns) / len(patterns)


@given(st.lists(st.tuples(st.integers(-4, 4), st.integers(0, 7)), min_size=1, max_size=12))
@settings(max_examples=60, deadline=None)
def test_the_exact_test_is_the_enumeration(rows: list[tuple[int, int]]) -> None:
    differences, clusters = [row[0] / 10 for row in rows], [row[1] for row in rows]
    result = paired_difference(np.array(differences) + 1, np.ones(len(rows)), clusters)
    assert result.exact
    assert result.n_flips == 2 ** len(set(clusters))
    assert result.p_value == sign_flip_p(differences, clusters)


@given(st.lists(st.floats(0.01, 1), min_size=4, max_size=7), st.sampled_from([0.05, 0.1, 0.25, 0.5]))
@settings(max_examples=30, deadline=None)
def test_the_test_keeps_its_level(sizes: list[float], alpha: float) -> None:
    """Over all sign patterns of given differences, which the null hypothesis makes equally likely, p <= alpha in no more than alpha."""
    p_values = [
        paired_difference(np.array(signs) * sizes, np.zeros(len(sizes)), method="t").p_value
        for signs in itertools.product([1, -1], repeat=len(sizes))
    ]
    assert np.mean([p is not None and p <= alpha for p in p_values]) <= alpha


def test_known_p_values() -> None:
    assert paired_difference([1, 1, 1, 1, 1], [0, 0, 0, 0, 0]).p_value == 2 / 32
    assert paired_difference([1, 2, 3], [1, 2, 3]).p_value == 1
    assert paired_difference([5], [0]).p_value == 1  # a single concept proves nothing


def test_it_agrees_with_scipy() -> None:
    generator = np.random.default_rng(0)
    a, b = generator.random(11), generator.random(11) + 0.2
    expected = scipy.stats.permutation_test((a, b), lambda x, y: np.mean(x - y), permutation_type="samples", n_resamples=np.inf)
    assert paired_difference(a, b).p_value == pytest.approx(expected.pvalue)


def test_beyond_twelve_clusters_it_samples_and_comes_close() -> None:
    generator = np.random.default_rng(1)
    differences = generator.normal(0.4, 1, 13)
    result = paired_difference(differences, np.zeros(13), resamples=40_000)
    exact = sign_flip_p(differences.tolist(), list(range(13)))
    assert not result.exact
    assert result.n_flips == 40_001
    assert result.p_value == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 40_000))
    assert paired_difference(differences, np.zeros(13)).p_value == paired_difference(differences, np.zeros(13)).p_value
    assert paired_difference(np.ones(30), np.zeros(30)).p_value == pytest.approx(1e-4)  # never 0: the observed pattern counts
    assert paired_difference(np.ones(13), np.zeros(13)).n_flips == 10_000
    assert paired_difference(np.ones(12), np.zeros(12)).n_flips == 4096


def test_the_interval_is_of_the_differences() -> None:
    generator = np.random.default_rng(2)
    a, b = generator.random((2, 24))
    clusters = np.arange(24) // 2
    result = paired_difference(a, b, clusters)
    assert result.interval == interval(a - b, clusters)
    swapped = paired_difference(b, a, clusters, method="t").interval
    direct = paired_difference(a, b, clusters, method="t").interval
    assert swapped.low is not None
    assert direct.high is not None
    assert swapped.low == pytest.approx(-direct.high)


def test_only_shared_concepts_count() -> None:
    a, b = [1.0, nan, 0.5, 0.2, nan], [0.2, 0.4, nan, 0.1, nan]
    result = paired_difference(a, b)
    assert (result.interval.n, result.interval.n_missing, result.n_flips) == (2, 3, 4)
    assert result.interval.estimate == pytest.approx(0.45)
    assert result.interval.warning is not None
    assert result.interval.warning.endswith("3 undefined values left out")
    nothing = paired_difference([nan], [1.0])
    assert (nothing.p_value, nothing.n_flips, nothing.interval.estimate) == (None, 0, None)


def test_pairing_and_clusters_matter() -> None:
    """Concepts differ more than methods: paired, the difference is clear; copies of a concept must not make it clearer."""
    generator = np.random.default_rng(3)
    concept = generator.random(8) * 2
    a, b = concept + 0.1 + generator.normal(0, 0.05, 8), concept
    p_value = paired_difference(a, b).p_value
    assert p_value is not None
    assert p_value < 0.05 < scipy.stats.ttest_ind(a, b).pvalue
    assert paired_difference(np.tile(a, 5), np.tile(b, 5), np.tile(np.arange(8), 5)).p_value == p_value


def test_lengths_must_agree() -> None:
    with pytest.raises(ScoringError) as error:
        paired_difference([1, 2], [1, 2, 3])
    assert error.value.given == (2, 3)
    assert error.value.allowed
    with pytest.raises(ScoringError) as error:
        paired_difference([1, 2], [1, 2], [0])
    assert error.value.given == 1
    assert "2 values" in str(error.value.allowed)


def holm_rejects(p_values: list[float], alpha: float) -> list[bool]:
    """Holm's procedure as published: from the smallest p on, reject while p <= alpha / (number not yet rejected)."""
    rejected = [False] * len(p_values)
    for step, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        if p_values[index] * (len(p_values) - step) > alpha:
            break
        rejected[index] = True
    return rejected


@given(st.lists(st.sampled_from([0.001, 0.004, 0.01, 0.0125, 0.03, 0.05, 0.2, 0.9, 1.0]), min_size=1, max_size=8), st.floats(0.001, 0.999))
def test_holm_is_the_step_down_procedure(p_values: list[float], alpha: float) -> None:
    assert (holm(p_values) <= alpha).tolist() == holm_rejects(p_values, alpha)


def test_holm_known_values() -> None:
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm([0.01, nan, 0.04]), [0.02, nan, 0.04])
    assert holm([]).shape == (0,)
    assert np.isnan(holm([nan])).all()
    for wrong in (1.5, -0.5):
        with pytest.raises(ScoringError) as error:
            holm([0.5, wrong])
        assert (error.value.given, error.value.allowed) == (wrong, "0 to 1")
