"""Texts to be scored: those of the corpus, or changed ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.data.examples import Picked
from harness.types import digest


@dataclass(frozen=True, eq=False)
class TextSet:
    """Texts in a fixed order, with their tokens.

    Attributes:
        name: for people, e.g. ``report``.
        digest: identity of the texts and of how they are cut into tokens.
        texts: what they say.
        tokens: each text as token ids of the subject model, ``[tokens]`` int64, cut to the task's ``corpus.max_tokens``.
        places: where they stand in the corpus, ``[texts]`` int64, for the corpus' own texts; None for changed ones. What one pass over the
            corpus has found already serves such texts.
    """

    name: str
    digest: str
    texts: Sequence[str]
    tokens: Sequence[np.ndarray[Any, np.dtype[np.int64]]]
    places: np.ndarray[Any, np.dtype[np.int64]] | None = None

    def __len__(self) -> int:
        return len(self.texts)

    def part(self, chosen: np.ndarray[Any, np.dtype[np.int64]]) -> TextSet:
        """Return the texts at the places ``chosen`` of this set, in that order."""
        return TextSet(
            self.name,
            digest([self.digest, chosen.tolist()]),
            Picked(chosen, lambda place: self.texts[place]),
            [self.tokens[int(place)] for place in chosen],
            None if self.places is None else self.places[chosen],
        )
