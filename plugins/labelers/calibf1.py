"""Calibrated F1 (Jørgensen & Hansen 2026, arXiv 2605.31183): a feature carries a label if how often it fires predicts the label.

The probe is the share of a text's tokens on which the feature is active; the score of a (feature, label) pair is calibrated F1, largest over
thresholds on that share. Then, in the paper's order: labels with enough support, features with an output score of at least 1e-3, the best of
the remaining pairs. The paper gives no threshold grid and no K: the defaults are ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from harness import hookimpl
from harness.labelling.evidence import GRID, Score
from harness.labelling.options import PairOptions, traits_of
from harness.options import filter_field
from harness.types import Abstention, Concept, Json, Labeling

if TYPE_CHECKING:
    from harness.contracts import Bench
    from harness.labelling.choosing import Chooser
    from harness.labelling.labelled_corpus import Pair, Study


SCORES: dict[str, Score] = {"calibrated-f1": "calibrated_f1", "f1": "f1", "auroc": "auroc_frequency"}


class CalibratedF1Options(PairOptions):
    """Options of ``calibf1``."""

    score: Literal["calibrated-f1", "f1", "auroc"] = "calibrated-f1"
    """What pairs are ranked by: calibrated or ordinary F1 at the best threshold, or the AUROC of the share of tokens, without a threshold."""
    pi0: float = Field(1e-3, gt=0, lt=1)
    """Reference prior of calibrated F1; small values make each false positive expensive."""
    thresholds: tuple[float, ...] = GRID
    """Candidate thresholds on the share of a text's tokens on which the feature fires (ours; the paper gives none)."""
    min_output_score: float | None = filter_field(1e-3, ge=0, le=1)
    """Keep features with at least this output score (Arad et al. 2025; the paper's own second step); none does not filter."""

    @field_validator("thresholds")
    @classmethod
    def _shares(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not value or any(not 0 <= t < 1 for t in value):
            raise ValueError("thresholds must be one or more shares from 0 up to (not including) 1")
        return tuple(sorted(set(value)))


class CalibratedF1:
    """Labels by calibrated F1 as the module describes; implements :class:`harness.contracts.Labeler`."""

    def __init__(self, options: CalibratedF1Options) -> None:
        self.options = options
        self.traits = traits_of(options)

    def label(self, bench: Bench, concepts: Sequence[Concept]) -> list[Labeling | Abstention]:
        from harness.labelling.choosing import Chooser
        from harness.labelling.evidence import pair_evidence
        from harness.labelling.labelled_corpus import Study

        study = Study(bench, concepts, self.options.dictionary, self.options.held_out)
        chooser = Chooser(study, self.options, "calibf1")

        def explain(pairs: Sequence[Pair]) -> Sequence[dict[str, Json]]:
            return pair_evidence(study, pairs, SCORES[self.options.score], self.options.thresholds, self.options.pi0)

        def elsewhere(places: list[int]) -> NDArray[np.float64]:
            return self._scores_on(study, study.report, study.positive[:, places])[0]

        return chooser.answers(self._scores(chooser), 0.5 if self.options.score == "auroc" else 0.0, explain, elsewhere)

    def _scores(self, chooser: Chooser) -> NDArray[np.float64]:
        """Return scores ``[concepts, d_sae]`` on the texts that choose; NaN where a concept has no positive or no negative among them."""
        from harness.scoring import warn_small_negatives

        study = chooser.study
        scores, negatives = self._scores_on(study, study.choose, study.positive)
        if negatives is None or self.options.score != "calibrated-f1":
            return scores
        if warning := warn_small_negatives(int(negatives[chooser.eligible].min(initial=len(study.choose))), self.options.pi0):
            study.bench.warn(f"calibf1: {warning}")
        return scores

    def _scores_on(self, study: Study, texts: NDArray[np.int64], positive: Any) -> tuple[NDArray[np.float64], NDArray[np.int64] | None]:
        """Return the scores ``[concepts, d_sae]`` on some texts and, of F1, how many of them each concept is not in."""
        from harness.scoring.counting import auroc_pairs, best_pairs

        frequencies, options = study.statistics.frequencies, self.options
        if options.score == "auroc":
            return auroc_pairs(frequencies, positive, rows=texts), None
        pairs = best_pairs(frequencies, positive, options.thresholds, options.pi0, score=options.score, rows=texts)
        return pairs.score, pairs.n - pairs.support


@hookimpl
def harness_register_labelers(registry: Any) -> None:
    registry.add(
        "calibf1",
        CalibratedF1,
        options=CalibratedF1Options,
        summary="calibrated F1 of how often a feature fires: F1 if a fixed share π0 of all texts had the label (Jørgensen & Hansen 2026)",
    )
