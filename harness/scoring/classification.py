"""How well a feature, used as a classifier of texts, finds the texts of a label: F1, calibrated F1, AUROC."""

from __future__ import annotations

from typing import overload

import numpy as np
from numpy.typing import ArrayLike

from harness.scoring.checks import FloatArray, ScoringError, check_binary, float_array, open_share

EXPECTED_FALSE_POSITIVES = 10
"""Below this value of π0 · negatives a handful of false positives decides the calibrated F1 (docs/scoring.md has figures)."""


@overload
def calibrated_f1(tp: float, fp: float, fn: float, tn: float, pi0: float = 1e-3) -> float: ...
@overload
def calibrated_f1(tp: ArrayLike, fp: ArrayLike, fn: ArrayLike, tn: ArrayLike, pi0: float = 1e-3) -> FloatArray: ...
def calibrated_f1(tp: ArrayLike, fp: ArrayLike, fn: ArrayLike, tn: ArrayLike, pi0: float = 1e-3) -> FloatArray | float:
    """Return F1 as it would be if a share ``pi0`` of the texts were positive, at the recall and the false-positive rate that were observed.

    ``2·TP / (2·TP + c·FP + FN)`` with ``c = π(1−π0) / (π0(1−π))`` and π the observed share of positives (Siblini et al. 2020, "Master your
    metrics with calibration"). Equal recall and false-positive rate give an equal value whatever the label's support.

    Args:
        tp, fp, fn, tn: true positives, false positives, false negatives, true negatives; counts (or weights), which broadcast.
        pi0: the share of positives to calibrate to, strictly between 0 and 1. Small values make false positives expensive.

    Returns:
        The values in [0, 1], in the broadcast shape (a float for four numbers). NaN without positives (recall is undefined) and NaN
        without negatives (the false-positive rate is undefined); 0 with positives of which none was found.

    Raises:
        ScoringError: a negative, infinite or NaN count; shapes that do not broadcast; ``pi0`` out of bounds.
    """
    pi0 = open_share(pi0, "pi0")
    tp_, fp_, fn_, tn_ = _counts(tp=tp, fp=fp, fn=fn, tn=tn)
    positives, negatives = tp_ + fn_, fp_ + tn_
    with np.errstate(invalid="ignore", divide="ignore"):
        # c·FP, written as positives · (FP / negatives) · odds: the same number, without dividing by a share that rounds to 1.
        calibrated_fp = positives * (fp_ / negatives) * ((1 - pi0) / pi0)
        value = 2 * tp_ / (2 * tp_ + calibrated_fp + fn_)
    return _scalar(np.where((positives > 0) & (negatives > 0), value, np.nan))


@overload
def f1(tp: float, fp: float, fn: float) -> float: ...
@overload
def f1(tp: ArrayLike, fp: ArrayLike, fn: ArrayLike) -> FloatArray: ...
def f1(tp: ArrayLike, fp: ArrayLike, fn: ArrayLike) -> FloatArray | float:
    """Return ordinary F1, ``2·TP / (2·TP + FP + FN)``; NaN without positives (``calibrated_f1`` at ``pi0`` = the observed share).

    Args and errors as in :func:`calibrated_f1`.
    """
    tp_, fp_, fn_ = _counts(tp=tp, fp=fp, fn=fn)
    with np.errstate(invalid="ignore", divide="ignore"):
        value = 2 * tp_ / (2 * tp_ + fp_ + fn_)
    return _scalar(np.where(tp_ + fn_ > 0, value, np.nan))


@overload
def precision_recall(tp: float, fp: float, fn: float) -> tuple[float, float]: ...
@overload
def precision_recall(tp: ArrayLike, fp: ArrayLike, fn: ArrayLike) -> tuple[FloatArray, FloatArray]: ...
def precision_recall(tp: ArrayLike, fp: ArrayLike, fn: ArrayLike) -> tuple[FloatArray | float, FloatArray | float]:
    """Return precision ``TP / (TP + FP)`` and recall ``TP / (TP + FN)``; each NaN where its denominator is 0.

    Args and errors as in :func:`calibrated_f1`.
    """
    tp_, fp_, fn_ = _counts(tp=tp, fp=fp, fn=fn)
    with np.errstate(invalid="ignore", divide="ignore"):
        return _scalar(tp_ / (tp_ + fp_)), _scalar(tp_ / (tp_ + fn_))


def warn_small_negatives(n_negatives: int, pi0: float = 1e-3) -> str | None:
    """Returns a warning where so few negatives make the calibrated F1 depend on single false positives, else None.

    The condition is ``pi0 · n_negatives < 10``. The message tells what one false positive costs a classifier that finds every positive.
    """
    pi0 = open_share(pi0, "pi0")
    if pi0 * n_negatives >= EXPECTED_FALSE_POSITIVES:
        return None
    needed = int(np.ceil(EXPECTED_FALSE_POSITIVES / pi0 - 1e-9))
    if n_negatives < 1:
        return f"calibrated F1 is undefined without negatives; add texts that lack the label (π0 = {pi0:g} asks for {needed:,})"
    after_one = calibrated_f1(1.0, 1.0, 0.0, n_negatives - 1.0, pi0=pi0)
    return (
        f"{n_negatives:,} negatives are few for π0 = {pi0:g}: one false positive lowers a calibrated F1 of 1.00 to {after_one:.2f}; "
        f"use {needed:,} negatives or a larger π0"
    )


def auroc(scores: ArrayLike, labels: ArrayLike) -> float:
    """Return the area under the ROC curve: the share of (positive, negative) pairs in which the positive scores higher; a tie counts half.

    AxBench's concept detection (Wu et al. 2025) is this over texts of the concept and other texts. Rank-based (Mann-Whitney) and exact:
    ranks are whole numbers of halves, so there is one rounding, in the last division.

    Args:
        scores: ``[texts]``, higher is more positive; infinities are allowed, NaN is not.
        labels: ``[texts]``, bool or 0/1.

    Returns:
        A float in [0, 1]; NaN if one of the classes is empty.

    Raises:
        ScoringError: shapes that differ, NaN scores, labels other than 0 and 1.
    """
    values, truth = np.asarray(scores, dtype=np.float64), np.asarray(labels)
    if values.ndim != 1 or values.shape != truth.shape:
        message = f"scores have the shape {values.shape}, labels {truth.shape}"
        raise ScoringError(message, given=(values.shape, truth.shape), allowed="two lists of the same length")
    if np.isnan(values).any():
        message = f"scores hold {int(np.isnan(values).sum())} NaN"
        raise ScoringError(message, given=float("nan"), allowed="numbers", hint="leave out the texts without a score first")
    check_binary(truth)
    positive = truth.astype(bool)
    n_positive = int(positive.sum())
    n_negative = positive.size - n_positive
    if not n_positive or not n_negative:
        return float("nan")
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    doubled_rank = 2 * last - counts + 1  # first + last rank of each group of equal scores = twice their mid-rank
    doubled_u = int(doubled_rank[group][positive].sum()) - n_positive * (n_positive + 1)
    return doubled_u / (2 * n_positive * n_negative)


def _counts(**counts: ArrayLike) -> tuple[FloatArray, ...]:
    """Return the named counts as float64 arrays of one shape."""
    arrays = [float_array(values, name, nan=False) for name, values in counts.items()]
    for name, array in zip(counts, arrays, strict=True):
        if (array < 0).any():
            raise ScoringError(f"{name}, a count of texts, is {array.min():g}", given=float(array.min()), allowed="at least 0")
    try:
        return tuple(np.broadcast_arrays(*arrays))
    except ValueError:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in zip(counts, arrays, strict=True))
        given = tuple(array.shape for array in arrays)
        raise ScoringError(f"counts have the shapes {shapes}", given=given, allowed="shapes that broadcast to one") from None


def _scalar(array: FloatArray) -> FloatArray | float:
    """Return a 0-dimensional array as a plain float, so that it prints and serialises as one."""
    return array if np.ndim(array) else float(array)
