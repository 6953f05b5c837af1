"""All pairs at once: against scipy's permutation test, the definition pattern by pattern, and the rules that must hold for any scores."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from harness.scoring import ScoringError
from harness.scoring.simultaneous import MIN_CLUSTERS, Pair, compare_all, compare_pairs


def scores(seed: int, n_methods: int, n: int, shift: float = 0.0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return np.where(generator.random((n_methods, n)) < 0.4, 0.0, 2 * generator.beta(1.6, 6.4, (n_methods, n))) + shift * np.arange(n_methods)[:, None]


def t_of(differences: np.ndarray, axis: int = -1) -> np.ndarray:
    return np.abs(differences.mean(axis=axis) / (differences.std(axis=axis, ddof=1) / np.sqrt(differences.shape[axis])))


def test_one_pair_has_the_p_value_of_scipys_permutation_test():
    table = scores(1, 2, 12, 0.1)
    (pair,) = compare_all(table).pairs
    differences = table[0] - table[1]
    expected = stats.permutation_test((differences,), t_of, permutation_type="samples", alternative="greater", n_resamples=np.inf)
    assert pair.p_value == pytest.approx(expected.pvalue)
    assert pair.difference == pytest.approx(differences.mean())


def stepped_down(table: np.ndarray) -> tuple[float, dict[tuple[int, int], float]]:
    """The definition, one sign pattern after the other: Romano and Wolf's algorithm, and the single-step quantile."""
    pairs = list(combinations(range(len(table)), 2))
    differences = np.array([table[i] - table[j] for i, j in pairs])
    observed = t_of(differences)
    drawn = np.array([t_of(differences * np.array(signs)) for signs in product((1.0, -1.0), repeat=table.shape[1])])
    p, so_far, left = {}, 0.0, list(np.argsort(-observed))
    while left:
        place = left[0]
        so_far = max(so_far, float((drawn[:, left].max(axis=1) >= observed[place] * (1 - 1e-9)).mean()))
        p[pairs[place]] = so_far
        left = left[1:]
    return float(np.sort(drawn.max(axis=1))[::-1][int(0.05 * len(drawn))]), p


def test_several_pairs_are_stepped_down_by_the_definition():
    table = scores(2, 4, MIN_CLUSTERS, 0.12)
    found = compare_all(table)
    critical, p = stepped_down(table)
    assert found.exact
    assert found.critical == pytest.approx(critical)
    assert {(pair.first, pair.second): pytest.approx(pair.p_value) for pair in found.pairs} == p


def test_clusters_turn_their_signs_together():
    table = scores(3, 2, 15, 0.1)
    doubled = np.repeat(table, 2, axis=1)
    (alone,), (together,) = compare_all(table).pairs, compare_all(doubled, np.repeat(np.arange(15), 2)).pairs
    assert (together.p_value, together.effective_clusters) == (alone.p_value, alone.effective_clusters)
    assert together.low == pytest.approx(alone.low)


def test_below_twelve_effective_clusters_nothing_is_tested():
    (pair,) = compare_all(scores(4, 2, 11)).pairs
    assert (pair.low, pair.p_value, pair.apart, pair.tested) == (None, None, False, False)
    assert str(MIN_CLUSTERS) in pair.reason
    (linked,) = compare_all(scores(4, 2, 24), np.repeat(np.arange(6), 4)).pairs
    assert linked.effective_clusters == pytest.approx(6)
    assert not linked.tested


def test_a_pair_rests_on_the_items_that_both_have():
    table = scores(5, 3, 30)
    table[0, :6], table[1, -6:] = np.nan, np.nan
    found = compare_all(table)
    assert [pair.n for pair in found.pairs] == [18, 24, 24]
    assert found.between(0, 1).difference == pytest.approx((table[0] - table[1])[6:24].mean())


def test_methods_with_the_same_scores_are_not_tested_and_not_apart():
    table = np.vstack([scores(6, 1, 20), scores(6, 1, 20), scores(7, 1, 20) + 3])
    found = compare_all(table)
    assert not found.between(0, 1).tested
    assert found.ranks() == ((2, 3), (2, 3), (1, 1))
    assert found.groups() == ((0, 1), (2,))


def test_a_constant_difference_is_told_apart():
    table = np.vstack([np.full(14, 0.5), np.zeros(14)])
    (pair,) = compare_all(table).pairs
    assert pair.apart
    assert pair.p_value == pytest.approx(1 / 2**13)


def test_a_method_far_ahead_and_one_at_zero_cost_the_rest_nothing():
    rest = scores(8, 3, 24, 0.12)
    alone = compare_all(rest)
    beside = compare_all(np.vstack([rest, np.full(24, 1.9) - scores(9, 1, 24) * 0.1, np.zeros(24)]))
    for pair in alone.pairs:
        assert beside.between(pair.first, pair.second).p_value == pytest.approx(pair.p_value, abs=0.02)


def test_unlike_shapes_are_warned_of_only_where_concepts_are_few():
    generator = np.random.default_rng(10)

    def pair(n: int) -> Pair:
        return compare_all(np.vstack([0.2 + 0.01 * generator.standard_normal(n), np.where(np.arange(n) == 0, 0.3, 0.0)])).pairs[0]

    assert pair(16).apart
    assert "skewed" in pair(16).warning
    assert pair(80).apart
    assert pair(80).warning == ""


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 5), st.integers(12, 40), st.floats(0, 0.4))
def test_intervals_verdicts_ranks_and_groups_never_contradict_each_other(seed, n_methods, n, shift):
    table = scores(seed, n_methods, n, shift)
    table[np.random.default_rng(seed).random(table.shape) < 0.05] = np.nan
    found = compare_all(table, resamples=499, bounds=(0, 4))
    ranks, groups = found.ranks(), found.groups()
    for pair in found.pairs:
        together = any(pair.first in group and pair.second in group for group in groups)
        assert together != pair.apart
        if pair.tested:
            assert pair.apart == (pair.p_value <= 0.05 + 1e-12)
            assert pair.apart == (pair.low >= 0 or pair.high <= 0) or 0 in (pair.low, pair.high)
            assert pair.low <= pair.difference <= pair.high
            assert -4 <= pair.low <= pair.high <= 4
            assert pair.apart or pair.low <= 0 <= pair.high
        if pair.apart:
            winner, loser = (pair.first, pair.second) if pair.difference > 0 else (pair.second, pair.first)
            assert ranks[winner][0] < ranks[loser][1]
    assert all(1 <= best <= worst <= n_methods for best, worst in ranks)
    assert {method for group in groups for method in group} == set(range(n_methods))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.permutations(range(4)))
def test_the_order_of_methods_changes_nothing(seed, order):
    table = scores(seed, 4, 20, 0.1)
    found, again = compare_all(table, resamples=199), compare_all(table[list(order)], resamples=199)
    assert again.critical == pytest.approx(found.critical)
    for i, j in combinations(range(4), 2):
        own, other = found.between(order[i], order[j]), again.between(i, j)
        assert (other.p_value, other.apart) == (own.p_value, own.apart)
        assert (other.low, other.high) == pytest.approx((own.low, own.high))


def test_only_the_pairs_asked_for_are_corrected_for():
    table = scores(11, 6, 24, 0.05)
    one, all_of_them = compare_pairs(table, [(0, 5)]), compare_all(table)
    assert one.pairs[0].half_width < all_of_them.between(0, 5).half_width
    with pytest.raises(ScoringError):
        one.groups()


@pytest.mark.parametrize("pairs", [[(0, 0)], [(0, 2)], [(-1, 0)], [(0, 1), (1, 0)]])
def test_pairs_that_cannot_be(pairs):
    with pytest.raises(ScoringError) as error:
        compare_pairs(scores(0, 2, 20), pairs)
    assert error.value.given in [tuple(pair) for pair in pairs]
