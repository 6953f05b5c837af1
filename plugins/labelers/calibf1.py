"""Calibrated F1 (Jørgensen & Hansen 2026, arXiv 2605.31183): a feature carries a label if how often it fires predicts the label.

The probe is the share of a text's tokens on which the feature is active; the score of a (feature, label) pair is calibrated F1, largest over
thresholds on that share. The paper gives no threshold grid and no K: the defaults are ours. Output score is not yet among the filters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field, field_validator

from harness import hookimpl
from harness.options import Options, filter_field
from harness.types import Abstention, Concept, FeatureRef, Json, Labeling

if TYPE_CHECKING:
    from harness.contracts import Bench
    from harness.sae.statistics import CorpusStatistics
    from harness.scoring.counting import PairScores

GRID = (0.0, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.125, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


class CalibratedF1Options(Options):
    """Options of ``calibf1``."""

    pi0: float = Field(1e-3, gt=0, lt=1)
    """Reference prior of calibrated F1; small values make each false positive expensive."""
    thresholds: tuple[float, ...] = GRID
    """Candidate thresholds on the share of a text's tokens on which the feature fires (ours; the paper gives none)."""
    min_support: int | None = Field(None, ge=1)
    """Labels with fewer positive texts are abstained from, or not chosen; none takes the task's `concepts.min_support`."""
    top_k: int = Field(100, ge=1)
    """Chosen mode: the number of (feature, label) pairs kept, best first (ours)."""
    features_per_label: int = filter_field(1, ge=1)
    """Features that one label gets at most: together in fixed mode, as pairs of their own in chosen mode."""
    labels_per_feature: int = Field(1, ge=1)
    """Chosen mode: labels that one feature gets at most."""
    held_out: float = filter_field(0.5, ge=0, lt=1)
    """Share of the corpus that chooses nothing: scores on it are reported beside those that chose. 0 chooses on all texts, as the paper does."""
    min_cosine: float | None = filter_field(None, ge=-1, le=1)
    """Keep features whose decoder row has at least this cosine with the label's difference of means (borrowed from DiffMean, not in the paper)."""
    dictionary: str | None = filter_field(None)
    """The task's dictionary to label; none takes its first."""

    @field_validator("thresholds")
    @classmethod
    def _shares(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not value or any(not 0 <= t < 1 for t in value):
            raise ValueError("thresholds must be one or more shares from 0 up to (not including) 1")
        return tuple(sorted(set(value)))


@dataclass
class _Scored:
    """The pairs' scores on the texts that choose (−1 in ``allowed`` for a pair that is filtered out), the texts that report, the least support."""

    pairs: PairScores
    allowed: np.ndarray[Any, np.dtype[np.float64]]
    positive: np.ndarray[Any, np.dtype[np.bool_]]
    report: np.ndarray[Any, np.dtype[np.int64]]
    least: int


class CalibratedF1:
    """See the module. Implements :class:`harness.contracts.Labeler`."""

    def __init__(self, options: CalibratedF1Options) -> None:
        self.options = options

    def label(self, bench: Bench, concepts: Sequence[Concept]) -> list[Labeling | Abstention]:
        statistics = bench.statistics(self.options.dictionary)
        name = self.options.dictionary or next(iter(bench.dictionaries))
        scored = self._score(bench, statistics, name, concepts)
        if bench.concept_mode == "chosen":
            return list(self._choose(statistics, name, concepts, scored))
        return [self._answer(statistics, name, concept, row, scored) for row, concept in enumerate(concepts)]

    # ------------------------------------------------------------------------------------------------------------- scoring

    def _score(self, bench: Bench, statistics: CorpusStatistics, name: str, concepts: Sequence[Concept]) -> _Scored:
        from scipy import sparse

        from harness.sae.directions import label_cosines, positives, split_texts
        from harness.scoring import warn_small_negatives
        from harness.scoring.counting import best_pairs

        positive = positives(bench, concepts)
        choose, report = split_texts(bench, self.options.held_out)
        pairs = best_pairs(
            statistics.frequencies[choose], sparse.csr_matrix(positive[choose]), self.options.thresholds, self.options.pi0
        )
        negatives = int((~positive[choose]).sum(axis=0).min(initial=len(choose)))
        if warning := warn_small_negatives(negatives, self.options.pi0):
            bench.warn(f"calibf1: {warning}")
        allowed = np.nan_to_num(pairs.score, nan=-1.0)
        if self.options.min_cosine is not None:
            bench.warn("calibf1: features were filtered by their cosine with the difference of means (min_cosine), which is not in the paper")
            allowed = np.where(label_cosines(bench, name, concepts, choose) >= self.options.min_cosine, allowed, -1.0)
        least = self.options.min_support or bench.min_support
        allowed[positive.sum(axis=0) < least] = -1.0
        return _Scored(pairs, allowed, positive, report, least)

    # ------------------------------------------------------------------------------------------------------------- answers

    def _answer(self, statistics: CorpusStatistics, name: str, concept: Concept, row: int, scored: _Scored) -> Labeling | Abstention:
        support = int(scored.positive[:, row].sum())
        if concept.label is None:
            return Abstention(concept, "the concept names no label of the corpus")
        if support < scored.least:
            return Abstention(concept, f"label {concept.label!r} has {support} texts; {scored.least} are needed")
        best = np.argsort(-scored.allowed[row], kind="stable")[: self.options.features_per_label]
        best = best[scored.allowed[row][best] > 0]
        if len(best) == 0:
            return Abstention(concept, f"no feature that passes the filters fires on the texts of label {concept.label!r}")
        evidence = [self._evidence(statistics, scored, row, int(feature)) for feature in best]
        features = tuple(FeatureRef(name, int(feature)) for feature in best)
        return Labeling(concept, features, float(scored.allowed[row][best[0]]), {"features": evidence})

    def _choose(
        self, statistics: CorpusStatistics, name: str, concepts: Sequence[Concept], scored: _Scored
    ) -> list[Labeling]:
        """The best pairs over all labels, within the caps a label and a feature."""
        chosen: list[Labeling] = []
        per_label, per_feature = np.zeros(len(concepts), dtype=int), np.zeros(scored.allowed.shape[1], dtype=int)
        for flat in np.argsort(-scored.allowed, axis=None, kind="stable"):
            row, feature = divmod(int(flat), scored.allowed.shape[1])
            score = float(scored.allowed[row, feature])
            if score <= 0 or len(chosen) == self.options.top_k:
                break
            if per_label[row] >= self.options.features_per_label or per_feature[feature] >= self.options.labels_per_feature:
                continue
            per_label[row] += 1
            per_feature[feature] += 1
            evidence = {"features": [self._evidence(statistics, scored, row, feature)]}
            chosen.append(Labeling(concepts[row], (FeatureRef(name, feature),), score, evidence))
        return chosen

    def _evidence(self, statistics: CorpusStatistics, scored: _Scored, row: int, feature: int) -> dict[str, Json]:
        """What a person needs to judge a label: counts and threshold where it was chosen, and the same on texts that chose nothing."""
        from harness.scoring import calibrated_f1, precision_recall
        from harness.scoring.counting import confusion_at

        pairs = scored.pairs
        threshold = self.options.thresholds[int(pairs.threshold[row, feature])]
        tp, fp, support = int(pairs.tp[row, feature]), int(pairs.fp[row, feature]), int(pairs.support[row])

        def summary(counts: tuple[int, int, int, int]) -> dict[str, Json]:
            precision, recall = precision_recall(*counts[:3])
            score = calibrated_f1(*counts, pi0=self.options.pi0)
            return {
                **dict(zip(("tp", "fp", "fn", "tn"), counts, strict=True)),
                "precision": _number(precision),
                "recall": _number(recall),
                "calibrated_f1": _number(score),
            }

        found: dict[str, Json] = {"feature": feature, "threshold": threshold}
        found["chosen_on"] = summary((tp, fp, support - tp, pairs.n - support - fp))
        if len(scored.report):
            column = statistics.frequencies[scored.report][:, [feature]].toarray()[:, 0]
            found["held_out"] = summary(confusion_at(column, scored.positive[scored.report, row], threshold))
        found["density"] = float(statistics.density[feature])
        return found


def _number(value: float) -> float | None:
    """JSON has no NaN: an undefined value is null."""
    return None if np.isnan(value) else round(float(value), 6)


@hookimpl
def harness_register_labelers(registry: Any) -> None:
    registry.add(
        "calibf1",
        CalibratedF1,
        options=CalibratedF1Options,
        summary="features whose firing frequency predicts the label, by calibrated F1 (Jørgensen & Hansen 2026)",
    )
