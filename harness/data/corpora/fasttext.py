"""fastText's training format: a text a line, with its labels as words that begin with ``__label__``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from harness.data.corpora.reading import CUT_LINE, Line, Place, Record, Report, SkipLog, Skipped, line_at, lines, vanished
from harness.types import Document

PREFIX = "__label__"


class FastTextReader:
    """Lines like ``__label__sauce __label__cheese How much does …``; ids are line numbers, from 1.

    A last line without a line end is not used: nothing else would tell where a file was cut off.
    """

    format = "fasttext"
    own_ids = False
    by_bytes = True
    content = ""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.files: tuple[Path, ...] = (path,)

    @property
    def extent(self) -> int:
        return self._path.stat().st_size

    def check(self) -> None:
        """Lines have no fields that could be missing."""

    def prepare(self, report: Report) -> SkipLog:
        return SkipLog()

    def records(self) -> Iterator[Record | Skipped]:
        for number, line in enumerate(lines(self._path), 1):
            if line.content.strip():
                found = _record(line, number)
                yield Skipped(str(self._path), line.offset, found) if isinstance(found, str) else found

    def at(self, place: Place) -> Document:
        found = _record(line_at(self._path, place.start), place.number)
        if isinstance(found, str):
            raise vanished(self._path, place.start)
        return found.document()


def _record(line: Line, number: int) -> Record | str:
    if line.fault:
        return line.fault
    try:
        words = line.content.decode("utf-8").split()
    except UnicodeDecodeError as error:
        return f"not valid UTF-8 ({error.reason})"
    if not line.ended:
        return CUT_LINE
    labels = frozenset(word[len(PREFIX) :] for word in words if word.startswith(PREFIX) and len(word) > len(PREFIX))
    text = " ".join(word for word in words if not word.startswith(PREFIX))
    return Record(Place(line.offset, number), str(number), labels, text) if text else "labels without a text"
