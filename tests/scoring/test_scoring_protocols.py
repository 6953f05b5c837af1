"""Named protocols: against plain loops, what holds of aggregations, and bounds for unrated texts."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from harness.scoring import (
    NO_CHOICE,
    ScoringError,
    counted,
    cross_validate,
    cross_validation_folds,
    halves,
    harmonic_mean,
    no_choice,
    overall,
    rating_bounds,
    score_ratings,
)
from harness.types import Aggregation

AGGREGATIONS: tuple[Aggregation, ...] = ("mean-of-harmonic-means", "harmonic-mean-of-means")
RATINGS = st.sampled_from([0.0, 1.0, 2.0])


def ratings(least: int = 1, strengths: int = 4, unrated: bool = False) -> st.SearchStrategy[np.ndarray]:
    """``[strengths, instructions, 3]``; with ``unrated`` some texts have no rating."""

    @st.composite
    def draw(of: st.DrawFn) -> np.ndarray:
        shape = of(st.integers(1, strengths)), of(st.integers(max(2, least), 7))
        found = of(arrays(float, (*shape, 3), elements=RATINGS))
        if unrated:
            found[of(arrays(bool, shape))] = np.nan
        return found

    return draw()


def by_loop(found: np.ndarray, aggregation: Aggregation) -> tuple[float, int]:
    """AxBench's score and choice, written out: the first half chooses, the second reports."""
    half = found.shape[1] // 2

    def score(texts: list[list[float]]) -> float:
        texts = [text for text in texts if not any(map(math.isnan, text))]
        if not texts:
            return math.nan
        if aggregation == "mean-of-harmonic-means":
            return statistics.fmean(0 if min(text) == 0 else statistics.harmonic_mean(text) for text in texts)
        means = [statistics.fmean(column) for column in zip(*texts, strict=True)]
        return 0 if min(means) == 0 else statistics.harmonic_mean(means)

    chosen, best = NO_CHOICE, -1.0
    for strength in range(len(found)):
        value = score(found[strength, :half].tolist())
        if value > best + 1e-12:
            chosen, best = strength, value
    if len(found) == 1:
        return score(found[0, half:].tolist()), chosen
    return (math.nan if chosen == NO_CHOICE else score(found[chosen, half:].tolist())), chosen


@settings(max_examples=60, deadline=None)
@given(found=ratings(unrated=True), aggregation=st.sampled_from(AGGREGATIONS))
def test_axbench_is_the_loop(found: np.ndarray, aggregation: Aggregation) -> None:
    result = score_ratings(found, halves(found.shape[1]), aggregation)
    score, chosen = by_loop(found, aggregation)
    assert result.overall == pytest.approx(score, nan_ok=True)
    assert result.chosen_per_fold.tolist() == [[chosen]]
    assert result.chosen == (None if chosen == NO_CHOICE else chosen)


@settings(max_examples=60, deadline=None)
@given(found=ratings(least=3, unrated=True), seed=st.integers(0, 3))
def test_cv_of_harmonic_means_is_cross_validation_of_one_score(found: np.ndarray, seed: int) -> None:
    overall = harmonic_mean(found)
    one, bounds = cross_validate(overall, 3, 3, seed), rating_bounds(overall, 3, 3, seed)
    result = score_ratings(found, cross_validation_folds(found.shape[1], 3, 3, seed))
    np.testing.assert_equal([result.overall, result.low, result.high], [one.score, bounds.low, bounds.high])
    np.testing.assert_equal(result.aspects, [one.held_out(found[..., part]) for part in range(3)])
    assert (result.chosen, result.tied) == (one.chosen, one.tied)


@settings(max_examples=60, deadline=None)
@given(found=ratings(least=4))
def test_the_harmonic_mean_of_means_is_never_below_at_the_same_choices(found: np.ndarray) -> None:
    for folds in (halves(found.shape[1]), cross_validation_folds(found.shape[1], 2, 3)):
        of_texts, of_means = (score_ratings(found, folds, aggregation) for aggregation in AGGREGATIONS)
        assert of_means.overall == pytest.approx(float(harmonic_mean(of_means.aspects)))
        assert of_texts.overall <= float(harmonic_mean(of_texts.aspects)) + 1e-12
        if (of_texts.chosen_per_fold == of_means.chosen_per_fold).all():
            assert of_texts.overall <= of_means.overall + 1e-12


@settings(max_examples=60, deadline=None)
@given(found=ratings(least=4, unrated=True), aggregation=st.sampled_from(AGGREGATIONS), fill=st.randoms(use_true_random=False))
def test_no_rating_of_the_unrated_leaves_the_bounds(found: np.ndarray, aggregation: Aggregation, fill: object) -> None:
    missing = np.isnan(found)
    for folds in (halves(found.shape[1]), cross_validation_folds(found.shape[1], 2, 2)):
        result = score_ratings(found, folds, aggregation)
        filled = np.where(missing, [[[fill.choice((0.0, 1.0, 2.0)) for _ in row] for row in texts] for texts in found], found)  # type: ignore[attr-defined]
        full = score_ratings(filled, folds, aggregation)
        assert result.low - 1e-12 <= full.overall <= result.high + 1e-12
        assert math.isnan(result.overall) or result.low - 1e-12 <= result.overall <= result.high + 1e-12
        assert full.low == full.high == pytest.approx(full.overall)


def test_ties_go_to_the_smallest_strength_and_are_said_to_be_ties() -> None:
    found = score_ratings(np.ones((3, 4, 3)), halves(4))
    assert (found.chosen, found.tied, found.overall) == (0, True, 1.0)
    later = np.ones((3, 4, 3))
    later[2, 3] = 2  # reported on, and no part of the choice
    assert score_ratings(later, halves(4)).chosen_per_fold.tolist() == [[0]]
    assert score_ratings(later, cross_validation_folds(4, 1, 2)).tied is False


def test_of_an_odd_number_the_larger_half_reports() -> None:
    folds = halves(5)
    assert (folds.training.sum(), folds.evaluation.sum()) == (2, 3)
    assert folds.reporting.tolist() == [False, False, True, True, True]


def test_one_strength_is_reported_on_what_reports() -> None:
    found = np.array([[[2, 2, 2], [2, 2, 2], [1, 1, 1], [0, 1, 1]]], dtype=float)
    assert score_ratings(found, halves(4)).overall == 0.5
    assert score_ratings(found, cross_validation_folds(4)).overall == 1.25
    assert score_ratings(found, no_choice(4)).overall == 1.25
    alone = score_ratings(found[:, :1], no_choice(1))
    assert (alone.overall, alone.low, alone.high, alone.tied) == (2.0, 2.0, 2.0, False)


@pytest.mark.parametrize(
    ("found", "field"),
    [
        (np.zeros((2, 4)), "dimensions"),
        (np.zeros((0, 4, 3)), "strength"),
        (np.zeros((2, 5, 3)), "instructions"),
        (np.zeros((2, 4, 2)), "three ratings"),
        (np.full((2, 4, 3), 3.0), "0 to 2"),
    ],
)
def test_what_cannot_be_scored_is_refused(found: np.ndarray, field: str) -> None:
    with pytest.raises(ScoringError) as error:
        score_ratings(found, halves(4))
    assert field in str(error.value.allowed)


def test_an_unknown_aggregation_is_refused() -> None:
    with pytest.raises(ScoringError) as error:
        score_ratings(np.ones((1, 4, 3)), halves(4), "mean")  # type: ignore[arg-type]
    assert (error.value.given, error.value.allowed) == ("mean", AGGREGATIONS)


def test_too_few_instructions_are_refused() -> None:
    for make in (lambda: halves(1), lambda: cross_validation_folds(3, 10, 4)):
        with pytest.raises(ScoringError) as error:
            make()
        assert error.value.given in (1, 3)


# -------------------------------------------------------------------------------------------------------------------- suppression

PARTIAL = st.floats(0, 2, allow_nan=False)


@given(found=arrays(float, st.tuples(st.integers(1, 4), st.integers(1, 3), st.just(3)), elements=st.one_of(PARTIAL, st.just(math.nan))))
def test_only_the_concept_is_turned_and_turning_twice_changes_nothing(found: np.ndarray) -> None:
    turned = counted(found, "suppress")
    np.testing.assert_array_equal(turned[..., 1:], found[..., 1:])
    np.testing.assert_allclose(turned[..., 0], 2 - found[..., 0])
    np.testing.assert_allclose(counted(turned, "suppress"), found, atol=1e-15)
    np.testing.assert_array_equal(counted(found, "express"), found)
    np.testing.assert_allclose(overall(found, "suppress"), harmonic_mean(turned))
    np.testing.assert_array_equal(overall(found), harmonic_mean(found))
    np.testing.assert_array_equal(counted(np.moveaxis(found, -1, 0), "suppress", axis=0), np.moveaxis(turned, -1, 0))
    np.testing.assert_array_equal(counted(found[0, 0], "suppress"), turned[0, 0])  # a single text


@settings(max_examples=60, deadline=None)
@given(found=ratings(unrated=True), aggregation=st.sampled_from(AGGREGATIONS), axbench=st.booleans())
def test_suppression_is_the_score_of_turned_ratings(found: np.ndarray, aggregation: Aggregation, axbench: bool) -> None:
    folds = halves(found.shape[1]) if axbench else cross_validation_folds(found.shape[1], 2, 2)
    mine = score_ratings(found, folds, aggregation, "suppress")
    turned = found.copy()
    turned[..., 0] = 2 - turned[..., 0]
    theirs = score_ratings(turned, folds, aggregation)
    assert mine.overall == pytest.approx(theirs.overall, nan_ok=True)
    assert (mine.low, mine.high) == pytest.approx((theirs.low, theirs.high), nan_ok=True)
    np.testing.assert_array_equal(mine.chosen_per_fold, theirs.chosen_per_fold)
    assert (mine.chosen, mine.tied, mine.goal) == (theirs.chosen, theirs.tied, "suppress")
    assert mine.aspects[0] == pytest.approx(2 - theirs.aspects[0], nan_ok=True)  # as it was rated
    assert mine.aspects[1:] == pytest.approx(theirs.aspects[1:], nan_ok=True)


@settings(max_examples=60, deadline=None)
@given(found=ratings(strengths=1))
def test_a_text_without_the_concept_is_worth_what_one_full_of_it_is_when_expressed(found: np.ndarray) -> None:
    folds = no_choice(found.shape[1])
    without, full = found.copy(), found.copy()
    without[..., 0], full[..., 0] = 0, 2
    assert score_ratings(without, folds, goal="suppress").overall == pytest.approx(score_ratings(full, folds).overall)
    assert score_ratings(full, folds, goal="suppress").overall == 0  # the concept is all there


def test_an_unknown_goal_is_refused() -> None:
    with pytest.raises(ScoringError) as error:
        score_ratings(np.zeros((1, 2, 3)), no_choice(2), goal="forget")  # type: ignore[arg-type]
    assert error.value.given == "forget"
    for ratings_of_two in (np.zeros((2, 2)), 1.0):
        with pytest.raises(ScoringError):
            counted(ratings_of_two, "express")
