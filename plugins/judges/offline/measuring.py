"""The instruments of the offline judge: the embedding model and the subject model, and what they measure of an item."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .echo import cut_echo
from .embedding import Embedder, Pieces
from .features import Values, of_embeddings, of_likelihoods, of_vectors, of_words
from .likelihood import Likelihood, LikelihoodMeter
from .references import REFERENCES
from .words import telling

Asked = tuple[str, str, str]
"""Concept, instruction, text."""


class Instruments:
    """Measures items. What was measured is kept, since concepts, instructions and texts come again in the next call."""

    def __init__(self, embedder: Embedder, meter: LikelihoodMeter) -> None:
        self.embedder, self.meter = embedder, meter
        self._references = embedder.pieces(REFERENCES)
        self._asked: dict[str, tuple[Pieces, Values]] = {}
        self._likelihoods: dict[Asked, Likelihood] = {}

    def measure(self, items: Sequence[Asked]) -> list[dict[str, float]]:
        """Return the features of each (concept, instruction, text), by name, in a fixed order."""
        cuts = [cut_echo(instruction, text) for _, instruction, text in items]
        keys = [(concept.strip(), instruction.strip(), cut.text) for (concept, instruction, _), cut in zip(items, cuts, strict=True)]
        new = sorted({part for key in keys for part in key[:2]} - self._asked.keys())
        for part, pieces in zip(new, self.embedder.pieces(new), strict=True):
            self._asked[part] = pieces, usual(pieces, self._references)
        unread = sorted(set(keys) - self._likelihoods.keys())
        self._likelihoods.update(zip(unread, self.meter.measure(unread), strict=True))
        texts = sorted({key[2] for key in keys})
        read = dict(zip(texts, self.embedder.pieces(texts), strict=True))
        baselines = self.meter.baselines([concept for concept, _, _ in keys])
        found = []
        for key, cut, baseline in zip(keys, cuts, baselines, strict=True):
            concept, instruction, text = key
            near = self._near(concept, text)
            likely = of_likelihoods(self._likelihoods[key], self.meter, baseline)
            embedded = features(read[text], self._asked[concept], self._asked[instruction])
            found.append(embedded | near | likely | of_words(concept, instruction, cut))
        return found

    def _near(self, concept: str, text: str) -> dict[str, float]:
        said = telling(text) or [text]
        first = [said.index(word) for word in dict.fromkeys(said)]
        return of_vectors(self.embedder.words(said), self.embedder.words(telling(concept) or [concept]), first)


def features(text: Pieces, concept: tuple[Pieces, Values], instruction: tuple[Pieces, Values]) -> dict[str, float]:
    """Return what the embeddings say of a text, its concept and its instruction."""
    return {
        **of_embeddings("concept", text, *concept),
        **of_embeddings("instruction", text, *instruction),
        "concept in instruction": float(concept[0].whole() @ instruction[0].whole()),
    }


def usual(asked: Pieces, references: Sequence[Pieces]) -> Values:
    """Return ``[2]``: the largest cosine of runs of 6 pieces, and the cosine of the whole, of texts that have nothing to do with what is asked."""
    target = asked.whole()
    return np.array(
        [
            np.mean([float((text.windows(6) @ target).max()) for text in references]),
            np.mean([float(text.whole() @ target) for text in references]),
        ]
    )
