"""Seeds crossed with seeds: every pair counts, the interval is over items, and groups that share nothing but chance are told so."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from harness.scoring import ScoringError
from harness.scoring.crossed import Crossed, Measured, crossed
from harness.scoring.intervals import interval
from harness.types import rng

FAST: dict[str, Any] = {"resamples": 500}


def group(values: np.ndarray) -> list[Measured]:
    """Seeds × items as a group whose values are the means over items."""
    return [Measured(float(row.mean()), {f"item {place}": float(value) for place, value in enumerate(row)}) for row in values]


def drawn(seed: int, mean: float, n_seeds: int = 3, n_items: int = 20, between: float = 0.01, within: float = 0.05) -> np.ndarray:
    """Items that are hard or easy for all, seeds that differ a little."""
    generator = rng(seed, f"crossed {mean}")
    items = rng(0, "items").normal(0, 0.3, n_items)
    return mean + items + generator.normal(0, between, (n_seeds, 1)) + generator.normal(0, within, (n_seeds, n_items))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 3), st.integers(1, 4), st.integers(3, 12), st.integers(0, 10**6))
def test_the_paired_interval_is_that_of_the_mean_difference_over_items(n: int, m: int, n_items: int, seed: int) -> None:
    """Of all n × m pairs, each the mean over items, the mean is that of the crossed means; its interval is the house's over those differences."""
    generator = rng(seed, "values")
    first, second = generator.normal(0.2, 1, (n, n_items)), generator.normal(0, 1, (m, n_items))
    found = crossed(group(first), group(second), paired=True, **FAST)
    assert len(found.pairs) == n * m
    pairs = [first[i] - second[j] for i, j in itertools.product(range(n), range(m))]
    assert [pair.difference for pair in found.pairs] == pytest.approx([float(pair.mean()) for pair in pairs])
    assert found.difference == pytest.approx(np.mean(pairs))
    assert found.mean == pytest.approx(found.difference)
    expected = interval(first.mean(axis=0) - second.mean(axis=0), resamples=500)
    assert [found.low, found.high] == pytest.approx([expected.low, expected.high])
    half = stats.t.ppf(0.975, n_items - 1) * stats.sem(first.mean(axis=0) - second.mean(axis=0))
    if found.low is not None and found.high is not None:
        assert found.low <= found.difference - half + 1e-9  # the hull holds Student's interval
        assert found.high >= found.difference + half - 1e-9
        assert found.shown_from == pytest.approx((found.high - found.low) / 2)


@settings(max_examples=40, deadline=None)
@given(st.integers(3, 30), st.integers(3, 30), st.integers(0, 10**6))
def test_one_seed_a_side_without_shared_items_is_welchs_test(n: int, m: int, seed: int) -> None:
    generator = rng(seed, "welch")
    first, second = generator.normal(0, 1, (1, n)), generator.normal(0.5, 2, (1, m))
    found = crossed(group(first), group(second), paired=False)
    expected = stats.ttest_ind(first[0], second[0], equal_var=False).confidence_interval(0.95)
    assert [found.low, found.high] == pytest.approx([expected.low, expected.high])
    assert [found.pairs[0].low, found.pairs[0].high] == pytest.approx([expected.low, expected.high])
    assert found.n == min(n, m)


def test_seeds_items_are_weighted_by_seed_not_by_number() -> None:
    """A seed with many items counts as one with few: the mean over seeds of their means."""
    generator = rng(0, "sizes")
    rows = [generator.normal(mean, 1, n) for mean, n in ((0.0, 200), (3.0, 10))]
    first = [Measured(float(row.mean()), dict(zip(map(str, range(len(row))), row.tolist(), strict=True))) for row in rows]
    found = crossed(first, group(np.array([[0.0, 0.1, -0.1]])), paired=False)
    assert found.mean == pytest.approx((rows[0].mean() + rows[1].mean()) / 2)
    assert (found.low or 0) < (found.mean or 0) < (found.high or 0)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.booleans())
def test_turned_round_the_difference_turns_its_sign(seed: int, paired: bool) -> None:
    first, second = group(drawn(seed, 0.1)), group(drawn(seed + 1, 0.0))
    there, back = crossed(first, second, paired=paired, **FAST), crossed(second, first, paired=paired, **FAST)
    assert there.difference == pytest.approx(-back.difference)
    assert sorted(pair.difference for pair in there.pairs) == pytest.approx(sorted(-pair.difference for pair in back.pairs))
    assert there.low is not None
    assert back.high is not None
    assert there.low == pytest.approx(-back.high, abs=0.02)  # the bootstrap's draws are not mirrored
    assert not (there.answer == "yes" and back.answer == "yes")


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.permutations(range(3)), st.permutations(range(20)))
def test_the_order_of_seeds_and_items_changes_nothing(seed: int, seeds: list[int], items: list[int]) -> None:
    values, other = drawn(seed, 0.05), group(drawn(seed + 1, 0.0))
    names = [f"item {place}" for place in range(20)]
    shuffled = [Measured(float(values[row].mean()), {names[place]: float(values[row, place]) for place in items}) for row in seeds]
    ours, theirs = crossed(group(values), other, paired=True, **FAST), crossed(shuffled, other, paired=True, **FAST)
    assert (ours.answer, ours.n) == (theirs.answer, theirs.n)
    assert [ours.low, ours.high] == pytest.approx([theirs.low, theirs.high])


def answer(first: np.ndarray, second: np.ndarray, smallest: float | None = 0.05) -> Crossed:
    return crossed(group(first), group(second), paired=True, smallest=smallest, **FAST)


def test_yes_needs_every_pair_of_seeds_and_the_interval() -> None:
    assert answer(drawn(1, 0.4), drawn(2, 0.0)).answer == "yes"
    seeds_apart = np.array([[0.3], [0.3], [-0.2]]) + drawn(1, 0.0)  # two seeds are far ahead, the third is behind
    found = answer(seeds_apart, drawn(2, 0.0))
    assert found.low is not None
    assert found.low > 0
    assert (found.answer, found.n_ahead) == ("not shown", 6)
    few_items = np.array([[1.0, -0.4, 0.2, -0.3, 0.6], [1.1, -0.4, 0.2, -0.3, 0.6], [1.0, -0.3, 0.2, -0.2, 0.7]])
    found = answer(few_items, np.zeros((3, 5)))
    assert (found.answer, found.n_ahead) == ("not shown", 9)  # all pairs are ahead, and five items do not show it


def test_no_is_a_lead_that_is_too_small_to_matter_or_none() -> None:
    other, by_item = drawn(2, 0.0, between=0.001, within=0.004), 0.003 * (-1.0) ** np.arange(20)
    close, wide = (other.mean(axis=0) + by_item + np.array(seeds)[:, None] for seeds in ((0.002, -0.002, 0.001), (0.08, -0.08, 0.0)))
    assert answer(close, other).answer == "no"
    assert answer(close, other, smallest=None).answer == "not shown"
    assert answer(drawn(1, -0.3), other, smallest=None).answer == "no"
    assert answer(wide, other).answer == "not shown"  # one seed is ahead by more than the smallest difference


def test_groups_that_differ_by_chance_alone_are_rarely_told_apart() -> None:
    """All nine of one sign come up in one draw of ten (3! 3! / 6!, twice), and the interval takes most of these away."""
    answers = [answer(drawn(2 * seed, 0.0, within=0.02), drawn(2 * seed + 1, 0.0, within=0.02), None).answer for seed in range(300)]
    assert answers.count("yes") <= 0.05 * 300 + 8


def test_without_items_there_is_a_difference_and_no_answer() -> None:
    found = crossed([Measured(0.9, {})], [Measured(0.2, {}), Measured(0.3, {})], paired=True)
    assert (found.answer, found.low, found.n) == ("not tested", None, 0)
    assert found.difference == pytest.approx(0.65)
    assert "no value for single items" in found.reason
    assert [(pair.first, pair.second, pair.low) for pair in found.pairs] == [(0, 0, None), (0, 1, None)]
    assert crossed([Measured(0.9, {"a": 1.0})], [Measured(0.2, {"b": 1.0})], paired=True).reason == "the two share no item"
    assert "fewer than 3" in crossed([Measured(0.9, {"a": 1.0})], [Measured(0.2, {"b": 1.0})], paired=False).reason
    same = [Measured(0.5, dict.fromkeys("abcd", 0.5))]
    assert crossed(same, same, paired=False).answer == crossed(same, same, paired=True).answer == "not tested"


def test_items_that_not_all_seeds_have_are_left_out_and_counted() -> None:
    first, second = group(drawn(1, 0.3)), group(drawn(2, 0.0))
    first[1] = Measured(first[1].value, {name: value for name, value in first[1].items.items() if name != "item 3"})
    found = crossed(first, second, paired=True, item="data set", **FAST)
    assert found.n == 19
    assert "1 data sets left out" in found.warning


@pytest.mark.parametrize("wrong", [{"smallest": 0.0}, {"level": 1.0}, {"pair_level": 0.0}])
def test_what_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    one = [Measured(0.5, {})]
    with pytest.raises(ScoringError):
        crossed(one, one, paired=True, **wrong)
    with pytest.raises(ScoringError):
        crossed([], one, paired=True)
