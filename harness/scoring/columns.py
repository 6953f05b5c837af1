"""A sparse matrix of texts, column by column: blocks of features whose entries fit into memory, cut from rows that may lie on disk."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.scoring import kernels
from harness.scoring.checks import IntArray, ScoringError, check_binary
from harness.scoring.kernels import Compiled, compiled

Array = NDArray[Any]

ENTRIES = 1 << 27
"""Entries of the matrix that are held at once (4 bytes each while counting, about 16 while ranking)."""
PACKED_TEXTS = 1 << 24
"""Number of texts up to which a text and a bin share four bytes."""
MOST_THRESHOLDS = 254
_NEAR = 1 << 14
"""Number of texts that are ordered together by their number of labels."""


@dataclass(frozen=True, eq=False)
class Matrix:
    """The rows of a sparse matrix that count, as its own arrays (views, nothing copied).

    Attributes:
        indptr: ``[all texts + 1]`` int64.
        indices, data: the matrix' entries.
        rows: int64: the rows that count, in an order that is good for reading and counting; a row that is listed twice counts twice.
        n_features: columns.
    """

    indptr: IntArray
    indices: Array
    data: Array
    rows: IntArray
    n_features: int

    @property
    def n(self) -> int:
        return len(self.rows)


@dataclass(frozen=True, eq=False)
class LabelTable:
    """The labels of each text, in the order of :attr:`Matrix.rows`.

    Attributes:
        ptr, ids: the labels of text i are ``ids[ptr[i]:ptr[i + 1]]`` (unsigned, so that compiled code need not look for negative indices).
        support: ``[labels]`` int64, texts of each.
    """

    ptr: IntArray
    ids: NDArray[np.uint32]
    support: IntArray


@dataclass(frozen=True, eq=False)
class Block:
    """The entries of features ``first`` to ``first + len(starts) − 1``; those of the j-th are ``starts[j]:starts[j + 1]``, by ascending text.

    Attributes:
        codes: place of the text in :attr:`Matrix.rows` · 256 + bin (counting), or the place alone (ranking).
        values: ranking only: the entries' values.
    """

    first: int
    starts: IntArray
    codes: Array
    values: Array | None = None

    @property
    def width(self) -> int:
        return len(self.starts) - 1


def read_matrix(frequencies: Any, labels: Any, rows: ArrayLike | None = None) -> tuple[Matrix, LabelTable]:
    """Return the matrix and the labels, checked, for the texts that count.

    Args:
        frequencies: scipy sparse ``[texts, features]``, float32 or float64, without duplicates; csr is not copied.
        labels: scipy sparse or dense ``[texts, labels]`` of 0/1.
        rows: which texts count: a mask ``[texts]`` or row numbers; none for all.

    Raises:
        ScoringError: another type, other texts, rows out of bounds, a label that is neither 0 nor 1, a damaged matrix.
    """
    from scipy import sparse

    if not sparse.issparse(frequencies):
        kind = type(frequencies).__name__
        raise ScoringError(f"frequencies are a {kind}", given=kind, allowed="a scipy sparse matrix", hint="use scipy.sparse.csr_matrix")
    if frequencies.dtype not in (np.float32, np.float64):
        dtype = str(frequencies.dtype)
        raise ScoringError(f"frequencies are {dtype}", given=dtype, allowed=("float32", "float64"), hint="convert them first")
    if frequencies.shape[0] != labels.shape[0]:
        message = f"labels are of {labels.shape[0]} texts"
        raise ScoringError(message, given=labels.shape[0], allowed=f"the {frequencies.shape[0]} texts of the frequencies")
    if frequencies.format != "csr":
        frequencies = frequencies.tocsr()
    indptr = np.asarray(frequencies.indptr, dtype=np.int64)
    indices, data = _fixed(frequencies.indices), _fixed(frequencies.data)
    if indptr[0] != 0 or (np.diff(indptr) < 0).any() or indptr[-1] > min(len(indices), len(data)):
        message = "frequencies have row pointers that do not ascend within their entries, so the matrix is damaged"
        raise ScoringError(message, hint="make the matrix again")
    wanted = _rows(rows, frequencies.shape[0])
    by_text = sparse.csr_matrix(labels)[wanted]
    by_text.sum_duplicates()
    check_binary(by_text.data)
    by_text.eliminate_zeros()
    # Texts with as many labels as their neighbours are counted twice as fast, as the processor foresees the end of the inner loop.
    order = np.lexsort((np.diff(by_text.indptr), np.arange(len(wanted)) // _NEAR))
    wanted, by_text = wanted[order], by_text[order]
    support = np.bincount(by_text.indices, minlength=by_text.shape[1]).astype(np.int64)
    table = LabelTable(by_text.indptr.astype(np.int64), by_text.indices.astype(np.uint32), support)
    return Matrix(indptr, indices, data, wanted, frequencies.shape[1]), table


def grid(thresholds: Sequence[float], dtype: np.dtype[Any]) -> tuple[Array, IntArray]:
    """Return the thresholds ascending, as numbers of ``dtype`` (so numpy compares ``array > float``), and each one's place in what was given.

    Raises:
        ScoringError: none, more than 254, one below 0 or NaN.
    """
    given = np.asarray(thresholds, dtype=np.float64)
    if given.ndim != 1 or not 1 <= len(given) <= MOST_THRESHOLDS or not (given >= 0).all():
        shown = f"{list(thresholds)}" if len(given.shape) == 1 and given.size <= 16 else f"{given.size} numbers"
        raise ScoringError(f"thresholds are {shown}", given=thresholds, allowed=f"1 to {MOST_THRESHOLDS} numbers of at least 0")
    order = np.argsort(given, kind="stable")
    with np.errstate(over="ignore"):
        return given[order].astype(dtype), order


def binned_blocks(matrix: Matrix, limits: Array) -> Iterator[Block]:
    """Yield all features, ascending, in blocks of at most :data:`ENTRIES` entries.

    Each entry's value has become the number of ``limits`` below it.
    """
    scale, table = _cells(limits)
    dtype = np.uint32 if matrix.n <= PACKED_TEXTS else np.uint64
    for cut in _cuts(matrix, ENTRIES):
        codes = np.empty(int(cut.starts[-1]), dtype=dtype)
        _scatter(compiled(kernels.scatter_bins), matrix, cut, limits, scale, table, codes)
        yield Block(cut.first, cut.starts, codes)


def valued_blocks(matrix: Matrix) -> Iterator[Block]:
    """Yield all features, ascending, in blocks of at most :data:`ENTRIES` / 4 entries, with their values."""
    for cut in _cuts(matrix, max(1, ENTRIES // 4)):
        codes = np.empty(int(cut.starts[-1]), dtype=np.int64)
        values = np.empty(len(codes), dtype=matrix.data.dtype)
        _scatter(compiled(kernels.scatter_values), matrix, cut, codes, values)
        yield Block(cut.first, cut.starts, codes, values)


def in_threads(work: Callable[[int], None], n: int, done: Callable[[int], None] | None = None) -> None:
    """``work(0)`` to ``work(n − 1)``, in :func:`n_threads` threads; ``done`` is called with each number, in order."""
    threads = min(n, n_threads())
    if threads <= 1:
        for i in range(n):
            work(i)
            if done is not None:
                done(i)
        return
    with ThreadPoolExecutor(threads) as pool:
        try:
            for i, _ in enumerate(pool.map(work, range(n))):
                if done is not None:
                    done(i)
        except BaseException:
            pool.shutdown(cancel_futures=True)  # what has begun ends, nothing else begins
            raise


def n_threads() -> int:
    """Return ``OMP_NUM_THREADS`` where it is set, as for the libraries below us; else the processors that this process may use."""
    wanted = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if wanted.isdecimal() and int(wanted) > 0:
        return int(wanted)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def shares(cost: Array, pieces: int) -> list[int]:
    """Return borders of at most ``pieces`` consecutive parts of ``cost`` ``[items]`` of about equal sums, from 0 to the number of items."""
    total = np.concatenate([[0], np.cumsum(cost, dtype=np.int64)])
    borders = np.searchsorted(total, np.linspace(0, total[-1], pieces + 1)[1:-1])
    return sorted({0, *(int(border) for border in borders), len(cost)})


@dataclass(frozen=True, eq=False)
class _Cut:
    """Which entries a block takes: its first feature, where each feature's entries start, and where those of each piece of the rows go."""

    first: int
    starts: IntArray
    cursors: IntArray
    pieces: list[int]


def _cuts(matrix: Matrix, entries: int) -> Iterator[_Cut]:
    """Return the blocks of at most ``entries`` entries; a feature that has more is a block of its own."""
    pieces = shares(np.diff(matrix.indptr)[matrix.rows] + 1, n_threads())
    counts = np.zeros((len(pieces) - 1, matrix.n_features), dtype=np.int64)
    within = np.ones(len(counts), dtype=bool)
    count = compiled(kernels.column_counts)

    def tally(piece: int) -> None:
        within[piece] = count(matrix.indptr, matrix.indices, matrix.rows, pieces[piece], pieces[piece + 1], counts[piece])

    in_threads(tally, len(counts))
    if not within.all():
        raise ScoringError(
            "frequencies hold a feature that does not exist, so the matrix is damaged or too narrow",
            allowed=f"features 0 to {matrix.n_features - 1}",
            hint="make the matrix again",
        )
    ends = np.cumsum(counts.sum(axis=0))
    first = 0
    while first < matrix.n_features:
        before = int(ends[first - 1]) if first else 0
        last = max(first + 1, int(np.searchsorted(ends, before + entries, side="right")))
        starts = np.concatenate([[0], ends[first:last] - before])
        part = counts[:, first:last]
        yield _Cut(first, starts, starts[:-1] + np.cumsum(part, axis=0) - part, pieces)
        first = last


def _scatter(loop: Compiled[None], matrix: Matrix, cut: _Cut, *rest: Any) -> None:
    """Run a loop that sorts entries into columns over all pieces of the rows; ``rest`` are its last arguments."""

    def fill(piece: int) -> None:
        low, high = cut.pieces[piece], cut.pieces[piece + 1]
        loop(matrix.indptr, matrix.indices, matrix.data, matrix.rows, low, high, cut.first, cut.cursors[piece], *rest)

    in_threads(fill, len(cut.pieces) - 1)


def _cells(limits: Array) -> tuple[Any, NDArray[np.uint8]]:
    """Return what a value is multiplied with to get its cell, and how many limits have a lower cell than each cell."""
    finite = limits[np.isfinite(limits)]
    largest = float(finite.max(initial=0))
    with np.errstate(over="ignore", invalid="ignore"):
        scale = limits.dtype.type((kernels.CELLS - 2) / largest if largest > 1e-30 else 1)
        cells = np.minimum(limits * scale, kernels.CELLS - 1).astype(np.int64)
    return scale, np.searchsorted(cells, np.arange(kernels.CELLS), side="left").astype(np.uint8)


def _rows(rows: ArrayLike | None, n_texts: int) -> IntArray:
    """Return row numbers, ascending, from a mask, from row numbers, or all."""
    if rows is None:
        return np.arange(n_texts, dtype=np.int64)
    given = np.asarray(rows)
    if given.dtype == bool:
        if given.shape != (n_texts,):
            allowed = f"one value for each of {n_texts} texts"
            raise ScoringError(f"the mask of rows has the shape {given.shape}", given=given.shape, allowed=allowed)
        return np.flatnonzero(given).astype(np.int64)
    if given.ndim != 1 or (given.size and given.dtype.kind not in "iu"):
        message = f"rows are {given.dtype} of shape {given.shape}"
        raise ScoringError(message, given=given.shape, allowed="a mask, or a list of row numbers")
    if given.size and (given.min() < 0 or given.max() >= n_texts):
        wrong = int(given.min() if given.min() < 0 else given.max())
        raise ScoringError(f"row {wrong} does not exist", given=wrong, allowed=f"0 to {n_texts - 1}")
    return np.sort(given.astype(np.int64))


def _fixed(array: Any) -> Array:
    """Return the array itself, as plain and read-only: one compiled loop serves memory-mapped and other arrays."""
    view = np.ascontiguousarray(array).view(np.ndarray)[:]
    view.flags.writeable = False
    return view
