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
    """Decides which features pass ``min_output_score`` and ``min_confidence_change``; every feature passes where neither is set.

    Args:
        bench: whose model and dictionary the scores are computed with.
        dictionary: the dictionary's name.
        options: the two limits and the prompt.
        who: the labeler's name, for warnings.
    """

    def __init__(self, bench: Bench, dictionary: str, options: FilterOptions, who: str = "filter") -> None:
        self._bench, self._dictionary, self._options, self._who = bench, dictionary, options, who
        self._known: dict[int, bool] = {}
        self.active = options.min_output_score is not None or options.min_confidence_change is not None

    @property
    def summary(self) -> str:
        """Return how many of the checked features fail, for messages; empty where nothing is filtered."""
        failed = sum(not passed for passed in self._known.values())
        return f"; {failed} of {len(self._known)} features that came up fail the causal filters" if self.active else ""

    def passes(self, features: Sequence[int] | NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return for each of ``features`` whether it passes: bool ``[features]``."""
        if not self.active:
            return np.ones(len(features), dtype=bool)
        new = sorted({int(feature) for feature in features} - self._known.keys())
        if new:
            self._known.update(zip(new, self._compute(new).tolist(), strict=True))
        return np.array([self._known[int(feature)] for feature in features], dtype=bool)

    def first(self, candidates: Sequence[int] | NDArray[np.int64], n: int) -> list[int]:
        """Return the first ``n`` of ``candidates`` that pass (fewer where fewer pass); the scores of later ones are not computed."""
        return list(islice(self.passing(candidates), n))

    def passing(self, candidates: Sequence[int] | NDArray[np.int64]) -> Iterator[int]:
        """Yield those of ``candidates`` that pass, in their order; they are computed in batches that grow, since most callers need only one."""
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
        # NaN (a feature that breaks the model's numbers) is not as large as any limit
        if options.min_output_score is not None:
            scores = output_scores(model, dictionary, features, prompt=options.filter_prompt).score
            kept &= scores >= options.min_output_score
            self._warn_if_undefined(scores)
        if options.min_confidence_change is not None and kept.any():
            left = np.flatnonzero(kept)
            changes = confidence_changes(model, dictionary, [features[place] for place in left], prompt=options.filter_prompt)
            kept[left] = np.abs(changes) >= options.min_confidence_change
            self._warn_if_undefined(changes)
        return kept

    def _warn_if_undefined(self, values: NDArray[np.float64]) -> None:
        if np.isnan(values).any():
            self._bench.warn(
                f"{self._who}: features whose amplification gives no finite logits in {self._bench.model.dtype} do not pass the causal filters; "
                "--dtype float32 may help"
            )


def descending(scores: NDArray[np.float64], above: float, first: int = 4096) -> Iterator[NDArray[np.int64]]:
    """Yield the flat places of all ``scores`` greater than ``above``, best first, ties in order of place, in pieces that grow.

    A full sort of [labels, features] costs seconds and gigabytes where a few hundred pairs are wanted: here only the best of each row are
    looked at, and no copy of the scores is made. NaN is never greater.
    """
    rows = np.atleast_2d(scores)
    upper = np.inf
    while True:
        best = np.concatenate([_largest(row[(row > above) & (row < upper)], first) for row in rows])
        if not len(best):
            return
        limit = _largest(best, first).min()
        places = np.concatenate([np.flatnonzero((row >= limit) & (row < upper)) + number * rows.shape[1] for number, row in enumerate(rows)])
        yield places[np.argsort(-rows.reshape(-1)[places], kind="stable")]
        upper, first = limit, first * 8


def _largest(values: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """Return the ``n`` largest values in any order, or all where there are fewer."""
    return values if len(values) <= n else np.partition(values, len(values) - n)[len(values) - n :]
