"""Pure arithmetic on ratings and counts: calibrated F1, AxBench's scores, cross-validation, intervals and tests.

``docs/scoring.md`` has the formulas and the reasons. numpy alone; scipy and numba are imported where they are used.
"""

from __future__ import annotations

from harness.scoring.checks import ScoringError
from harness.scoring.classification import auroc, calibrated_f1, f1, precision_recall, warn_small_negatives
from harness.scoring.clusters import clusters_of
from harness.scoring.comparison import PairedDifference, holm, paired_difference
from harness.scoring.crossval import CrossValidation, RatingBounds, cross_validate, rating_bounds, score_at
from harness.scoring.folds import NO_CHOICE, Folds, cross_validation_folds, halves, no_choice
from harness.scoring.intervals import Interval, IntervalMethod, interval
from harness.scoring.protocols import ProtocolScore, score_ratings
from harness.scoring.ratings import concept_counted, counted, harmonic_mean, overall

__all__ = [
    "NO_CHOICE",
    "CrossValidation",
    "Folds",
    "Interval",
    "IntervalMethod",
    "PairedDifference",
    "ProtocolScore",
    "RatingBounds",
    "ScoringError",
    "auroc",
    "calibrated_f1",
    "clusters_of",
    "concept_counted",
    "counted",
    "cross_validate",
    "cross_validation_folds",
    "f1",
    "halves",
    "harmonic_mean",
    "holm",
    "interval",
    "no_choice",
    "overall",
    "paired_difference",
    "precision_recall",
    "rating_bounds",
    "score_at",
    "score_ratings",
    "warn_small_negatives",
]
