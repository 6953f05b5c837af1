"""Opening a corpus, whatever its format: documents with labels, one after the other, again and again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal, get_args

from harness.data.reading import BOM, Fields, Reader, Skipped
from harness.errors import DataError, UnknownNameError
from harness.types import Document

Format = Literal["jsonl", "csv", "parquet", "fasttext", "axbench", "stackexchange"]

_KEPT_SKIPS = 1000
_HOPELESS = 10_000
_HEAD = 1 << 16


class Corpus:
    """Documents of a file or folder. Iterating reads it from the start; nothing is held but what names the skipped records.

    Attributes:
        path: what was opened.
        format: how it is read.
    """

    def __init__(self, path: Path, reader: Reader) -> None:
        self.path, self.format = path, reader.format
        self._reader = reader
        self._length: int | None = None
        self._n_skipped = 0
        self._skipped: list[Skipped] = []
        self._check()

    def __repr__(self) -> str:
        return f"Corpus({str(self.path)!r}, format={self.format!r})"

    def __iter__(self) -> Iterator[Document]:
        """The documents in the order of the file. The end of the first full pass fixes ``len`` and ``skipped``."""
        skipped: list[Skipped] = []
        length = n_skipped = 0
        for item in self._items():
            if isinstance(item, Document):
                length += 1
                yield item
            else:
                n_skipped += 1
                if len(skipped) < _KEPT_SKIPS:
                    skipped.append(item)
        self._length, self._n_skipped, self._skipped = length, n_skipped, skipped

    def __len__(self) -> int:
        """Number of documents; reads the corpus through if that has not happened yet."""
        self._pass()
        return self._length or 0

    @property
    def skipped(self) -> list[Skipped]:
        """The records that could not be used, the first 1,000 of them; reads the corpus through if that has not happened yet."""
        self._pass()
        return list(self._skipped)

    @property
    def n_skipped(self) -> int:
        """Number of records that could not be used."""
        self._pass()
        return self._n_skipped

    def _pass(self) -> None:
        if self._length is None:
            for _ in self:
                pass

    def _items(self) -> Iterator[Document | Skipped]:
        """What the reader finds, a repeated id being a reason to skip."""
        seen: set[int] = set()  # hashes: 64 bits are enough to tell ids apart, and small enough to keep
        for item in self._reader.read():
            if self._reader.own_ids and isinstance(item, Document):
                key = hash(item.id)
                if key in seen:
                    yield Skipped(str(self.path), None, f"a second document with the id {item.id!r}")
                    continue
                seen.add(key)
            yield item

    def _check(self) -> None:
        """Refuse a corpus without a document among its first records."""
        first: Skipped | None = None
        count = 0
        for item in islice(self._items(), _HOPELESS):
            if isinstance(item, Document):
                return
            count += 1
            first = first or item
        if first is None:
            raise DataError(f"{self.path} ({self.format}) holds no document; give a corpus that has some")
        raise DataError(f"{self.path} ({self.format}) holds no document that can be used: {count} records were skipped, the first: {first}")


def open_corpus(
    path: str | Path,
    *,
    format: Format | None = None,
    text_field: str | None = None,
    label_field: str | None = None,
    id_field: str | None = None,
    label_separator: str | None = None,
    comments: bool = True,
    code_blocks: bool = True,
) -> Corpus:
    """Open a labelled corpus; its format is told by its content.

    ============= ==========================================================================================================
    format        what it is
    ============= ==========================================================================================================
    jsonl         JSON objects, one a line
    csv           comma- or tab-separated rows under a header
    parquet       a Parquet table
    fasttext      lines with ``__label__x`` words
    axbench       a folder with ``train_data.parquet``: replies, labelled with the concept that they express
    stackexchange a dump's folder, or its ``Posts.xml``: questions, labelled with their tags
    ============= ==========================================================================================================

    Records that cannot be used are skipped, counted and named in ``corpus.skipped``; a file that was cut off is used up to the break.

    Args:
        path: a file or folder.
        format: overrides what the content tells.
        text_field: column or key of the text (jsonl, csv, parquet); else the first of text, body, content, output that is there.
        label_field: column or key of the labels (a list, or one string); else the first of labels, label, tags, concept, if any.
        id_field: column or key of the id; else ``id`` or ``_id``, else the row's number.
        label_separator: splits a label field that is one string, e.g. ``","``.
        comments: append other users' comments to a question (stackexchange).
        code_blocks: keep code that stands in blocks (stackexchange).

    Raises:
        DataError: nothing there, a format that is not known, no document in it, or a named field that is not there.
        UnknownNameError: ``format`` is none of the above.
    """
    path = Path(path)
    if format is not None and format not in get_args(Format):
        raise UnknownNameError("corpus format", format, get_args(Format))
    if not path.exists():
        raise DataError(f"there is no corpus at {path}; give a file or a folder")
    chosen = format or detect(path)
    fields = Fields(text_field, label_field, id_field, label_separator)
    if chosen not in ("jsonl", "csv", "parquet") and fields != Fields():
        raise DataError(f"{path} is read as {chosen}, which has no fields; leave out text_field, label_field, id_field and label_separator")
    try:
        return Corpus(path, _reader(path, chosen, fields, comments, code_blocks))
    except OSError as error:
        raise DataError(f"the corpus {path} cannot be read as {chosen} ({error.strerror or error})") from error


def detect(path: Path) -> Format:
    """The format of a corpus, by what it holds. Raises DataError, naming what was found, where that is none of the known ones."""
    if path.is_dir():
        names = sorted(item.name for item in path.iterdir())
        for name, found in (("Posts.xml", "stackexchange"), ("train_data.parquet", "axbench")):
            if name in names:
                return found  # type: ignore[return-value]
        listed = ", ".join(names[:8]) or "nothing"
        raise DataError(f"the folder {path} is no corpus (no Posts.xml or train_data.parquet); it holds {listed}: name a file")
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if head.startswith(b"PAR1"):
        return "parquet"
    start = head.removeprefix(BOM).lstrip()
    if not start:
        raise DataError(f"{path} is empty; give a corpus that has documents")
    line = start.splitlines()[0]
    if line.startswith(b"{"):
        return "jsonl"
    if line.startswith(b"__label__"):
        return "fasttext"
    if start.startswith(b"<") and b"<posts" in start:
        return "stackexchange"
    if not line.startswith((b"[", b"<")) and b"\0" not in head and (b"," in line or b"\t" in line):
        return "csv"
    begins = line[:40].decode("utf-8", errors="replace")
    raise DataError(f"{path} is in no known format (it begins with {begins!r}); known: {', '.join(get_args(Format))}; give format=")


@dataclass(frozen=True)
class CorpusStats:
    """What is in a corpus. ``labels`` maps each label to its number of documents, most frequent first; white space separates ``words``."""

    documents: int
    words: int
    unlabelled: int
    skipped: int
    labels: Mapping[str, int]

    def with_support(self, least: int) -> list[str]:
        """The labels of at least so many documents."""
        return [label for label, support in self.labels.items() if support >= least]


def corpus_stats(corpus: Corpus) -> CorpusStats:
    """Count documents, words and labels in one pass."""
    labels: Counter[str] = Counter()
    documents = words = unlabelled = 0
    for document in corpus:
        documents += 1
        words += len(document.text.split())
        unlabelled += not document.labels
        labels.update(document.labels)
    ordered = dict(sorted(labels.items(), key=lambda item: (-item[1], item[0])))
    return CorpusStats(documents, words, unlabelled, corpus.n_skipped, ordered)


def _reader(path: Path, format: Format, fields: Fields, comments: bool, code_blocks: bool) -> Reader:
    # Imported here, so that opening one format does not load what another needs.
    if format == "jsonl":
        from harness.data.jsonl import JsonLinesReader

        return JsonLinesReader(path, fields)
    if format in ("csv", "parquet"):
        from harness.data.tables import CsvReader, ParquetReader

        return CsvReader(path, fields) if format == "csv" else ParquetReader(path, fields)
    if format == "fasttext":
        from harness.data.fasttext import FastTextReader

        return FastTextReader(path)
    if format == "axbench":
        from harness.data.axbench import AxBenchReader

        return AxBenchReader(path)
    from harness.data.stackexchange import POSTS, StackExchangeReader

    return StackExchangeReader(path / POSTS if path.is_dir() else path, comments=comments, code_blocks=code_blocks)
