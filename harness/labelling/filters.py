"""Filters on features. Those that need the model run on candidates only, as they come up, and each feature once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from harness.contracts import Bench
    from harness.labelling.options import FilterOptions

FIRST, AT_ONCE = 8, 256
"""Candidates whose causal scores are computed together, at first and at most."""


class CausalFilter:
    """Which features pass ``min_output_score`` and ``min_confidence_change``. Every feature passes where neither is set.

    Args:
        bench: whose model and dictionary the scores are computed with.
        dictionary: the dictionary's name.
        options: the two limits and the prompt.
    """

    def __init__(self, bench: Bench, dictionary: str, options: FilterOptions) -> None:
        self._bench, self._dictionary, self._options = bench, dictionary, options
        self._known: dict[int, bool] = {}
        self.active = options.min_output_score is not None or options.min_confidence_change is not None

    def passes(self, features: Sequence[int] | NDArray[np.int64]) -> NDArray[np.bool_]:
        """For each of ``features``, whether it passes; bool, as long as ``features``."""
        if not self.active:
            return np.ones(len(features), dtype=bool)
        new = sorted({int(feature) for feature in features} - self._known.keys())
        if new:
            self._known.update(zip(new, self._compute(new).tolist(), strict=True))
        return np.array([self._known[int(feature)] for feature in features], dtype=bool)

    def first(self, candidates: Sequence[int] | NDArray[np.int64], n: int) -> list[int]:
        """The first ``n`` of ``candidates`` that pass (fewer where there are not so many); the scores of later ones are not computed."""
        return list(islice(self.passing(candidates), n))

    def passing(self, candidates: Sequence[int] | NDArray[np.int64]) -> Iterator[int]:
        """Those of ``candidates`` that pass, in their order; some are computed at a time, fewest first: most callers need but one."""
        size = FIRST
        start = 0
        while start < len(candidates):
            part = np.asarray(candidates[start : start + size])
            yield from part[self.passes(part)].tolist()
            start, size = start + size, min(size * 4, AT_ONCE)

    def _compute(self, features: list[int]) -> NDArray[np.bool_]:
        from harness.sae.causal import confidence_changes, output_scores

        model, dictionary, options = self._bench.model, self._bench.dictionaries[self._dictionary], self._options
        kept = np.ones(len(features), dtype=bool)
        if options.min_output_score is not None:
            kept &= output_scores(model, dictionary, features, prompt=options.filter_prompt).score >= options.min_output_score
        if options.min_confidence_change is not None and kept.any():
            left = np.flatnonzero(kept)
            changes = confidence_changes(model, dictionary, [features[place] for place in left], prompt=options.filter_prompt)
            kept[left] = np.abs(changes) >= options.min_confidence_change
        return kept


def descending(scores: NDArray[np.float64], above: float, first: int = 4096) -> Iterator[NDArray[np.int64]]:
    """The flat places of all ``scores`` greater than ``above``, best first, ties in order of place; in pieces that grow.

    A full sort of [labels, features] costs seconds and gigabytes where a few hundred pairs are wanted. NaN is never greater.
    """
    flat = scores.reshape(-1)
    places = np.flatnonzero(flat > above)
    left = len(places)
    while left:
        take = min(first, left)
        values = flat[places]
        limit = np.partition(values, left - take)[left - take]  # the take-th largest
        best = values >= limit
        piece = places[best]
        yield piece[np.argsort(-flat[piece], kind="stable")]
        places = places[~best]
        left, first = len(places), first * 8
