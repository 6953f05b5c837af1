"""fastText's training format: a text a line, with its labels as words that begin with ``__label__``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from harness.data.reading import Skipped, lines
from harness.types import Document

PREFIX = "__label__"


class FastTextReader:
    """Lines like ``__label__sauce __label__cheese How much does …``; ids are line numbers, from 1."""

    format = "fasttext"
    own_ids = False

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> Iterator[Document | Skipped]:
        for number, (offset, line) in enumerate(lines(self._path), 1):
            try:
                words = line.decode("utf-8").split()
            except UnicodeDecodeError as error:
                yield Skipped(str(self._path), offset, f"not valid UTF-8 ({error.reason})")
                continue
            if not words:
                continue
            labels = frozenset(word[len(PREFIX) :] for word in words if word.startswith(PREFIX) and len(word) > len(PREFIX))
            text = " ".join(word for word in words if not word.startswith(PREFIX))
            yield Document(str(number), text, labels) if text else Skipped(str(self._path), offset, "labels without a text")
