"""Metric values: the mean and interval of the scoring functions, on the metric's scale, and in words where there is none."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from harness.leaderboard.entry import metric_value
from harness.leaderboard.values import clip
from harness.scoring import clusters_of, interval


def test_it_is_the_scoring_functions_interval() -> None:
    values = [0.4, 1.1, 0.5, 0.2, 0.9, 0.8]
    clusters = clusters_of([("a", [1]), ("b", []), ("c", [1]), ("d", []), ("e", []), ("f", [])])
    found = metric_value(values, clusters, unit="points", bounds=(0, 2), higher_is_better=True, trivial=0, seed=3)
    expected = interval(values, clusters, seed=3, bounds=(0, 2))
    assert found.low is not None
    assert (found.value, found.low, found.high) == (expected.estimate, expected.low, expected.high)
    assert (found.interval_method, found.reason) == ("t and bootstrap-t, 95 %", "")
    assert found.warning == expected.warning != ""
    assert (found.unit, found.bounds, found.higher_is_better, found.trivial, found.random) == ("points", (0, 2), True, 0, None)


@pytest.mark.parametrize(
    ("values", "clusters", "reason"),
    [
        ([0.7], None, "1 concept: no interval"),
        ([0.0, 0.5], None, "2 concepts: no interval"),
        ([0.0, 0.5, 0.7], [0, 1, 1], "3 concepts in 2 independent groups: no interval"),
        ([0.0, 0.5, 0.7], [0, 0, 0], "3 concepts in 1 independent group: no interval"),
        ([0.0, 0.5, None], None, "2 concepts: no interval; 1 undefined value left out"),
    ],
)
def test_too_few_independent_concepts_give_no_interval(values: list[float | None], clusters: list[int] | None, reason: str) -> None:
    found = metric_value(values, clusters, bounds=(0, 2))
    assert (found.low, found.high, found.interval_method, found.reason) == (None, None, "", reason)
    assert found.value == pytest.approx(np.mean([value for value in values if value is not None]))


def test_the_reason_names_what_the_values_are_of() -> None:
    assert metric_value([0.1, 0.2], item="seed").reason == "2 seeds: no interval"
    assert metric_value([]).reason == "no concept was answered"
    assert metric_value([], empty="no seed was run").reason == "no seed was run"


def test_no_value_at_all_is_no_number_and_a_reason() -> None:
    found = metric_value([None, float("nan")], bounds=(0, 1))
    assert found.value is None
    assert "2 undefined values left out" in found.reason


def test_equal_scores_prove_no_width() -> None:
    found = metric_value([0.0] * 10, bounds=(0, 2))
    assert (found.value, found.low) == (0.0, None)
    assert "all 10 concepts have the same value" in found.reason


def test_a_mean_outside_of_the_scale_is_an_error_and_rounding_is_not() -> None:
    with pytest.raises(ValidationError, match=r"\bvalue\b"):
        metric_value([1.5, 1.6, 1.7], bounds=(0, 1))
    assert metric_value([1.0 + 1e-12] * 3, bounds=(0, 1)).value == 1.0


def test_what_an_interval_warns_of_stands_beside_it_and_is_left_out_where_there_is_nothing() -> None:
    values = [0.1 * (number % 7) for number in range(24)]
    found = metric_value([*values, None], bounds=(0, 2))
    assert found.low is not None
    assert (found.reason, found.warning) == ("", "1 undefined value left out")
    sound = metric_value(values, bounds=(0, 2))
    assert (sound.reason, sound.warning) == ("", "")
    assert "warning" not in sound.model_dump(mode="json"), "older entries keep their digests"
    assert metric_value([0.1, 0.2]).warning == "", "the reason says it"


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(0, 2), min_size=1, max_size=25), st.integers(0, 5))
def test_no_end_leaves_the_scale(values: list[float], seed: int) -> None:
    found, plain = metric_value(values, bounds=(0, 2), seed=seed), interval(values, seed=seed)
    assert found.value == pytest.approx(np.mean(values))
    if found.low is None or found.high is None:
        assert plain.low is None or plain.high is None or (plain.low <= 0 and plain.high >= 2)
        assert found.reason
        return
    assert plain.low is not None
    assert plain.high is not None
    assert (found.low, found.high) == (max(0.0, plain.low), min(2.0, plain.high))


def test_clipping() -> None:
    assert [clip(-1.0, (0, None)), clip(3.0, (None, 2)), clip(9.0, (None, None)), clip(1.0, (0, 2))] == [0, 2, 9, 1]
