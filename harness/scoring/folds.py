"""Which instructions choose a strength and which report on it, and the choice itself."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from harness.scoring.checks import FloatArray, IntArray, ScoringError, at_least
from harness.types import rng

NO_CHOICE = -1
"""In place of a choice: no strength has a rating in the training part."""

TIE = 1e-12
"""Means that differ by no more than this are equal: the order of summation must not decide between strengths."""

_Array = TypeVar("_Array", bound=NDArray[Any])


@dataclass(frozen=True, eq=False)
class Folds:
    """How instructions are cut into those that choose and those that report. The arrays are read-only.

    Attributes:
        training: ``[folds, instructions]``, 1 where the instruction chooses the fold's strength, else 0.
        evaluation: ``[folds, instructions]``, 1 where the instruction reports on it, else 0; in no fold both.
        deciding: ``[1, instructions]``, 1 where the instruction has a part in the one strength that is named as the chosen one.
        shape: repeats and splits; their product is the number of folds.
    """

    training: FloatArray
    evaluation: FloatArray
    deciding: FloatArray
    shape: tuple[int, int]

    @property
    def n_instructions(self) -> int:
        return len(self.deciding[0])

    @property
    def reporting(self) -> NDArray[np.bool_]:
        """Return which instructions report in any fold, ``[instructions]``."""
        found: NDArray[np.bool_] = np.asarray(self.evaluation.any(axis=0))
        return found


def cross_validation_folds(n_instructions: int, repeats: int = 10, splits: int = 4, seed: int = 0) -> Folds:
    """Return the folds of repeated cross-validation (Jørgensen & Hansen 2026).

    In each repeat the instructions are permuted and cut into ``splits`` parts whose sizes differ by at most one; each part reports once, and the
    others choose. All instructions together name the chosen strength.

    Args:
        n_instructions: at least ``splits``.
        repeats: how often the folds are drawn anew.
        splits: parts per repeat, at least 2.
        seed: draws the folds, together with the number of instructions and nothing else.

    Raises:
        ScoringError: fewer instructions than splits.
    """
    at_least(splits, 2, "splits")
    repeats = at_least(repeats, 1, "repeats")
    if n_instructions < splits:
        message = f"{n_instructions} instructions cannot be cut into {splits} parts"
        raise ScoringError(message, given=n_instructions, allowed=f"at least {splits}", hint="use more instructions or fewer splits")
    return _cross_validation(n_instructions, repeats, splits, seed)


@lru_cache(maxsize=64)
def _cross_validation(n_instructions: int, repeats: int, splits: int, seed: int) -> Folds:
    part_of_place = np.repeat(np.arange(splits), [len(part) for part in np.array_split(np.arange(n_instructions), splits)])
    parts = np.zeros((repeats, splits, n_instructions))
    for repeat in range(repeats):
        order = rng(seed, "cross-validation folds", str(repeat)).permutation(n_instructions)
        parts[repeat, part_of_place, order] = 1
    evaluation = parts.reshape(repeats * splits, n_instructions)
    return Folds(read_only(1 - evaluation), read_only(evaluation), read_only(np.ones((1, n_instructions))), (repeats, splits))


@lru_cache(maxsize=64)
def halves(n_instructions: int) -> Folds:
    """Return AxBench's only fold (Wu et al. 2025): the first half of the instructions chooses the strength, the second half reports on it.

    The first half also names the chosen strength. Of an odd number the second half is the larger one.

    Raises:
        ScoringError: fewer than two instructions.
    """
    if n_instructions < 2:
        message = f"{n_instructions} instructions cannot be cut into two halves"
        raise ScoringError(message, given=n_instructions, allowed="at least 2", hint="use more instructions")
    first = (np.arange(n_instructions) < n_instructions // 2).astype(np.float64)[None, :]
    return Folds(read_only(first), read_only(1 - first), read_only(first.copy()), (1, 1))


@lru_cache(maxsize=64)
def no_choice(n_instructions: int) -> Folds:
    """Return the only fold where there is nothing to choose, for a method with one strength: no instruction chooses, and all report."""
    everything = np.ones((1, n_instructions))
    return Folds(read_only(np.zeros((1, n_instructions))), read_only(everything), read_only(everything.copy()), (1, 1))


def part_means(values: FloatArray, parts: FloatArray) -> FloatArray:
    """Return ``[…, strength, part]``: mean of ``values […, strength, instruction]`` over the rated instructions of each part; NaN without any.

    Args:
        values: NaN = unrated.
        parts: ``[part, instruction]`` of 0 and 1.
    """
    rated = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        means: FloatArray = (np.where(rated, values, 0.0) @ parts.T) / (rated.astype(np.float64) @ parts.T)
    return means


def choose(means: FloatArray) -> IntArray:
    """Return ``[part]``: the strength with the largest of ``means [strength, part]``, the smaller of equals, ``NO_CHOICE`` without any mean."""
    ranked = np.where(np.isnan(means), -np.inf, means)
    largest = ranked.max(axis=0)
    first = (ranked >= largest - tolerance(largest)).argmax(axis=0)
    return np.where(np.isneginf(largest), NO_CHOICE, first)


def possible_choices(lowest: FloatArray, highest: FloatArray) -> NDArray[np.bool_]:
    """Return ``[strength, part]``: whether :func:`choose` could choose the strength if training means lie between ``lowest`` and ``highest``."""
    margin = lowest[:, None, :] - highest[None, :, :]  # [a, b, part]: by how much a beats b at the least
    slack = tolerance(highest)[None, :, :]
    smaller_index = np.tri(len(lowest), k=-1, dtype=bool).T[:, :, None]  # [a, b]: a precedes b, and wins a tie
    beaten = np.where(smaller_index, margin >= -slack, margin > slack)
    possible: NDArray[np.bool_] = np.logical_not(np.any(beaten, axis=0))
    return possible


def at_choice(means: FloatArray, chosen: IntArray) -> FloatArray:
    """Return ``[…, part]``: the mean of the chosen strength in each part, of ``means […, strength, part]``; NaN where none was chosen."""
    picked = means[..., np.maximum(chosen, 0), np.arange(len(chosen))]
    return np.where(chosen == NO_CHOICE, np.nan, picked)


def extremes(worst: FloatArray, best: FloatArray, possible: NDArray[np.bool_], folds: Folds) -> tuple[FloatArray, FloatArray]:
    """Return the least and the greatest score ``[…]`` of the evaluation parts, whichever possible strength was chosen in each.

    Args:
        worst, best: ``[…, strength, instruction]``, the ratings with every unrated text at the lowest and at the highest end of the scale.
        possible: ``[strength, fold]`` from :func:`possible_choices`; at least one in each fold.
        folds: which instructions report in each fold; with one strength all that do in any fold count once.
    """
    if worst.shape[-2] == 1:
        return worst[..., 0, folds.reporting].mean(axis=-1), best[..., 0, folds.reporting].mean(axis=-1)
    low = np.where(possible, part_means(worst, folds.evaluation), np.inf).min(axis=-2)
    high = np.where(possible, part_means(best, folds.evaluation), -np.inf).max(axis=-2)
    return low.mean(axis=-1), high.mean(axis=-1)


def all_tied(means: FloatArray) -> bool:
    """Return whether there are several strengths, and all of ``means [strength, 1]`` are one; of a NaN it is not known."""
    return len(means) > 1 and bool(np.ptp(means) <= tolerance(means).max())


def tolerance(means: FloatArray) -> FloatArray:
    """Return by how much each mean may differ from another that counts as equal."""
    return TIE * np.maximum(1.0, np.abs(np.where(np.isfinite(means), means, 0.0)))


def mean_of_known(values: FloatArray) -> float:
    """Return the mean of what is not NaN; NaN without any."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")


def read_only(array: _Array) -> _Array:
    """Return the array itself, which can no longer be changed."""
    array.setflags(write=False)
    return array
