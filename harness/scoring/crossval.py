"""Chooses a strength without reporting on the instructions that chose it: repeated cross-validation (Jørgensen & Hansen 2026)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.scoring.checks import FloatArray, IntArray, ScoringError, at_least, float_array
from harness.types import rng

NO_CHOICE = -1
"""In ``chosen_per_fold``: no strength has a rating in the training part."""

_Array = TypeVar("_Array", bound=NDArray[Any])

TIE = 1e-12
"""Means that differ by no more than this are equal: the order of summation must not decide between strengths."""


@dataclass(frozen=True, eq=False)
class CrossValidation:
    """What :func:`cross_validate` found. The arrays are read-only.

    Attributes:
        score: mean of ``fold_scores`` over the evaluation parts that have one; with a single strength the plain mean of its rated
            instructions. NaN if there is none.
        fold_scores: ``[repeats, splits]``, mean rating of the evaluation part at the strength that the training part chose. NaN where no
            strength could be chosen, or where the chosen one has no rating in the evaluation part.
        chosen_per_fold: ``[repeats, splits]``, index of the strength chosen on the training part, or ``NO_CHOICE``.
        chosen: index of the strength chosen on all instructions (the one to use from now on), or None if nothing is rated.
        tied: there are several strengths, and all have one mean over all instructions: ``chosen`` is the smallest by rule, and no choice.
        n_strengths, n_instructions: shape of the scores.
        n_unrated: entries of the scores that are NaN, over all strengths.
        seed: the seed that drew the folds.
    """

    score: float
    fold_scores: FloatArray
    chosen_per_fold: IntArray
    chosen: int | None
    n_strengths: int
    n_instructions: int
    n_unrated: int
    seed: int
    tied: bool = False

    @property
    def n_undefined(self) -> int:
        """Return evaluation parts without a score, which ``score`` leaves out."""
        return int(np.isnan(self.fold_scores).sum())

    def held_out(self, ratings: ArrayLike) -> float:
        """Return another rating of the same texts (concept, instruction, fluency), averaged over the same evaluation parts at the same choices.

        Args:
            ratings: ``[strength, instruction]`` as in :func:`cross_validate`; they choose nothing.
        """
        values = float_array(ratings, "ratings", ndim=2)
        if values.shape != (self.n_strengths, self.n_instructions):
            raise ScoringError(
                f"ratings have the shape {values.shape}",
                given=values.shape,
                allowed=f"{(self.n_strengths, self.n_instructions)}, the shape of the scores",
                hint="give the ratings of the same texts",
            )
        return score_at(values, self.chosen_per_fold, self.seed)


@dataclass(frozen=True)
class RatingBounds:
    """How much the unrated texts could have changed a cross-validated score (:func:`rating_bounds`).

    Attributes:
        low: no ratings of the unrated texts give a score below this.
        high: none give a score above this.
        at_lowest: the score with every unrated text at the lowest rating.
        at_highest: the score with every unrated text at the highest rating.
    """

    low: float
    high: float
    at_lowest: float
    at_highest: float


def cross_validate(scores: ArrayLike, repeats: int = 10, splits: int = 4, seed: int = 0) -> CrossValidation:
    """Score of a method whose strength is chosen on some instructions and reported on others.

    In each repeat the instructions are permuted and cut into ``splits`` parts whose sizes differ by at most one. Each part is the
    evaluation part once: the strength with the largest mean over the *other* instructions (the training part) is chosen, and its mean over
    the evaluation part is reported. Means skip NaN (unrated); a strength without a rating in the training part is not chosen; ties go to
    the smaller index.

    Never resample instructions (a bootstrap, repeated columns) before calling this: copies of an instruction would fall on both sides of a
    fold, and the strength would be reported on what chose it. For uncertainty resample concepts (:func:`harness.scoring.interval`).

    Args:
        scores: ``[strength, instruction]``, one rating per text (several draws averaged beforehand), strengths ascending, NaN = unrated.
        repeats: how often the folds are drawn anew.
        splits: parts per repeat; at least 2 and at most the number of instructions.
        seed: draws the folds, together with the number of instructions and nothing else, so methods scored on the same instructions in the
            same order share their folds.

    Raises:
        ScoringError: (a ValueError) scores that are not a ``[strength, instruction]`` array, or infinite; fewer instructions than splits.
    """
    values = _checked_scores(scores, splits)
    repeats = at_least(repeats, 1, "repeats")
    evaluation = _evaluation_parts(values.shape[1], repeats, splits, seed)
    chosen = _choose(_part_means(values, 1 - evaluation))
    fold_scores = _at_choice(_part_means(values, evaluation), chosen)
    everywhere = _part_means(values, np.ones((1, values.shape[1])))
    overall = int(_choose(everywhere)[0])
    return CrossValidation(
        score=_score(values, fold_scores),
        fold_scores=_read_only(fold_scores.reshape(repeats, splits)),
        chosen_per_fold=_read_only(chosen.reshape(repeats, splits)),
        chosen=None if overall == NO_CHOICE else overall,
        n_strengths=values.shape[0],
        n_instructions=values.shape[1],
        n_unrated=int(np.isnan(values).sum()),
        seed=seed,
        tied=len(values) > 1 and bool(np.ptp(everywhere) <= _tolerance(everywhere).max()),  # of a NaN it is not known
    )


def score_at(ratings: ArrayLike, chosen_per_fold: ArrayLike, seed: int = 0) -> float:
    """Return ratings averaged over the evaluation parts of :func:`cross_validate` at strengths that were chosen for each fold, by whatever ratings.

    Args:
        ratings: ``[strength, instruction]``, NaN = unrated.
        chosen_per_fold: ``[repeats, splits]`` places in the first axis of ``ratings``, or ``NO_CHOICE``.
        seed: that drew the folds.

    Returns:
        The mean over the parts that have a rating at their choice; with one strength, where nothing is chosen, the plain mean; NaN if there is none.

    Raises:
        ScoringError: ratings of another shape; a place that does not exist.
    """
    values = float_array(ratings, "ratings", ndim=2)
    chosen = np.asarray(chosen_per_fold, dtype=np.int64)
    if chosen.ndim != 2 or chosen.max(initial=NO_CHOICE) >= len(values) or chosen.min(initial=0) < NO_CHOICE:
        allowed = f"[repeats, splits] places of the {len(values)} strengths"
        raise ScoringError("the choices do not fit the ratings", given=chosen.tolist(), allowed=allowed)
    evaluation = _evaluation_parts(values.shape[1], *chosen.shape, seed)
    return _score(values, _at_choice(_part_means(values, evaluation), chosen.ravel()))


def rating_bounds(
    scores: ArrayLike, repeats: int = 10, splits: int = 4, seed: int = 0, lowest: float = 0.0, highest: float = 2.0
) -> RatingBounds:
    """Return bounds of ``cross_validate(…).score`` over everything that the unrated texts could have been rated.

    Texts that could not be rated are not a random sample, so leaving them out may flatter a method. ``low`` and ``high`` hold whatever ratings
    from ``lowest`` to ``highest`` the unrated texts get, the changes of the chosen strength that this causes included: in each fold every
    strength is considered that some ratings would have chosen, at its worst and at its best. They enclose ``score`` (where it is defined),
    ``at_lowest`` and ``at_highest``, and all are equal when nothing is unrated.

    Args:
        scores, repeats, splits, seed: as in :func:`cross_validate`.
        lowest, highest: the ends of the rating scale; no score may lie outside.

    Raises:
        ScoringError: as :func:`cross_validate`; a score outside the scale.
    """
    values = _checked_scores(scores, splits)
    if lowest >= highest or np.nanmin(values, initial=highest) < lowest or np.nanmax(values, initial=lowest) > highest:
        low, high = float(np.nanmin(values, initial=highest)), float(np.nanmax(values, initial=lowest))
        raise ScoringError(
            f"scores lie within {low:g} to {high:g}",
            given=(low, high),
            allowed=f"the rating scale, {lowest:g} to {highest:g}",
            hint="give the scale as lowest= and highest=",
        )
    repeats = at_least(repeats, 1, "repeats")
    evaluation = _evaluation_parts(values.shape[1], repeats, splits, seed)
    worst, best = (np.where(np.isnan(values), fill, values) for fill in (lowest, highest))
    possible = _possible_choices(_part_means(worst, 1 - evaluation), _part_means(best, 1 - evaluation))
    # What was chosen on the rated texts counts as possible, although a tie with a strength that has no rating could rule it out.
    possible |= np.arange(len(values))[:, None] == _choose(_part_means(values, 1 - evaluation))
    low = np.where(possible, _part_means(worst, evaluation), np.inf).min(axis=0)
    high = np.where(possible, _part_means(best, evaluation), -np.inf).max(axis=0)
    return RatingBounds(
        low=_score(worst, low),
        high=_score(best, high),
        at_lowest=cross_validate(worst, repeats, splits, seed).score,
        at_highest=cross_validate(best, repeats, splits, seed).score,
    )


def _checked_scores(scores: ArrayLike, splits: int) -> FloatArray:
    """Return ``scores`` as ``[strength, instruction]``, with at least one strength and an instruction for each of ``splits`` parts."""
    values = float_array(scores, "scores [strength, instruction]", ndim=2)
    at_least(splits, 2, "splits")
    n_strengths, n_instructions = values.shape
    if n_strengths == 0:
        raise ScoringError(f"scores have the shape {values.shape}", given=values.shape, allowed="at least one strength")
    if n_instructions < splits:
        message = f"{n_instructions} instructions cannot be cut into {splits} parts"
        raise ScoringError(message, given=n_instructions, allowed=f"at least {splits}", hint="use more instructions or fewer splits")
    return values


@lru_cache(maxsize=64)
def _evaluation_parts(n_instructions: int, repeats: int, splits: int, seed: int) -> FloatArray:
    """Return ``[repeats · splits, instructions]``: 1 where the instruction is in the evaluation part of the fold, else 0."""
    part_of_place = np.repeat(np.arange(splits), [len(part) for part in np.array_split(np.arange(n_instructions), splits)])
    parts = np.zeros((repeats, splits, n_instructions))
    for repeat in range(repeats):
        order = rng(seed, "cross-validation folds", str(repeat)).permutation(n_instructions)
        parts[repeat, part_of_place, order] = 1
    return _read_only(parts.reshape(repeats * splits, n_instructions))


def _part_means(values: FloatArray, parts: FloatArray) -> FloatArray:
    """Return ``[strength, part]``: mean over the rated instructions of each part (a 0/1 row of ``parts``); NaN without any."""
    rated = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        means: FloatArray = (np.where(rated, values, 0.0) @ parts.T) / (rated.astype(np.float64) @ parts.T)
    return means


def _choose(means: FloatArray) -> IntArray:
    """Return ``[part]``: the strength with the largest of ``means [strength, part]``, the smaller of equals, ``NO_CHOICE`` without any mean."""
    ranked = np.where(np.isnan(means), -np.inf, means)
    largest = ranked.max(axis=0)
    first = (ranked >= largest - _tolerance(largest)).argmax(axis=0)
    return np.where(np.isneginf(largest), NO_CHOICE, first)


def _possible_choices(lowest: FloatArray, highest: FloatArray) -> NDArray[np.bool_]:
    """Return ``[strength, part]``: whether :func:`_choose` could choose the strength if training means lie between ``lowest`` and ``highest``."""
    margin = lowest[:, None, :] - highest[None, :, :]  # [a, b, part]: by how much a beats b at the least
    tolerance = _tolerance(highest)[None, :, :]
    smaller_index = np.tri(len(lowest), k=-1, dtype=bool).T[:, :, None]  # [a, b]: a precedes b, and wins a tie
    beaten = np.where(smaller_index, margin >= -tolerance, margin > tolerance)
    possible: NDArray[np.bool_] = np.logical_not(np.any(beaten, axis=0))
    return possible


def _at_choice(means: FloatArray, chosen: IntArray) -> FloatArray:
    """Return ``[part]``: the mean of the chosen strength in each part; NaN where none was chosen."""
    picked = means[np.maximum(chosen, 0), np.arange(len(chosen))]
    return np.where(chosen == NO_CHOICE, np.nan, picked)


def _score(values: FloatArray, fold_scores: FloatArray) -> float:
    """Return the mean over evaluation parts; with a single strength, where nothing is chosen, the plain mean of ``values``."""
    source = values if len(values) == 1 else fold_scores
    defined = source[~np.isnan(source)]
    return float(defined.mean()) if defined.size else float("nan")


def _tolerance(means: FloatArray) -> FloatArray:
    return TIE * np.maximum(1.0, np.abs(np.where(np.isfinite(means), means, 0.0)))


def _read_only(array: _Array) -> _Array:
    array.setflags(write=False)
    return array
