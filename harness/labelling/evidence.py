"""What a person needs to judge a label: counts on the texts that chose it and on the texts that only report, and both AUROCs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from harness.types import Json

if TYPE_CHECKING:
    from harness.labelling.labelled_corpus import Pair, Study

Score = Literal["calibrated_f1", "f1", "auroc_frequency", "auroc_maximum"]
"""What pairs can be ranked by, as :func:`summary` names it."""

GRID = (0.0, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.125, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Candidate thresholds on the share of a text's tokens on which a feature fires (ours: the paper gives none)."""


def pair_evidence(
    study: Study, pairs: Sequence[Pair], score: Score, thresholds: Sequence[float] = GRID, pi0: float = 1e-3
) -> list[dict[str, Json]]:
    """Return the evidence of each pair, whichever labeler chose it.

    A text is predicted positive where the ``probe`` exceeds the threshold: the share of its tokens on which the feature fires, or, for
    ``auroc_maximum``, its largest activation as a share of the largest among the texts that choose. The threshold is the one with the largest
    ordinary F1 where ``score`` is that, else the largest calibrated F1, on the texts that choose (ties to the lower). ``chosen_on`` are counts
    and scores there, ``held_out`` the same at the same threshold on the texts that only report (absent where there are none). In both,
    ``score`` is the named ``measure``, so the score that chose the pair stands beside the same score on other texts.

    Args:
        study: whose labels, statistics and split are used.
        pairs: (place of the concept, feature).
        score: what the labeler ranks by.
        thresholds: ascending.
        pi0: reference prior of calibrated F1.
    """
    features = sorted({feature for _, feature in pairs})
    column = {feature: place for place, feature in enumerate(features)}
    shares, maxima = (study.statistics.texts_of(features, what) for what in ("shares", "maxima"))
    density = study.statistics.density
    found = []
    for place, feature in pairs:
        share, maximum = dense_column(shares, column[feature]), dense_column(maxima, column[feature])
        positive = dense_column(study.columns, place).astype(bool)
        probe = share
        if score == "auroc_maximum":
            largest = float(maximum[study.choose].max(initial=0.0))
            probe = maximum / largest if largest > 0 else maximum
        threshold = _best_threshold(probe[study.choose], positive[study.choose], score, thresholds, pi0)
        row: dict[str, Json] = {
            "feature": feature,
            "measure": score,
            "probe": "maximum" if score == "auroc_maximum" else "frequency",
            "threshold": threshold,
            "pi0": pi0,
        }
        for name, texts in (("chosen_on", study.choose), ("held_out", study.report)):
            if len(texts):
                counted = summary(probe[texts], share[texts], maximum[texts], positive[texts], threshold, pi0)
                row[name] = {"score": counted[score], **counted}
        row["density"] = float(density[feature])
        row["maximum"] = float(study.statistics.maximum[feature])
        found.append(row)
    return found


def summary(
    probe: NDArray[np.floating],
    share: NDArray[np.floating],
    maximum: NDArray[np.floating],
    positive: NDArray[np.bool_],
    threshold: float,
    pi0: float,
) -> dict[str, Json]:
    """Return counts and scores of one pair on some texts, arrays ``[texts]``; null where a score is undefined.

    The prediction that is counted is "the probe exceeds the threshold". ``auroc_frequency`` is that of the share of tokens, ``auroc_maximum``
    that of the largest activation (AxBench's concept detection).
    """
    from harness.scoring import auroc, calibrated_f1, f1, precision_recall
    from harness.scoring.counting import confusion_at

    tp, fp, fn, _tn = counts = confusion_at(probe, positive, threshold)
    precision, recall = precision_recall(tp, fp, fn)
    both = 0 < int(positive.sum()) < len(positive)
    return {
        **dict(zip(("tp", "fp", "fn", "tn"), counts, strict=True)),
        "support": tp + fn,
        "precision": number(precision),
        "recall": number(recall),
        "f1": number(f1(tp, fp, fn)),
        "calibrated_f1": number(calibrated_f1(*counts, pi0=pi0)),
        "auroc_frequency": number(auroc(share, positive)) if both else None,
        "auroc_maximum": number(auroc(maximum, positive)) if both else None,
    }


def dense_column(matrix: Any, place: int) -> NDArray[Any]:
    """Return one column of a scipy csc matrix, ``[rows]``."""
    part = slice(matrix.indptr[place], matrix.indptr[place + 1])
    column = np.zeros(matrix.shape[0], dtype=matrix.dtype)
    column[matrix.indices[part]] = matrix.data[part]
    return column


def number(value: Any) -> float | None:
    """Return a value rounded for JSON; an undefined one is None, since JSON has no NaN."""
    return None if np.isnan(value) else round(float(value), 6)


def _best_threshold(
    probe: NDArray[np.floating], positive: NDArray[np.bool_], score: Score, thresholds: Sequence[float], pi0: float
) -> float:
    from harness.scoring import calibrated_f1, f1
    from harness.scoring.counting import confusion_at

    scores = []
    for threshold in thresholds:
        tp, fp, fn, tn = confusion_at(probe, positive, threshold)
        scores.append(f1(tp, fp, fn) if score == "f1" else calibrated_f1(tp, fp, fn, tn, pi0=pi0))
    return thresholds[int(np.argmax(np.nan_to_num(scores, nan=-1.0)))]
