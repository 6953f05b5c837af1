"""Chooses a strength without reporting on the instructions that chose it: repeated cross-validation (Jørgensen & Hansen 2026)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from harness.scoring.checks import FloatArray, IntArray, ScoringError, float_array
from harness.scoring.folds import (
    NO_CHOICE,
    Folds,
    all_tied,
    at_choice,
    choose,
    cross_validation_folds,
    extremes,
    mean_of_known,
    part_means,
    possible_choices,
    read_only,
)


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
        folds: which instructions choose and which report.
    """

    score: float
    fold_scores: FloatArray
    chosen_per_fold: IntArray
    chosen: int | None
    n_strengths: int
    n_instructions: int
    n_unrated: int
    folds: Folds
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
        return score_at(values, self.chosen_per_fold, self.folds)


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
    values = _checked_scores(scores)
    folds = cross_validation_folds(values.shape[1], repeats, splits, seed)
    chosen = choose(part_means(values, folds.training))
    fold_scores = at_choice(part_means(values, folds.evaluation), chosen)
    everywhere = part_means(values, folds.deciding)
    overall = int(choose(everywhere)[0])
    return CrossValidation(
        score=_score(values, fold_scores),
        fold_scores=read_only(fold_scores.reshape(folds.shape)),
        chosen_per_fold=read_only(chosen.reshape(folds.shape)),
        chosen=None if overall == NO_CHOICE else overall,
        n_strengths=values.shape[0],
        n_instructions=values.shape[1],
        n_unrated=int(np.isnan(values).sum()),
        folds=folds,
        tied=all_tied(everywhere),
    )


def score_at(ratings: ArrayLike, chosen_per_fold: ArrayLike, folds: Folds) -> float:
    """Return ratings averaged over evaluation parts at strengths that were chosen for each fold, by whatever ratings.

    Args:
        ratings: ``[strength, instruction]``, NaN = unrated.
        chosen_per_fold: ``[repeats, splits]`` places in the first axis of ``ratings``, or ``NO_CHOICE``.
        folds: which instructions report in each fold.

    Returns:
        The mean over the parts that have a rating at their choice; with one strength, where nothing is chosen, the plain mean of the instructions
        that report in any fold; NaN if there is none.

    Raises:
        ScoringError: ratings or choices of another shape; a place that does not exist.
    """
    values = float_array(ratings, "ratings", ndim=2)
    chosen = np.asarray(chosen_per_fold, dtype=np.int64)
    if chosen.shape != folds.shape or chosen.max(initial=NO_CHOICE) >= len(values) or chosen.min(initial=0) < NO_CHOICE:
        allowed = f"{folds.shape} places of the {len(values)} strengths"
        raise ScoringError("the choices do not fit the ratings", given=chosen.tolist(), allowed=allowed)
    if values.shape[1] != folds.n_instructions:
        message = f"there are ratings of {values.shape[1]} instructions, and folds of {folds.n_instructions}"
        raise ScoringError(message, given=values.shape[1], allowed=folds.n_instructions)
    if len(values) == 1:
        return mean_of_known(values[0, folds.reporting])
    return mean_of_known(at_choice(part_means(values, folds.evaluation), chosen.ravel()))


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
    values = _checked_scores(scores)
    if lowest >= highest or np.nanmin(values, initial=highest) < lowest or np.nanmax(values, initial=lowest) > highest:
        low, high = float(np.nanmin(values, initial=highest)), float(np.nanmax(values, initial=lowest))
        raise ScoringError(
            f"scores lie within {low:g} to {high:g}",
            given=(low, high),
            allowed=f"the rating scale, {lowest:g} to {highest:g}",
            hint="give the scale as lowest= and highest=",
        )
    folds = cross_validation_folds(values.shape[1], repeats, splits, seed)
    worst, best = (np.where(np.isnan(values), fill, values) for fill in (lowest, highest))
    possible = possible_choices(part_means(worst, folds.training), part_means(best, folds.training))
    # What was chosen on the rated texts counts as possible, although a tie with a strength that has no rating could rule it out.
    possible |= np.arange(len(values))[:, None] == choose(part_means(values, folds.training))
    least, greatest = extremes(worst, best, possible, folds)
    return RatingBounds(
        low=float(least),
        high=float(greatest),
        at_lowest=cross_validate(worst, repeats, splits, seed).score,
        at_highest=cross_validate(best, repeats, splits, seed).score,
    )


def _checked_scores(scores: ArrayLike) -> FloatArray:
    """Return ``scores`` as ``[strength, instruction]``, with at least one strength."""
    values = float_array(scores, "scores [strength, instruction]", ndim=2)
    if values.shape[0] == 0:
        raise ScoringError(f"scores have the shape {values.shape}", given=values.shape, allowed="at least one strength")
    return values


def _score(values: FloatArray, fold_scores: FloatArray) -> float:
    """Return the mean over evaluation parts; with a single strength, where nothing is chosen, the plain mean of ``values``."""
    return mean_of_known(values if len(values) == 1 else fold_scores)
