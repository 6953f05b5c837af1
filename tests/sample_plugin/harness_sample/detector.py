"""A detector that counts a concept's own words: those that training texts with the concept use more often than the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import Field

from harness.contracts import DetectorTraits
from harness.options import Options
from harness.types import Labeling


class OwnWordsOptions(Options):
    """Options of ``own-words``."""

    count: int = Field(5, ge=1)
    """Words of a concept that are counted."""


class OwnWords:
    """Implements :class:`harness.contracts.Detector`; a score is the share of the text's words that are the concept's own."""

    traits = DetectorTraits(needs_features=False, trivial=True)

    def __init__(self, options: OwnWordsOptions) -> None:
        self.options = options

    def prepare(self, bench: Any, labelings: Sequence[Labeling]) -> None:
        self._own: dict[str, list[str]] = {}
        for labeling in labelings:
            used: dict[bool, Counter[str]] = {True: Counter(), False: Counter()}
            for example in bench.examples(labeling.concept, "train"):
                used[example.positive].update(set(example.answer.lower().split()))
            more = {word: n - used[False][word] for word, n in used[True].items()}
            self._own[labeling.concept.id] = sorted(more, key=lambda word: (-more[word], word))[: self.options.count]

    def scores(self, labelings: Sequence[Labeling], texts: Any) -> np.ndarray[Any, Any]:
        found = np.zeros((len(labelings), len(texts)))
        for place, text in enumerate(texts.texts):
            words = text.lower().split()
            for row, labeling in enumerate(labelings):
                found[row, place] = sum(words.count(word) for word in self._own[labeling.concept.id]) / max(1, len(words))
        return found
