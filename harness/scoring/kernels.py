"""The loops of counting, compiled by numba the first time that they are called.

Plain Python functions over arrays, so that this module imports nothing heavy and each loop can be read and tested as it stands;
:func:`compiled` gives the machine code. They check nothing: :mod:`harness.scoring.columns` and :mod:`harness.scoring.counting` hand them arrays whose
indices are within bounds. None of them holds the interpreter's lock, so that several threads can work on blocks of their own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cache
from typing import Any, Generic, TypeVar, cast

from numpy.typing import NDArray

from harness.scoring.checks import ScoringError

Array = NDArray[Any]
R = TypeVar("R")

CELLS = 1024
"""Cells of the table that leads from a value to its bin."""


class Compiled(Generic[R]):
    """A function as machine code, kept on disk between processes where that is possible and made anew in each process where it is not."""

    def __init__(self, function: Callable[..., R]) -> None:
        self._function = function
        self._lock = threading.Lock()
        self._kept: Callable[..., R] | None = None
        self._fresh: Callable[..., R] | None = None

    def __call__(self, *args: Any) -> R:
        code = self._code(fresh=False)
        try:
            return code(*args)
        except Exception:
            # The loops raise nothing, so this came before they began: a full disk, a damaged file. A real error comes again.
            fresh = self._code(fresh=True)
            if code is fresh:
                raise
            return fresh(*args)

    def _code(self, fresh: bool) -> Callable[..., R]:
        """Return what to call: made without the disk if ``fresh``, or once that was needed."""
        with self._lock:
            if self._fresh is None and not fresh and self._kept is None:
                try:
                    self._kept = self._compile(keep=True)
                except RuntimeError:  # there is no folder that could be written to
                    fresh = True
            if self._fresh is None and fresh:
                self._fresh = self._compile(keep=False)
            code = self._fresh or self._kept
        assert code is not None
        return code

    def _compile(self, keep: bool) -> Callable[..., R]:
        try:
            import numba
        except ImportError as error:
            message = f"counting needs the package numba, which cannot be imported ({error})"
            raise ScoringError(message, given="numba", hint="pip install -U numba") from error
        return cast("Callable[..., R]", numba.njit(nogil=True, cache=keep, error_model="numpy")(self._function))


@cache
def compiled(function: Callable[..., R]) -> Compiled[R]:
    """Return ``function`` (one of this module's) as machine code."""
    return Compiled(function)


def column_counts(indptr: Array, indices: Array, rows: Array, low: int, high: int, counts: Array) -> bool:
    """Add to ``counts`` ``[features]`` how many entries each column has in ``rows[low:high]``; False if an index is out of bounds."""
    for i in range(low, high):
        for k in range(indptr[rows[i]], indptr[rows[i] + 1]):
            column = indices[k]
            if column < 0 or column >= len(counts):
                return False
            counts[column] += 1
    return True


def scatter_bins(
    indptr: Array, indices: Array, data: Array, rows: Array, low: int, high: int, first: int,
    cursor: Array, thresholds: Array, scale: Any, table: Array, out: Array,
) -> None:  # fmt: skip
    """Sort the entries of ``rows[low:high]`` into columns, as ``place in rows · 256 + bin``; a value's bin is the number of thresholds below it.

    ``cursor`` ``[columns of the block]`` says where in ``out`` each column's next entry goes; the block's first column is ``first``. The value's cell
    in ``table`` gives the thresholds of lower cells, all of them below it since cells ascend with values; the rest are compared one by one.
    """
    for i in range(low, high):
        for k in range(indptr[rows[i]], indptr[rows[i] + 1]):
            column = indices[k] - first
            if column < 0 or column >= len(cursor):
                continue
            value = data[k]
            found = 0
            if value > 0:  # not so for NaN
                scaled = value * scale
                cell = CELLS - 1 if scaled >= CELLS - 1 else int(scaled)
                found = int(table[cell])
                while found < len(thresholds) and value > thresholds[found]:
                    found += 1
            out[cursor[column]] = (i << 8) | found
            cursor[column] += 1


def scatter_values(
    indptr: Array, indices: Array, data: Array, rows: Array, low: int, high: int, first: int, cursor: Array, texts: Array, values: Array
) -> None:
    """Sort the entries of ``rows[low:high]`` into columns: place in ``rows`` to ``texts``, value to ``values`` (see :func:`scatter_bins`)."""
    for i in range(low, high):
        for k in range(indptr[rows[i]], indptr[rows[i] + 1]):
            column = indices[k] - first
            if column < 0 or column >= len(cursor):
                continue
            texts[cursor[column]] = i
            values[cursor[column]] = data[k]
            cursor[column] += 1


def histograms(codes: Array, starts: Array, label_ptr: Array, label_ids: Array, counts: Array, by_bin: Array) -> None:
    """Count the entries ``codes[starts[g]:starts[g + 1]]`` of each column g by bin, ``by_bin`` ``[columns, bins]``, and by bin and label, ``counts``
    ``[columns, bins, labels]``, of which the rows of empty bins are left as they are. The labels of text r are
    ``label_ids[label_ptr[r]:label_ptr[r + 1]]``."""
    for g in range(len(starts) - 1):
        in_bin = by_bin[g]
        in_bin[:] = 0
        for p in range(starts[g], starts[g + 1]):
            in_bin[codes[p] & 255] += 1
        for b in range(len(in_bin)):
            if in_bin[b] > 0:
                counts[g, b, :] = 0
        table = counts[g]
        for p in range(starts[g], starts[g + 1]):
            row = table[codes[p] & 255]
            text = codes[p] >> 8
            for q in range(label_ptr[text], label_ptr[text + 1]):
                row[label_ids[q]] += 1


def best_bins(
    counts: Array, by_bin: Array, support: Array, n: int, odds: float, calibrated: bool, score: Array, bins: Array
) -> None:  # fmt: skip
    """Turn :func:`histograms` into sums from the highest bin down (in place), and find the lowest bin of the best prediction of each pair.

    All labels at once, so that the inner loops are free of branches and one instruction does several labels; for that this function is also apart
    from :func:`at_bins`. Empty bins are passed over. The arithmetic is that of ``calibrated_f1`` and ``f1``, operation by operation; ``support`` is
    float64. ``score`` and ``bins`` (int64, 0 where nothing is ever predicted) are ``[columns, labels]``.
    """
    for g in range(counts.shape[0]):
        for label in range(len(support)):
            score[g, label] = -1.0
            bins[g, label] = 0
        above, last = 0, 0
        for b in range(by_bin.shape[1] - 1, 0, -1):
            if by_bin[g, b] == 0:
                continue
            above += by_bin[g, b]
            by_bin[g, b] = above
            if last > 0:
                for label in range(len(support)):
                    counts[g, b, label] += counts[g, last, label]
            last = b
            if calibrated:
                for label in range(len(support)):
                    true = float(counts[g, b, label])
                    false = support[label] * ((above - true) / (n - support[label])) * odds
                    value = 2.0 * true / (2.0 * true + false + (support[label] - true))
                    better = value >= score[g, label]
                    score[g, label] = value if better else score[g, label]
                    bins[g, label] = b if better else bins[g, label]
            else:
                for label in range(len(support)):
                    true = float(counts[g, b, label])
                    value = 2.0 * true / (2.0 * true + (above - true) + (support[label] - true))
                    better = value >= score[g, label]
                    score[g, label] = value if better else score[g, label]
                    bins[g, label] = b if better else bins[g, label]


def at_bins(
    counts: Array, by_bin: Array, support: Array, n: int, lower: Array, score: Array, bins: Array, place: Array, tp: Array, fp: Array
) -> None:
    """What :func:`best_bins` found as threshold (``place`` among the ascending ones), TP and FP, ``[columns, labels]``.

    Thresholds between which no value lies predict the same texts, and the lowest of them is meant: ``lower`` ``[bins]`` is scratch for it.
    """
    for g in range(counts.shape[0]):
        last = 0
        for b in range(by_bin.shape[1]):
            lower[b] = last
            if b > 0 and by_bin[g, b] > 0:
                last = b
        for label in range(len(support)):
            b = bins[g, label]
            valid = 0 < support[label] < n
            if not valid or b == 0:
                score[g, label] = 0.0 if valid else float("nan")
                place[g, label], tp[g, label], fp[g, label] = 0, 0, 0
            else:
                place[g, label] = lower[b]
                tp[g, label] = counts[g, b, label]
                fp[g, label] = by_bin[g, b] - counts[g, b, label]


def rank_sums(
    starts: Array,
    texts: Array,
    values: Array,
    label_ptr: Array,
    label_ids: Array,
    support: Array,
    n: int,
    sums: Array,
    found: Array,
    out: Array,
) -> bool:
    """Write AUROC of each column and label into ``out`` ``[labels, columns]``, from entries sorted by value; return False if one is NaN.

    Twice the mid-rank of a group of equal values is (its first rank + its last), a whole number, so nothing is rounded before the last division.
    ``sums`` and ``found`` ``[labels]`` are scratch.
    """
    for g in range(len(starts) - 1):
        low, high = starts[g], starts[g + 1]
        sums[:] = 0
        found[:] = 0
        below, above = 0, 0
        for p in range(low, high):
            if values[p] < 0:
                below += 1
            elif values[p] > 0:
                above += 1
            elif values[p] != 0:
                return False
        zeros = n - below - above  # those that are stored and those that are not
        p = low
        while p < high:
            last = p
            while last < high and values[last] == values[p]:
                last += 1
            lower = p - low if values[p] < 0 else n - (high - p)
            if values[p] != 0:
                for entry in range(p, last):
                    text = texts[entry]
                    for q in range(label_ptr[text], label_ptr[text + 1]):
                        sums[label_ids[q]] += 2 * lower + (last - p) + 1
                        found[label_ids[q]] += 1
            p = last
        for label in range(len(support)):
            positives, negatives = support[label], n - support[label]
            doubled = sums[label] + (positives - found[label]) * (2 * below + zeros + 1) - positives * (positives + 1)
            out[label, g] = doubled / (2 * positives * negatives) if positives and negatives else float("nan")
    return True
