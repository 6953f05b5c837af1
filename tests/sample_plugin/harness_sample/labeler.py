"""The feature whose mean frequency on a label's texts exceeds that on the others by most."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import Field

from harness.contracts import LabelerTraits
from harness.options import Options, filter_field, filter_names
from harness.types import Abstention, Concept, FeatureRef, Labeling


class MostFrequentOptions(Options):
    """Options of ``most-frequent``."""

    margin: float = Field(0.0, ge=0, lt=1)
    """Abstain where the rise is no larger than this."""
    dictionary: str | None = filter_field(None)
    """The task's dictionary; none takes its first."""


class MostFrequent:
    """Implements :class:`harness.contracts.Labeler`."""

    traits = LabelerTraits(selects_on="all", filters=filter_names(MostFrequentOptions))

    def __init__(self, options: MostFrequentOptions) -> None:
        self.options = options

    def label(self, bench: Any, concepts: Sequence[Concept]) -> list[Labeling | Abstention]:
        frequencies = bench.statistics(self.options.dictionary).frequencies
        name = bench.dictionary_name(self.options.dictionary)
        answers: list[Labeling | Abstention] = []
        for concept in concepts:
            positive = np.zeros(len(bench.corpus), dtype=bool)
            positive[bench.labels.of(concept.label)] = True
            if not positive.any() or positive.all():
                answers.append(Abstention(concept, "its label is on no text, or on all"))
                continue
            rise = np.asarray(frequencies[positive].mean(axis=0) - frequencies[~positive].mean(axis=0)).ravel()
            best = int(rise.argmax())
            if rise[best] <= self.options.margin:
                answers.append(Abstention(concept, f"no feature rises by more than {self.options.margin:g}"))
            else:
                answers.append(Labeling(concept, (FeatureRef(name, best),), float(rise[best])))
        if bench.concept_mode == "chosen":
            found = [answer for answer in answers if isinstance(answer, Labeling)]
            return sorted(found, key=lambda answer: -(answer.score or 0.0))
        return answers
