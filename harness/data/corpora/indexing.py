"""Making the index of a corpus: one pass that notes where each document is, its labels, what was skipped, and a digest of it all."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from harness.data.corpora.index import FORMAT, Column, Stored, file_state
from harness.data.corpora.labels import LabelWriter
from harness.data.corpora.reading import PARTS, Reader, Record, SkipLog, Skipped
from harness.types import Document, Json, canonical_json

_REPORT_EVERY = 1024
_BLOCK = 1 << 20
_DIGITS = 16


def state_of(reader: Reader) -> Json:
    """Return what tells that the files of a reader are still the same; a dataset that lies in no file is told by its content's name."""
    states = [[str(file.resolve()), *file_state(file)] for file in reader.files if file.is_file()]
    return states if states else [reader.content]


def unchanged(stored: Stored, files: Sequence[Path]) -> bool:
    """Return whether the files still have the size, times and inode that they had when the index was made: a few microseconds."""
    for file, state in zip(files, stored.state, strict=False):
        try:
            status = os.stat(file)
        except OSError:
            return len(state) == 1  # a dataset that lies in no file
        if [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino] != state[1:5]:
            return False
    return True


def build(
    folder: Path,
    reader: Reader,
    items: Iterator[Record | Skipped],
    options: Json,
    limit: int | None,
    progress: Callable[[int, int], None] | None,
) -> Json:
    """Write the index of a corpus into ``folder``, and answer with what else is kept of it.

    The digest covers the bytes of the file, the options of reading and what lies beside (Stack Exchange's comments). Where only the first
    documents are indexed, or rows have no bytes, it covers the documents themselves. Instructions, and genres and parts, have digests of their
    own, empty where there are none, since few evaluations depend on them.

    Args:
        folder: empty.
        reader: of the corpus.
        items: what it finds, repeated ids skipped already.
        options: of reading.
        limit: index the first so many documents; None: all.
        progress: called with (done, in all).
    """
    report = _Report(reader, progress)
    skips = SkipLog()
    skips.update(reader.prepare(report.beside))
    starts = Column(folder, "starts", "int64")
    numbers = Column(folder, "numbers", "int64") if reader.by_bytes else None
    labels = LabelWriter(folder)
    content: _Bytes | _Documents = _Bytes(reader) if reader.by_bytes else _Documents()
    context = _Context(folder)
    count = 0
    for item in items:
        if isinstance(item, Skipped):
            skips.add(item)
            continue
        starts.append(item.place.start)
        if numbers is not None:
            numbers.append(item.place.number)
        labels.add(item.labels)
        content.add(item)
        context.add(item, count)
        count += 1
        if count % _REPORT_EVERY == 0:
            report(item.place.start)
        if count == limit:
            content.stop(item)
            break
    names = labels.close()
    starts.close()
    if numbers is not None:
        numbers.close()
    report.finish()
    digests = {"digest": content.digest([FORMAT, options, reader.content]), **context.close()}
    return {"labels": names, "skipped": skips.to_json(reader.files), **digests}


class _Report:
    """Progress of two files as that of one: first what lies beside, then the corpus."""

    def __init__(self, reader: Reader, progress: Callable[[int, int], None] | None) -> None:
        self._progress = progress
        self._before = sum(file.stat().st_size for file in reader.files[1:]) if reader.by_bytes else 0
        self._total = self._before + reader.extent

    def beside(self, done: int) -> None:
        if self._progress is not None:
            self._progress(done, self._total)

    def __call__(self, done: int) -> None:
        self.beside(self._before + done)

    def finish(self) -> None:
        self.beside(self._total)


class _Bytes:
    """The bytes of a file, hashed behind the reader: they are in the system's memory then, so the disk is read once."""

    def __init__(self, reader: Reader) -> None:
        self._state = hashlib.sha256()
        self._path = reader.files[0]
        self._done = 0
        self._last: Document | None = None

    def add(self, record: Record) -> None:
        if record.place.start - self._done >= _BLOCK:
            self._upto(record.place.start)

    def stop(self, last: Record) -> None:
        """Nothing behind ``last`` counts: the bytes before it do, and itself."""
        self._upto(last.place.start)
        self._last = last.document()

    def digest(self, options: Json) -> str:
        if self._last is None:
            self._upto(None)
        last = None if self._last is None else _json(self._last)
        return hashlib.sha256(canonical_json([options, self._state.hexdigest(), last]).encode()).hexdigest()[:_DIGITS]

    def _upto(self, end: int | None) -> None:
        with self._path.open("rb") as file:
            file.seek(self._done)
            while block := file.read(_BLOCK if end is None else min(_BLOCK, end - self._done)):
                self._state.update(block)
                self._done += len(block)


class _Documents:
    """The documents, where they are no bytes of a file."""

    def __init__(self) -> None:
        self._state = hashlib.sha256()

    def add(self, record: Record) -> None:
        self._state.update(canonical_json(_json(record.document())).encode() + b"\n")

    def stop(self, last: Record) -> None:
        """It was added already."""

    def digest(self, options: Json) -> str:
        return self._state.hexdigest()[:_DIGITS]


class _Context:
    """What few evaluations depend on: instructions, and the genres and parts that a corpus states. Nothing is kept where there are none."""

    def __init__(self, folder: Path) -> None:
        self._parts = Column(folder, "parts", "int32")
        self._asked, self._stated = hashlib.sha256(), hashlib.sha256()
        self._any = {"asked": False, "stated": False, "parts": False}

    def add(self, record: Record, number: int) -> None:
        self._parts.append(PARTS.index(record.part) + 1 if record.part else 0)
        self._any["parts"] |= bool(record.part)
        if record.instruction:
            self._any["asked"] = True
            self._asked.update(canonical_json([number, record.instruction]).encode() + b"\n")
        if record.genre or record.part:
            self._any["stated"] = True
            self._stated.update(canonical_json([number, record.genre, record.part]).encode() + b"\n")

    def close(self) -> dict[str, str]:
        """Finish the array of parts, and return both digests; empty for what there is none of."""
        self._parts.close(discard=not self._any["parts"])
        found = {"asked": self._asked, "stated": self._stated}
        return {name: state.hexdigest()[:_DIGITS] if self._any[name] else "" for name, state in found.items()}


def _json(document: Document) -> list[Any]:
    return [document.id, document.text, sorted(document.labels)]
