"""Calibrated F1 of every (label, feature) pair over a grid of thresholds, from sparse feature frequencies.

For each threshold the sparse frequencies become 0/1 predictions, and one sparse product with the labels counts the true positives of all
pairs. Only the best threshold of a pair is kept, so memory is a few dense ``[labels, features]`` arrays whatever the grid's length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.scoring.checks import FloatArray, IntArray, ScoringError
from harness.scoring.classification import calibrated_f1


@dataclass(frozen=True, eq=False)
class PairScores:
    """The best threshold of each pair. Arrays are ``[labels, features]``.

    Attributes:
        score: calibrated F1 at the best threshold (ties to the lower threshold); NaN for a label without positives or without negatives.
        threshold: index into the grid.
        tp, fp: counts at that threshold.
        support: positives of each label, ``[labels]``.
        n: texts.
    """

    score: FloatArray
    threshold: IntArray
    tp: IntArray
    fp: IntArray
    support: IntArray
    n: int


def best_pairs(frequencies: Any, labels: Any, thresholds: Sequence[float], pi0: float) -> PairScores:
    """Score every pair.

    Args:
        frequencies: scipy sparse ``[texts, features]``; a text is predicted positive where the frequency exceeds the threshold.
        labels: scipy sparse ``[texts, labels]`` of 0/1.
        thresholds: at least one, none below 0 (a frequency of 0 is never a positive prediction).
        pi0: reference prior of calibrated F1.
    """
    from scipy import sparse

    if not len(thresholds) or min(thresholds) < 0:
        raise ScoringError(f"thresholds must be 0 or more, and at least one; got {list(thresholds)}")
    if frequencies.shape[0] != labels.shape[0]:
        raise ScoringError(f"frequencies are of {frequencies.shape[0]} texts, labels of {labels.shape[0]}; they must be the same texts")
    predicted = sparse.csr_matrix(frequencies, dtype=np.float32, copy=True)
    by_label = sparse.csr_matrix(labels, dtype=np.int64).T.tocsr()
    n = predicted.shape[0]
    support = np.asarray(by_label.sum(axis=1)).ravel().astype(np.int64)
    shape = (by_label.shape[0], predicted.shape[1])
    score = np.full(shape, -1.0)
    threshold, best_tp, best_fp = (np.zeros(shape, dtype=np.int64) for _ in range(3))
    for place, value in sorted(enumerate(thresholds), key=lambda pair: pair[1]):
        positive = predicted.copy()
        positive.data = (positive.data > np.float32(value)).astype(np.int64)
        positive.eliminate_zeros()
        tp = np.asarray((by_label @ positive.astype(np.int64)).todense())
        fp = np.asarray(positive.sum(axis=0)).reshape(1, -1) - tp
        value_score = calibrated_f1(tp, fp, support[:, None] - tp, n - support[:, None] - fp, pi0)
        better = value_score > score
        score[better], threshold[better], best_tp[better], best_fp[better] = value_score[better], place, tp[better], fp[better]
    score[(support == 0) | (support == n)] = np.nan
    return PairScores(score, threshold, best_tp, best_fp, support, n)


def confusion_at(frequencies: NDArray[Any], positive: NDArray[np.bool_], threshold: float) -> tuple[int, int, int, int]:
    """(tp, fp, fn, tn) of one feature's dense frequencies ``[texts]`` against one label at one threshold."""
    predicted = np.asarray(frequencies) > np.float32(threshold)
    tp, fp = int((predicted & positive).sum()), int((predicted & ~positive).sum())
    return tp, fp, int(positive.sum()) - tp, int((~positive).sum()) - fp
