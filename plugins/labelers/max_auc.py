"""Largest AUROC (AxBench's SAE-A; Wu et al. 2025, arXiv 2501.17148): the feature whose activation best tells a concept's texts from others.

A text's score is the feature's largest activation in it (AxBench's public code; its paper takes the mean), a feature's that of the AUROC over
the texts that choose.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from harness import hookimpl
from harness.labelling.options import PairOptions, traits_of
from harness.types import Abstention, Concept, Json, Labeling

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from harness.contracts import Bench
    from harness.labelling.labelled_corpus import Pair


class MaxAurocOptions(PairOptions):
    """Options of ``max-auc``."""

    pool: Literal["maximum", "frequency"] = "maximum"
    """What stands for a feature in a text: its largest activation (AxBench), or the share of tokens on which it fires."""


class MaxAuroc:
    """Labels by the largest AUROC as the module describes; implements :class:`harness.contracts.Labeler`."""

    def __init__(self, options: MaxAurocOptions) -> None:
        self.options = options
        self.traits = traits_of(options)

    def label(self, bench: Bench, concepts: Sequence[Concept]) -> list[Labeling | Abstention]:
        from harness.labelling.choosing import Chooser
        from harness.labelling.evidence import pair_evidence
        from harness.labelling.labelled_corpus import Study
        from harness.scoring.counting import auroc_pairs

        study = Study(bench, concepts, self.options.dictionary, self.options.held_out)
        chooser = Chooser(study, self.options, "max-auc")
        values = study.statistics.document_maximum if self.options.pool == "maximum" else study.statistics.frequencies

        def explain(pairs: Sequence[Pair]) -> Sequence[dict[str, Json]]:
            return pair_evidence(study, pairs, "auroc_maximum" if self.options.pool == "maximum" else "auroc_frequency")

        def elsewhere(places: list[int]) -> NDArray[np.float64]:
            return auroc_pairs(values, study.positive[:, places], rows=study.report)

        # .5 is chance: a feature that separates nothing, or fires on the other texts, is not an answer
        return chooser.answers(auroc_pairs(values, study.positive, rows=study.choose), 0.5, explain, elsewhere)


@hookimpl
def harness_register_labelers(registry: Any) -> None:
    registry.add(
        "max-auc",
        MaxAuroc,
        options=MaxAurocOptions,
        summary="the feature whose largest activation has the best AUROC for the label (AxBench's SAE-A)",
    )
