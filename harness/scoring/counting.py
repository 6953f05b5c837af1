"""How well every feature predicts every label, from sparse feature frequencies, in one sweep over the entries.

Each frequency becomes a bin once: the number of thresholds below it. A feature's entries are counted by bin and label, in a table small enough
for the processor's first caches, and sums over the bins from above are the true positives at each threshold. So the time is that of the entries times
the labels of a text, and memory is the result and one block of entries (see :mod:`harness.scoring.columns`). The result depends neither on the blocks
nor on the number of threads (``OMP_NUM_THREADS``, else all processors).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.scoring import kernels
from harness.scoring.checks import FloatArray, IntArray, ScoringError, at_least, open_share
from harness.scoring.columns import Block, LabelTable, binned_blocks, grid, in_threads, n_threads, read_matrix, shares, valued_blocks
from harness.scoring.kernels import compiled

_COUNTS_AT_ONCE = 1 << 24
"""Counts that :func:`count_blocks` holds at once, by default."""
_TILE = 1 << 16
"""Counts of the table that a thread fills and scores at a time: 256 KB."""
_COLUMNS = 64
"""Features whose scores a thread gathers before it writes them to the result."""
_PIECES_PER_THREAD = 8


@dataclass(frozen=True, eq=False)
class Counts:
    """The counts of a block of features against every label at every threshold. FP = predicted − TP, FN = support − TP, TN the rest of n.

    Attributes:
        first_feature: the block's first.
        tp: ``[features, labels, thresholds]`` int32, thresholds in the order in which they were given.
        predicted: ``[features, thresholds]`` int32, texts above the threshold.
        support: ``[labels]`` int64, positives of each label.
        n: texts.
    """

    first_feature: int
    tp: NDArray[np.int32]
    predicted: NDArray[np.int32]
    support: IntArray
    n: int


@dataclass(frozen=True, eq=False)
class PairScores:
    """The best threshold of each pair. Arrays are ``[labels, features]``.

    Attributes:
        score: at the best threshold (ties to the lower threshold), float64; NaN for a label without positives or without negatives.
        threshold: index into the grid as it was given, uint8 (0 where the score is NaN).
        tp, fp: counts at that threshold, int32 (0 where the score is NaN).
        support: positives of each label, ``[labels]`` int64.
        n: texts.
    """

    score: FloatArray
    threshold: NDArray[np.uint8]
    tp: NDArray[np.int32]
    fp: NDArray[np.int32]
    support: IntArray
    n: int


def count_blocks(
    frequencies: Any, labels: Any, thresholds: Sequence[float], rows: ArrayLike | None = None, block: int | None = None
) -> Iterator[Counts]:
    """Yield the true positives of every (feature, label, threshold), a block of features at a time, ascending.

    Args:
        frequencies: scipy csr ``[texts, features]``, float32 or float64, without duplicates, possibly memory-mapped. A text is predicted positive
            where ``frequency > threshold``, as numpy compares an array with a number (the threshold is rounded to the array's type).
        labels: scipy sparse ``[texts, labels]`` of 0/1.
        thresholds: 1 to 254 shares, none below 0: what is not stored, and a stored 0, is never predicted.
        rows: which texts count: a mask ``[texts]`` or row numbers; none for all. The matrix is not copied.
        block: features per block; none takes as many as give blocks of about 64 MB.

    Raises:
        ScoringError: see the arguments; different texts in ``frequencies`` and ``labels``; a damaged matrix.
    """
    matrix, table = read_matrix(frequencies, labels, rows)
    limits, order = grid(thresholds, matrix.data.dtype)
    n_labels, n_bins = len(table.support), len(limits) + 1
    width = max(1, _COUNTS_AT_ONCE // (max(1, n_labels) * n_bins)) if block is None else at_least(block, 1, "block")
    back = np.argsort(order)

    def blocks() -> Iterator[Counts]:
        for part in binned_blocks(matrix, limits):
            for low in range(0, part.width, width):
                counts, by_bin = _histograms(part, low, min(low + width, part.width), table, n_bins)
                # above the j-th threshold are the bins from j + 1 on
                tp = np.cumsum(counts[:, :0:-1], axis=1, dtype=np.int32)[:, ::-1]
                predicted = np.cumsum(by_bin[:, :0:-1], axis=1, dtype=np.int32)[:, ::-1]
                yield Counts(part.first + low, tp[:, back].transpose(0, 2, 1), predicted[:, back], table.support, matrix.n)

    return blocks()


def best_pairs(
    frequencies: Any, labels: Any, thresholds: Sequence[float], pi0: float, *,
    score: Literal["calibrated-f1", "f1"] = "calibrated-f1", rows: ArrayLike | None = None, progress: Callable[[int, int], None] | None = None,
) -> PairScores:  # fmt: skip
    """Score every pair at its best threshold, as :func:`~harness.scoring.calibrated_f1` or :func:`~harness.scoring.f1` does, to the bit.

    Args:
        frequencies, labels, thresholds, rows: as in :func:`count_blocks`.
        pi0: reference prior of calibrated F1, strictly between 0 and 1.
        score: what to maximise.
        progress: called with (features done, features in all).

    Returns:
        17 bytes per pair; beyond that only blocks are held.

    Raises:
        ScoringError: as in :func:`count_blocks`; another score; ``pi0`` out of bounds.
    """
    odds = (1 - open_share(pi0, "pi0")) / pi0
    if score not in ("calibrated-f1", "f1"):
        hint = "use auroc_pairs for the AUROC"
        raise ScoringError(f"score is {score!r}", given=score, allowed=("calibrated-f1", "f1"), hint=hint)
    matrix, table = read_matrix(frequencies, labels, rows)
    limits, order = grid(thresholds, matrix.data.dtype)
    n_bins, shape = len(limits) + 1, (len(table.support), matrix.n_features)
    found = PairScores(
        np.empty(shape), np.empty(shape, np.uint8), np.empty(shape, np.int32), np.empty(shape, np.int32), table.support, matrix.n
    )
    outputs: tuple[NDArray[Any], ...] = (found.score, found.threshold, found.tp, found.fp)
    choose, look_up = compiled(kernels.best_bins), compiled(kernels.at_bins)
    tile = max(1, min(_COLUMNS, _TILE // (max(1, shape[0]) * n_bins)))
    support = table.support.astype(np.float64)

    def work(part: Block, low: int, high: int) -> None:
        counts, by_bin = _tables(tile, shape[0], n_bins)
        bins, lower = np.empty((tile, shape[0]), np.int64), np.empty(n_bins, np.int64)
        # filled feature by feature and then turned: rows of the result lie so far apart that single values would thrash the caches
        turned = [np.empty((_COLUMNS, shape[0]), dtype=array.dtype) for array in outputs]
        for start in range(low, high, _COLUMNS):
            end = min(start + _COLUMNS, high)
            for first in range(start, end, tile):
                last = min(first + tile, end)
                full, places = counts[: last - first], slice(first - start, last - start)
                _fill(part, first, last, table, full, by_bin)
                choose(full, by_bin, support, matrix.n, odds, score == "calibrated-f1", turned[0][places], bins)
                look_up(full, by_bin, support, matrix.n, lower, turned[0][places], bins, *(array[places] for array in turned[1:]))
            for array, columns in zip(outputs, turned, strict=True):
                array[:, part.first + start : part.first + end] = columns[: end - start].T

    for part in binned_blocks(matrix, limits):
        _by_pieces(part, work, progress, matrix.n_features)
    if (order != np.arange(len(order))).any():
        given = order.astype(np.uint8)
        for label in np.flatnonzero((table.support > 0) & (table.support < matrix.n)):
            found.threshold[label] = given[found.threshold[label]]
    return found


def auroc_pairs(values: Any, labels: Any, rows: ArrayLike | None = None) -> FloatArray:
    """Return AUROC of every (label, feature).

    It is the share of (positive, negative) pairs of texts whose positive has the higher value; a tie counts half.

    Exact: whole numbers up to one division, so equal to :func:`~harness.scoring.auroc` on the dense column. What is not stored is 0, so a sparse
    feature has one great tie.

    Args:
        values: scipy csr ``[texts, features]``, float32 or float64, without duplicates and NaN (frequencies, or largest activations).
        labels, rows: as in :func:`count_blocks`.

    Returns:
        ``[labels, features]`` float64; NaN for a label without positives or without negatives.

    Raises:
        ScoringError: as in :func:`count_blocks`; NaN among the values.
    """
    matrix, table = read_matrix(values, labels, rows)
    out = np.empty((len(table.support), matrix.n_features))
    rank = compiled(kernels.rank_sums)

    def work(part: Block, low: int, high: int) -> None:
        assert part.values is not None
        starts = part.starts[low : high + 1]
        for begin, end in pairwise(starts):
            order = np.argsort(part.values[begin:end])
            part.values[begin:end], part.codes[begin:end] = part.values[begin:end][order], part.codes[begin:end][order]
        sums, hits = np.empty((2, len(table.support)), dtype=np.int64)
        if not rank(
            starts,
            part.codes,
            part.values,
            table.ptr,
            table.ids,
            table.support,
            matrix.n,
            sums,
            hits,
            out[:, part.first + low : part.first + high],
        ):
            raise ScoringError("values hold NaN", given=float("nan"), allowed="numbers", hint="leave out the texts without a value first")

    for part in valued_blocks(matrix):
        _by_pieces(part, work, None, matrix.n_features)
    return out


def confusion_at(frequencies: NDArray[Any], positive: NDArray[np.bool_], threshold: float) -> tuple[int, int, int, int]:
    """Return (tp, fp, fn, tn) of one feature's dense frequencies ``[texts]`` against one label at one threshold.

    They are compared as in :func:`count_blocks`.
    """
    predicted = np.asarray(frequencies) > float(threshold)
    tp, fp = int((predicted & positive).sum()), int((predicted & ~positive).sum())
    return tp, fp, int(positive.sum()) - tp, int((~positive).sum()) - fp


def _tables(width: int, n_labels: int, n_bins: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return room for :func:`_fill`."""
    return np.zeros((width, n_bins, n_labels), dtype=np.int32), np.empty((width, n_bins), dtype=np.int32)


def _fill(part: Block, low: int, high: int, table: LabelTable, counts: NDArray[np.int32], by_bin: NDArray[np.int32]) -> None:
    """Count the entries of the block's features ``low`` to ``high`` by bin and label, and by bin; ``counts`` of empty bins stay as they are."""
    compiled(kernels.histograms)(part.codes, part.starts[low : high + 1], table.ptr, table.ids, counts, by_bin)


def _histograms(part: Block, low: int, high: int, table: LabelTable, n_bins: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """:func:`_fill` for so many features that threads share the work."""
    counts, by_bin = _tables(high - low, len(table.support), n_bins)
    borders = shares(np.diff(part.starts[low : high + 1]) + 1, n_threads())

    def work(piece: int) -> None:
        a, b = borders[piece], borders[piece + 1]
        _fill(part, low + a, low + b, table, counts[a:b], by_bin[a:b])

    in_threads(work, len(borders) - 1)
    return counts, by_bin


def _by_pieces(part: Block, work: Callable[[Block, int, int], None], progress: Callable[[int, int], None] | None, n_features: int) -> None:
    """``work(part, low, high)`` for runs of features that cost about the same, in threads."""
    borders = shares(np.diff(part.starts) + 64, n_threads() * _PIECES_PER_THREAD)

    def done(piece: int) -> None:
        if progress is not None:
            progress(part.first + borders[piece + 1], n_features)

    in_threads(lambda piece: work(part, borders[piece], borders[piece + 1]), len(borders) - 1, done)
