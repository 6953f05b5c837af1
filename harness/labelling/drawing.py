"""Drawing features at random so that a draw depends on itself alone, not on what else could have been drawn."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray


def in_drawn_order(generator: np.random.Generator, features: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return ``features`` in a random order in which each has a place of its own: the first so many are a uniform draw without replacement.

    Every feature of the dictionary has a random key, which is the generator's number at the feature's index; the order is that of the keys. So
    a feature more or less (one that stopped firing on the corpus, one that a filter lets through) moves no other: draws that did not concern it
    stay as they are.

    Args:
        generator: of (seed, purpose, concept); nothing has been drawn from it.
        features: indices ``[n]`` in any order, none twice.
    """
    features = np.asarray(features, dtype=np.int64)
    keys = generator.random(int(features.max(initial=-1)) + 1)[features]
    return features[np.lexsort((features, keys))]


def arrivals(generator: np.random.Generator) -> Iterator[float]:
    """Yield times of a Poisson process of rate 1.

    Of several such processes, one for each of some names, the next to arrive is each with the same chance, again and again: a uniform draw with
    replacement, in which a name more or less moves no other.
    """
    time = 0.0
    while True:
        for gap in generator.exponential(size=64).tolist():
            time += gap
            yield time
