"""Which document has which label: kept on disk by document and by label, memory-mapped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harness.data.corpora.index import Column, Stored, new_array
from harness.types import Json

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

_BLOCK = 1 << 20


class LabelTable:
    """The labels of a corpus.

    Attributes:
        names: the labels, sorted; a label's place in here is its column.
        support: ``[names]`` number of documents with each label.
    """

    def __init__(self, names: Sequence[str], arrays: Mapping[str, NDArray[Any]]) -> None:
        self.names = tuple(names)
        self._by_document, self._columns = arrays["row-ends"], arrays["columns"]
        self._by_label, self._documents = arrays["label-ends"], arrays["documents"]
        self.support: NDArray[np.int64] = np.diff(self._by_label, prepend=0).astype(np.int64)

    def __repr__(self) -> str:
        return f"LabelTable({len(self.names)} labels, {len(self._by_document)} documents)"

    @cached_property
    def matrix(self) -> csr_matrix:
        """Return a scipy csr matrix ``[documents, names]`` of uint8: 1 where the document has the label. Its columns are memory-mapped."""
        from scipy.sparse import csr_matrix

        ends = np.concatenate([np.zeros(1, self._columns.dtype), self._by_document.astype(self._columns.dtype)])
        ones = np.ones(len(self._columns), np.uint8)
        return csr_matrix((ones, self._columns, ends), shape=(len(self._by_document), len(self.names)), copy=False)

    @property
    def counts(self) -> NDArray[np.int64]:
        """Return ``[documents]`` number of labels of each document."""
        return np.diff(self._by_document, prepend=0).astype(np.int64)

    def of(self, name: str | None) -> NDArray[np.int64]:
        """Return numbers of the documents with this label, ascending; none for a label that no document has, and for None (a bare concept's)."""
        column = None if name is None else self._places.get(name)
        if column is None:
            return np.empty(0, np.int64)
        start = int(self._by_label[column - 1]) if column else 0
        return self._documents[start : int(self._by_label[column])].astype(np.int64)

    @cached_property
    def _places(self) -> dict[str, int]:
        return {name: column for column, name in enumerate(self.names)}


class LabelWriter:
    """Takes the labels of one document after the other, and writes what a :class:`LabelTable` reads. Holds one number for each label."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers: dict[str, int] = {}
        """Labels by the order in which they came."""
        self._ends = Column(folder, "row-ends", "int64")
        self._found = Column(folder, "found", "int32")
        self._total = 0

    def add(self, labels: frozenset[str]) -> None:
        """Add the labels of the next document."""
        numbers = self._numbers
        self._found.extend([numbers.setdefault(label, len(numbers)) for label in labels])
        self._total += len(labels)
        self._ends.append(self._total)

    def close(self) -> Json:
        """Finish the arrays; the names of the labels, to be kept with them."""
        ends, found = self._ends.close(), self._found.close(discard=True)
        names = sorted(self._numbers)
        rank = np.empty(len(names), np.int32)
        rank[[self._numbers[name] for name in names]] = np.arange(len(names), dtype=np.int32)
        support = np.zeros(len(names), np.int64)
        # scipy wants both of its index arrays to be of one type, and copies them where they are not
        columns = new_array(self._folder, "columns", "int32" if self._total < 2**31 else "int64", self._total)
        for first, last, start, stop in _blocks(ends):
            rows = np.repeat(np.arange(first, last), np.diff(ends[first:last], prepend=start))
            own = rank[found[start:stop]]
            columns[start:stop] = own[np.lexsort((own, rows))]
            support += np.bincount(own, minlength=len(names))
        label_ends = new_array(self._folder, "label-ends", "int64", len(names))
        label_ends[:] = np.cumsum(support)
        self._by_label(ends, columns, label_ends - support)
        for filled in (columns, label_ends):
            _flush(filled)
        return names

    def _by_label(self, ends: NDArray[Any], columns: NDArray[Any], free: NDArray[np.int64]) -> None:
        """The same pairs in the order of the labels. ``free`` is the next free place of each."""
        documents = new_array(self._folder, "documents", "int32" if len(ends) < 2**31 else "int64", self._total)
        for first, last, start, stop in _blocks(ends):
            rows = np.repeat(np.arange(first, last), np.diff(ends[first:last], prepend=start))
            own = np.asarray(columns[start:stop])
            order = np.argsort(own, kind="stable")
            counts = np.bincount(own, minlength=len(free))
            before = np.cumsum(counts) - counts
            ordered = own[order]
            documents[free[ordered] + np.arange(stop - start) - before[ordered]] = rows[order]
            free += counts
        _flush(documents)


def label_table(stored: Stored) -> LabelTable:
    """Return the labels of an opened index."""
    return LabelTable(stored.about["labels"], stored.arrays)


def _blocks(ends: NDArray[Any]) -> list[tuple[int, int, int, int]]:
    """Return (first document, last + 1, first pair, last + 1) of runs of documents, small enough to sort at once."""
    edges = [*range(0, len(ends), _BLOCK), len(ends)]
    pairs = [0, *(int(ends[edge - 1]) for edge in edges[1:])] if len(ends) else [0]
    return [(a, b, pairs[i], pairs[i + 1]) for i, (a, b) in enumerate(pairwise(edges)) if b > a]


def _flush(filled: NDArray[Any]) -> None:
    if isinstance(filled, np.memmap):
        filled.flush()
