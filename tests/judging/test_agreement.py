"""Agreement: figures against other implementations, what is left out, and where a figure is not defined."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn.metrics import cohen_kappa_score

from harness.errors import JudgeError
from harness.judging.agreement import OVERALL, agree, compare
from harness.scoring import ScoringError
from harness.types import Rating, rng

PAIRS = st.lists(st.tuples(st.sampled_from([0, 1, 2]), st.sampled_from([0, 1, 2])), min_size=2, max_size=40)


def rated(name: str, *grades: float) -> Rating:
    concept, instruction, fluency = grades
    return Rating(name, "rated", concept, instruction, fluency)


@settings(max_examples=80, deadline=None)
@given(PAIRS)
def test_figures_are_those_of_other_implementations(pairs: list[tuple[int, int]]) -> None:
    a, b = np.array(pairs, dtype=float).T
    found = agree(a, b, resamples=20)
    assert found.exact.value == pytest.approx(np.mean(a == b))
    assert found.bias.value == pytest.approx(b.mean() - a.mean())
    if len(set(a) | set(b)) == 1:
        assert found.kappa.value is None
    else:
        assert found.kappa.value == pytest.approx(
            cohen_kappa_score(a.astype(int), b.astype(int), weights="quadratic", labels=[0, 1, 2]), abs=1e-12
        )
    if len(set(a)) == 1 or len(set(b)) == 1:
        assert found.spearman.value is None
    else:
        assert found.spearman.value == pytest.approx(spearmanr(a, b).statistic)


@given(PAIRS)
@settings(max_examples=30, deadline=None)
def test_the_judges_may_change_places(pairs: list[tuple[int, int]]) -> None:
    a, b = np.array(pairs, dtype=float).T
    there, back = agree(a, b, resamples=1), agree(b, a, resamples=1)
    assert there.kappa.value == pytest.approx(back.kappa.value) if there.kappa.value is not None else back.kappa.value is None
    assert there.bias.value == pytest.approx(-back.bias.value)


def test_pairs_with_a_missing_rating_are_left_out_and_counted() -> None:
    a, b = [0, 1, 2, math.nan, 1, math.nan], [0, 1, 1, 2, math.nan, math.nan]
    found = agree(a, b, resamples=200)
    assert (found.n, found.n_missing) == (3, 3)
    assert found.exact == agree(a[:3], b[:3], resamples=200).exact


def test_the_interval_is_a_bootstrap_over_the_texts() -> None:
    draw = rng(1, "agreement test")
    a = draw.integers(0, 3, 300).astype(float)
    b = np.where(draw.random(300) < 0.7, a, draw.integers(0, 3, 300))
    found = agree(a, b, seed=3)
    assert found == agree(a, b, seed=3)
    assert found.exact.low is not None
    assert found.exact.high is not None
    p = float(np.mean(a == b))
    half = 1.96 * math.sqrt(p * (1 - p) / 300)
    assert found.exact.low == pytest.approx(p - half, abs=0.012)
    assert found.exact.high == pytest.approx(p + half, abs=0.012)
    for figure in (found.kappa, found.spearman, found.bias):
        assert figure.low < figure.value < figure.high
    narrow = agree(a, b, seed=3, level=0.5)
    assert narrow.kappa.high - narrow.kappa.low < found.kappa.high - found.kappa.low


def test_what_is_not_defined_is_none() -> None:
    nothing = agree([math.nan], [1.0])
    assert (nothing.n, nothing.n_missing, nothing.exact.value, nothing.kappa.value) == (0, 1, None, None)
    one = agree([1.0], [2.0])
    assert (one.exact.value, one.exact.low, one.bias.value) == (0, None, 1)
    same = agree([1.0] * 10, [1.0] * 10)
    assert (same.exact.value, same.kappa.value, same.spearman.value, same.bias.value) == (1, None, None, 0)
    constant = agree([0.0] * 10, [2.0] * 10)
    assert (constant.kappa.value, constant.spearman.value, constant.bias.value) == (0, None, 2)
    nearly = agree([1.0] * 9 + [2.0], [1.0] * 9 + [2.0])
    assert nearly.kappa.value == pytest.approx(1)
    assert nearly.kappa.low is None, "a third of the resamples has no spread"


def test_lists_that_cannot_be_paired_are_refused() -> None:
    for first, second, wrong, instead in (
        ([1.0], [1.0, 2.0], (1, 2), "pair them first"),
        ([[1.0]], [[1.0]], (1, 1), "list of finite ratings"),
        ([math.inf], [1.0], math.inf, "list of finite ratings"),
    ):
        with pytest.raises(ScoringError) as error:
            agree(first, second)
        assert error.value.given == wrong
        assert "first" in error.value.message
        assert instead in str(error.value).removeprefix(error.value.message)
    with pytest.raises(ScoringError) as error:
        agree([1.0], [1.0], level=1.0, resamples=7)
    assert error.value.given == (1.0, 7)
    assert "level" in str(error.value.allowed)


def test_judges_are_compared_pair_by_pair_and_text_by_text() -> None:
    judges = {
        "a": [rated("1", 2, 2, 2), rated("2", 0, 1, 2), rated("3", 1, 1, 1), Rating("4", "unrated", reason="refused")],
        "b": [rated("2", 2, 1, 0), rated("1", 2, 2, 2), rated("3", 1, 2, 1), rated("4", 1, 1, 1)],
        "c": [rated("1", 0, 0, 0), Rating("2", "pending", ticket="t")],
    }
    found = compare(judges, resamples=50)
    assert [(pair.first, pair.second) for pair in found] == [("a", "b"), ("a", "c"), ("b", "c")]
    ab = found[0]
    assert set(ab.aspects) == {"concept", "instruction", "fluency", OVERALL}
    assert ab.aspects["concept"].n == 3
    assert ab.aspects["concept"].n_missing == 1
    assert ab.aspects["concept"].exact.value == pytest.approx(2 / 3)
    assert ab.aspects["concept"].bias.value == pytest.approx(2 / 3)
    assert ab.aspects[OVERALL].n == 3
    assert [(d.item_id, d.distance, d.first, d.second) for d in ab.disagreements] == [
        ("2", 4, (0, 1, 2), (2, 1, 0)),
        ("3", 1, (1, 1, 1), (1, 2, 1)),
    ]
    assert [d.item_id for d in compare(judges, resamples=1, top=1)[0].disagreements] == ["2"]
    assert found[1].aspects["fluency"].n == 1


def test_comparisons_that_make_no_sense_are_refused() -> None:
    with pytest.raises(JudgeError) as error:
        compare({"a": [rated("1", 1, 1, 1)]})
    assert error.value.given == ("a",)
    assert "another judge" in error.value.hint
    with pytest.raises(JudgeError) as error:
        compare({"a": [rated("1", 1, 1, 1)] * 2, "b": []})
    assert error.value.given == "1"
    assert error.value.message.startswith("a ")
    assert "leave one of the ratings out" in error.value.hint
    with pytest.raises(JudgeError) as error:
        compare({"a": [rated("1", 1, 1, 1)], "b": [rated("2", 1, 1, 1)]})
    assert error.value.given == ("a", "b")
    assert "same texts" in error.value.hint


def test_intervals_over_groups_cover_an_effect_of_the_group() -> None:
    """A judge that is off on whole concepts: texts resampled alone claim far too much, concepts do not."""
    covered = dict.fromkeys(("texts", "concepts"), 0)
    for draw in range(60):
        generator = rng(draw, "agreement test")
        first = generator.integers(0, 3, size=200).astype(float)
        second = first + np.repeat(generator.normal(0, 0.5, size=20), 10)
        groups = [f"concept {n // 10}" for n in range(200)]
        for name, given_groups in (("texts", None), ("concepts", groups)):
            bias = agree(first, second, groups=given_groups, resamples=300, seed=draw).bias
            covered[name] += bias.low <= 0 <= bias.high
    assert covered["texts"] < 40
    assert covered["concepts"] >= 50


def test_one_group_has_no_interval_and_each_text_for_itself_is_the_default() -> None:
    a, b = [0, 1, 2, 1, 0], [0, 1, 1, 1, 2]
    alone = agree(a, b, groups=["one"] * 5)
    assert (alone.n_groups, alone.exact.value, alone.exact.low) == (1, 0.6, None)
    assert agree(a, b, groups=list("abcde")) == agree(a, b)
    with pytest.raises(ScoringError) as error:
        agree(a, b, groups=["x", "y"])
    assert error.value.given == (5, 5, 2)
    assert "pair" in error.value.hint


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([0, 0.5, 1, 2]), st.sampled_from([0, 1, 1.5, 2]), st.integers(0, 3)), min_size=1, max_size=25))
def test_weights_stand_for_copies(rows: list[tuple[float, float, int]]) -> None:
    """The figures of a resample are those of the texts written down as often as they were drawn."""
    from harness.judging.agreement import _Pair

    a, b, weights = np.array(rows, dtype=float).T
    if not weights.sum():
        return
    times = weights.astype(int)
    weighted = _Pair(a, b).figures(weights[None])[:, 0]
    copied = agree(np.repeat(a, times), np.repeat(b, times), resamples=1)
    expected = [np.nan if figure.value is None else figure.value for figure in (copied.exact, copied.kappa, copied.spearman, copied.bias)]
    np.testing.assert_allclose(weighted, expected, atol=1e-9)


def test_ratings_with_parts_missing_count_where_they_are() -> None:
    from harness.judging.texts import GivenRating

    people = [GivenRating("a", 2, None, 1), GivenRating("b", 0, None, None)]
    (pair,) = compare({"people": people, "judge": [rated("a", 2, 1, 2), rated("b", 1, 1, 1)]}, resamples=10)
    assert [(part.n, part.n_missing) for part in pair.aspects.values()] == [(2, 0), (0, 2), (1, 1), (0, 2)]
    assert pair.disagreements[0].first == (2.0, None, 1.0)
