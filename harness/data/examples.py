"""Texts of a corpus by place, each read when it is asked for: as they are, and as examples of a concept for methods that are fitted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar, overload

import numpy as np

from harness.types import Document, Example

T = TypeVar("T")
Places = np.ndarray[Any, np.dtype[np.int64]]


class Picked(Sequence[T], Generic[T]):
    """The items at some places, each read when it is asked for.

    Args:
        places: ``[items]``.
        read: the item at a place.
    """

    def __init__(self, places: Places, read: Callable[[int], T]) -> None:
        self._places, self._read = places, read

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        if isinstance(index, slice):
            return [self._read(int(place)) for place in self._places[index]]
        return self._read(int(self._places[index]))


class CorpusExamples(Picked[Example]):
    """Some texts of a corpus, each with or without a label.

    Args:
        corpus: documents by place.
        places: of the examples, ``[examples]``.
        labelled: places of all texts with the label.

    Attributes:
        positive: ``[examples]`` bool: the text has the label. Known without reading a text.
    """

    def __init__(self, corpus: Sequence[Document], places: Places, labelled: Places) -> None:
        super().__init__(places, self._example)
        self._corpus, self._labelled = corpus, frozenset(labelled.tolist())
        self.positive: np.ndarray[Any, np.dtype[np.bool_]] = np.isin(places, labelled)

    def _example(self, place: int) -> Example:
        document = self._corpus[place]
        return Example(document.instruction, document.text, place in self._labelled, not document.labels, document.genre)


def corpus_texts(corpus: Sequence[Document], places: Places) -> Picked[str]:
    """Return the texts at ``places`` of a corpus."""
    return Picked(places, lambda place: corpus[place].text)
