"""Cross-validation over strengths against a loop, and in the corners where ratings are missing."""

from __future__ import annotations

import itertools
import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from harness.errors import HarnessError
from harness.scoring import NO_CHOICE, ScoringError, cross_validate, rating_bounds, score_at
from harness.types import rng

nan = math.nan
RATINGS = st.sampled_from([0.0, 0.0, 1.0, 1.2, 1.5, 2.0, nan])


@st.composite
def grids(draw: st.DrawFn, elements: st.SearchStrategy[float] = RATINGS) -> np.ndarray:
    shape = draw(st.tuples(st.integers(1, 6), st.integers(4, 13)))
    return draw(hnp.arrays(float, shape, elements=elements))


def mean(values: list[float]) -> float:
    rated = [value for value in values if not math.isnan(value)]
    return math.fsum(rated) / len(rated) if rated else nan


def choose(scores: list[list[float]], instructions: list[int]) -> int:
    """The strength with the largest mean; the first that comes within 1e-12 of it; NO_CHOICE if nothing is rated."""
    means = [mean([row[i] for i in instructions]) for row in scores]
    rated = [value for value in means if not math.isnan(value)]
    if not rated:
        return NO_CHOICE
    return next(s for s, value in enumerate(means) if value >= max(rated) - 1e-12)


def parts_of(n: int, splits: int, order: list[int]) -> list[list[int]]:
    """Consecutive parts of ``order``, the longer ones first."""
    sizes = [n // splits + (part < n % splits) for part in range(splits)]
    ends = [0, *itertools.accumulate(sizes)]
    return [order[low:high] for low, high in itertools.pairwise(ends)]


def by_loop(scores: np.ndarray, repeats: int, splits: int, seed: int) -> tuple[list[float], list[int]]:
    """Score and choice of each fold, one at a time."""
    rows, n = scores.tolist(), scores.shape[1]
    fold_scores, chosen = [], []
    for repeat in range(repeats):
        order = rng(seed, "cross-validation folds", str(repeat)).permutation(n).tolist()
        for part in parts_of(n, splits, order):
            strength = choose(rows, [i for i in range(n) if i not in part])
            chosen.append(strength)
            fold_scores.append(nan if strength == NO_CHOICE else mean([rows[strength][i] for i in part]))
    return fold_scores, chosen


@given(grids(), st.integers(1, 4), st.integers(2, 4), st.integers(0, 3))
@settings(max_examples=200, deadline=None)
def test_it_is_the_loop(scores: np.ndarray, repeats: int, splits: int, seed: int) -> None:
    result = cross_validate(scores, repeats=repeats, splits=splits, seed=seed)
    fold_scores, chosen = by_loop(scores, repeats, splits, seed)
    assert result.fold_scores.shape == result.chosen_per_fold.shape == (repeats, splits)
    assert result.chosen_per_fold.ravel().tolist() == chosen
    np.testing.assert_allclose(result.fold_scores.ravel(), fold_scores, atol=1e-12)
    expected = mean(scores[0].tolist() if len(scores) == 1 else fold_scores)
    assert result.score == pytest.approx(expected, abs=1e-12, nan_ok=True)
    everything = choose(scores.tolist(), list(range(scores.shape[1])))
    assert result.chosen == (None if everything == NO_CHOICE else everything)
    assert result.n_undefined == sum(map(math.isnan, fold_scores))
    assert result.n_unrated == np.isnan(scores).sum()


def test_defaults_are_ten_repeats_of_four_splits() -> None:
    scores = np.random.default_rng(0).integers(0, 3, (5, 20))
    result = cross_validate(scores)
    assert result.fold_scores.shape == (10, 4)
    assert result.score == pytest.approx(result.fold_scores.mean())
    again = cross_validate(scores, 10, 4, 0)
    assert again.score == result.score
    assert (again.chosen_per_fold == result.chosen_per_fold).all()
    assert cross_validate(scores, seed=1).score != result.score


def test_each_repeat_evaluates_each_instruction_once() -> None:
    """Where one strength is always chosen, a repeat's parts together are all instructions."""
    best = np.arange(20) * 0.05
    result = cross_validate(np.stack([np.zeros(20), best + 1]))
    assert (result.chosen_per_fold == 1).all()
    np.testing.assert_allclose(result.fold_scores.mean(axis=1), (best + 1).mean())
    assert len(np.unique(result.fold_scores.round(9))) > 4  # and the repeats cut them differently


def test_noise_is_not_reported_as_skill() -> None:
    """Of 15 useless strengths one looks good on all instructions; cross-validation reports what strengths are worth, on average."""
    generator = np.random.default_rng(0)
    scores = generator.integers(0, 3, (400, 15, 20)).astype(float)
    optimistic = scores.mean(axis=2).max(axis=1).mean()
    held_out = np.array([cross_validate(grid).score for grid in scores])
    assert optimistic > 1.25
    assert abs(held_out.mean() - 1) < 4 * held_out.std() / np.sqrt(len(held_out))


def test_resampled_instructions_inflate_the_score() -> None:
    """Why instructions are never resampled before the folds are drawn: a copy in the training part chooses what the other copy reports."""
    generator = np.random.default_rng(1)
    scores = generator.integers(0, 3, (200, 15, 20)).astype(float)
    honest = np.mean([cross_validate(grid).score for grid in scores])
    copied = np.mean([cross_validate(grid[:, generator.integers(0, 20, 20)]).score for grid in scores])
    assert copied > honest + 0.1


@pytest.mark.parametrize("seed", range(5))
def test_equal_means_go_to_the_smaller_strength_whatever_the_order_of_summation(seed: int) -> None:
    generator = np.random.default_rng(seed)
    ratings = generator.choice([0.1, 0.2, 0.3, 0.7, 1.1], size=20)
    # In every training part all rows have the same ratings or the same mean, up to the order in which they are summed.
    constant = np.full(20, 0.1 + 0.2)
    assert (cross_validate(np.stack([np.full(20, 0.3), constant, np.full(20, 0.3)]), seed=seed).chosen_per_fold == 0).all()
    shuffled = np.stack([generator.permutation(ratings) for _ in range(6)])
    assert cross_validate(shuffled, seed=seed).chosen == 0
    assert (cross_validate(np.stack([ratings] * 15), seed=seed).chosen_per_fold == 0).all()


def test_a_difference_above_the_tolerance_is_no_tie() -> None:
    assert cross_validate(np.stack([np.ones(8), np.full(8, 1 + 1e-9)])).chosen == 1


def test_one_strength_is_the_plain_mean() -> None:
    """Prompting has nothing to choose: also with unequal parts and unrated texts, where the mean of part means differs a little."""
    ratings = np.array([[2, 1, nan, 0, 1, 2, 0, nan, 1, 1, 2.0]])
    result = cross_validate(ratings)
    assert result.score == np.nanmean(ratings)
    assert result.chosen == 0
    assert (result.chosen_per_fold == 0).all()
    assert result.score != np.nanmean(result.fold_scores)


def test_all_unrated_is_no_number() -> None:
    result = cross_validate(np.full((3, 8), nan))
    assert math.isnan(result.score)
    assert np.isnan(result.fold_scores).all()
    assert (result.chosen_per_fold == NO_CHOICE).all()
    assert result.chosen is None
    assert (result.n_unrated, result.n_undefined) == (24, 40)


def test_a_strength_without_ratings_is_never_chosen() -> None:
    result = cross_validate([[nan] * 8, [0.0] * 8, [nan] * 8])
    assert (result.chosen_per_fold == 1).all()
    assert result.score == 0


def test_an_evaluation_part_without_ratings_is_left_out_and_counted() -> None:
    """The better strength is rated on one instruction only. Where that is evaluated the other is chosen; elsewhere nothing is reported."""
    scores = np.full((2, 8), 0.5)
    scores[1] = [2.0] + [nan] * 7
    result = cross_validate(scores, repeats=5, splits=4)
    assert sorted(set(result.chosen_per_fold.ravel().tolist())) == [0, 1]
    assert np.isnan(result.fold_scores[result.chosen_per_fold == 1]).all()
    assert (result.fold_scores[result.chosen_per_fold == 0] == 0.5).all()
    assert result.n_undefined == 15
    assert result.score == 0.5
    assert result.chosen == 1


def test_the_only_rating_cannot_be_chosen_from_itself() -> None:
    scores = np.full((2, 4), nan)
    scores[1, 2] = 1.5
    result = cross_validate(scores, repeats=3)
    assert ((result.chosen_per_fold == NO_CHOICE).sum(axis=1) == 1).all()
    assert math.isnan(result.score)
    assert result.chosen == 1


@pytest.mark.parametrize(
    ("scores", "tied"),
    [
        ([[0, 0, 0, 0], [0, 0, 0, 0]], True),
        ([[0, 1, 1, 0], [1, 0, 0, 1]], True),  # the texts differ, the means do not
        ([[0.1 + 0.2, 0.3, 0.3, 0.3], [0.3, 0.3, 0.3, 0.1 + 0.2]], True),
        ([[0, 0, 0, 0], [0, 0, 0, 1e-9]], False),
        ([[1, 1, 1, 1], [np.nan] * 4], False),  # of a strength without ratings nothing is known
        ([[1, 1, 1, 1]], False),  # one strength is no choice
    ],
)
def test_equal_means_at_all_strengths_are_a_tie(scores: list[list[float]], tied: bool) -> None:
    assert cross_validate(scores, 2, 2).tied is tied


def test_other_ratings_at_choices_that_were_made_elsewhere() -> None:
    generator = np.random.default_rng(0)
    scores, others = generator.random((3, 8)), generator.random((3, 8))
    found = cross_validate(scores, 5, 4, 2)
    assert score_at(scores, found.chosen_per_fold, found.folds) == pytest.approx(found.score)
    assert score_at(others, found.chosen_per_fold, found.folds) == found.held_out(others)
    assert score_at(others, np.full((5, 4), 1), found.folds) == pytest.approx(others[1].mean())  # each instruction is reported on equally often
    assert np.isnan(score_at(others, np.full((5, 4), NO_CHOICE), found.folds))
    for chosen in (np.full((5, 4), 3), np.full(20, 1), np.full((5, 4), -2)):
        with pytest.raises(ScoringError) as error:
            score_at(others, chosen, found.folds)
        assert error.value.given == chosen.tolist()


def test_folds_depend_on_the_seed_and_the_number_of_instructions_only() -> None:
    """Two methods on the same instructions share their folds, so their scores are paired."""
    instructions = np.arange(8.0)
    one = cross_validate([instructions], repeats=2)
    other = cross_validate(np.stack([instructions - 9, instructions, instructions - 20]) + 100, repeats=2)
    np.testing.assert_allclose(other.fold_scores - 100, one.fold_scores)


def test_held_out_reports_another_rating_at_the_same_choices() -> None:
    generator = np.random.default_rng(3)
    overall, concept = generator.integers(0, 3, (2, 6, 20)).astype(float)
    result = cross_validate(overall)
    assert result.held_out(overall) == pytest.approx(result.score)
    expected = []
    for repeat, choices in enumerate(result.chosen_per_fold.tolist()):
        order = rng(0, "cross-validation folds", str(repeat)).permutation(20).tolist()
        expected += [concept[strength, part].mean() for strength, part in zip(choices, parts_of(20, 4, order), strict=True)]
    assert result.held_out(concept) == pytest.approx(np.mean(expected))
    assert cross_validate(overall[:1]).held_out(concept[:1]) == pytest.approx(concept[0].mean())
    with pytest.raises(ScoringError) as error:
        result.held_out(concept[:5])
    assert error.value.given == (5, 20)
    assert "(6, 20)" in str(error.value.allowed)
    assert error.value.hint


@pytest.mark.parametrize(
    ("scores", "options", "refused", "name", "allowed"),
    [
        (np.ones((2, 3)), {}, 3, "instructions", "at least 4"),
        (np.ones((2, 0)), {}, 0, "instructions", "at least 4"),
        (np.ones((0, 8)), {}, (0, 8), "scores", "at least one strength"),
        (np.ones(8), {}, (8,), "scores", "2 dimensions"),
        (np.full((2, 8), np.inf), {}, np.inf, "scores", "finite"),
        ([[1, 2, 3, 4], [1, 2]], {}, [[1, 2, 3, 4], [1, 2]], "scores", "rectangular"),
        (np.ones((2, 8)), {"splits": 1}, 1, "splits", "at least 2"),
        (np.ones((2, 8)), {"repeats": 0}, 0, "repeats", "at least 1"),
        (np.ones((2, 8)), {"repeats": 2.5}, 2.5, "repeats", "whole number"),
    ],
)
def test_bad_input_is_one_clear_error(scores: object, options: dict[str, int], refused: object, name: str, allowed: str) -> None:
    for function in (cross_validate, rating_bounds):
        with pytest.raises(ValueError, match=name) as caught:
            function(scores, **options)
        error = caught.value
        assert isinstance(error, HarnessError)
        assert error.given == refused
        assert allowed in str(error.allowed)
        assert "\n" not in str(error)


def test_the_input_is_not_touched_and_the_answer_cannot_be() -> None:
    scores = np.random.default_rng(0).random((3, 8))
    before = scores.copy()
    result = cross_validate(scores)
    assert (scores == before).all()
    with pytest.raises(ValueError, match="read-only"):
        result.fold_scores[0, 0] = 1
    with pytest.raises(AttributeError):
        result.score = 2.0  # type: ignore[misc]


def test_hundreds_of_labelings_take_no_time() -> None:
    scores = np.random.default_rng(0).random((300, 15, 20))
    started = time.process_time()
    for grid in scores:
        cross_validate(grid)
    assert time.process_time() - started < 3  # 0.03 s when measured, however busy the machine is


# -------------------------------------------------------------------------------------------------------------- rating bounds


@given(grids(), st.integers(0, 3), st.data())
@settings(max_examples=200, deadline=None)
def test_bounds_hold_whatever_the_unrated_texts_were_rated(scores: np.ndarray, seed: int, data: st.DataObject) -> None:
    bounds = rating_bounds(scores, repeats=2, seed=seed)
    fills = data.draw(hnp.arrays(float, scores.shape, elements=st.sampled_from([0.0, 0.5, 1.0, 2.0])))
    filled = cross_validate(np.where(np.isnan(scores), fills, scores), repeats=2, seed=seed).score
    reported = cross_validate(scores, repeats=2, seed=seed).score
    for value in (filled, bounds.at_lowest, bounds.at_highest, *([] if math.isnan(reported) else [reported])):
        assert bounds.low - 1e-9 <= value <= bounds.high + 1e-9
    assert bounds.at_lowest == cross_validate(np.nan_to_num(scores, nan=0.0), repeats=2, seed=seed).score
    assert bounds.at_highest == cross_validate(np.nan_to_num(scores, nan=2.0), repeats=2, seed=seed).score


@given(grids(elements=st.sampled_from([0.0, 1.0, 1.2, 2.0])))
def test_bounds_are_the_score_when_all_is_rated(scores: np.ndarray) -> None:
    score = cross_validate(scores).score
    bounds = rating_bounds(scores)
    for value in (bounds.low, bounds.high, bounds.at_lowest, bounds.at_highest):
        assert value == pytest.approx(score, abs=1e-12)


@given(
    hnp.arrays(float, (3, 8), elements=st.sampled_from([0.0, 0.9, 1.0, 1.1, 2.0])),
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 7)), min_size=1, max_size=5, unique=True),
)
@settings(max_examples=60, deadline=None)
def test_each_fold_reaches_its_bounds(scores: np.ndarray, missing: list[tuple[int, int]]) -> None:
    """Tight: in each fold some way to put the unrated texts at 0 or 2 gives its lowest, and some way its highest score."""
    places = tuple(np.array(missing).T)
    folds = []
    for fill in itertools.product([0.0, 2.0], repeat=len(missing)):
        scores[places] = fill
        folds.append(cross_validate(scores, repeats=1).fold_scores)
    scores[places] = nan
    bounds = rating_bounds(scores, repeats=1)
    assert bounds.low == pytest.approx(np.min(folds, axis=0).mean(), abs=1e-12)
    assert bounds.high == pytest.approx(np.max(folds, axis=0).mean(), abs=1e-12)


def test_bounds_of_one_strength_are_plain_means() -> None:
    bounds = rating_bounds([[1, 2, nan, 0, nan, 1, 1, 1.0]])
    assert (bounds.low, bounds.high) == (0.75, 1.25)
    assert (bounds.at_lowest, bounds.at_highest) == (0.75, 1.25)


def test_bounds_of_nothing_rated_are_the_scale() -> None:
    bounds = rating_bounds(np.full((2, 8), nan))
    assert (bounds.low, bounds.high, bounds.at_lowest, bounds.at_highest) == (0, 2, 0, 2)
    other = rating_bounds(np.full((2, 8), nan), lowest=1, highest=5)
    assert (other.low, other.high) == (1, 5)


def test_ratings_off_the_scale_are_refused() -> None:
    for call, refused, scale in (
        (lambda: rating_bounds(np.full((2, 8), 2.5)), 2.5, "0 to 2"),
        (lambda: rating_bounds(np.full((2, 8), -1.0)), -1.0, "0 to 2"),
        (lambda: rating_bounds(np.full((2, 8), 2.0), lowest=2), 2.0, "2 to 2"),
    ):
        with pytest.raises(ScoringError) as error:
            call()
        assert refused in error.value.given  # type: ignore[operator]
        assert scale in str(error.value.allowed)
        assert "lowest=" in error.value.hint
