"""A labelled corpus, whatever its format: documents one after the other, or any of them, and which of them have which label."""

from __future__ import annotations

import operator
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args, overload

from harness.data.corpora.axbench import tables_of
from harness.data.corpora.code import reading_code
from harness.data.corpora.on_the_hub import fetch_corpus, hub_name
from harness.data.corpora.reading import (
    BOM,
    CORPUS,
    DATASET_NAMES,
    DATASET_PREFIX,
    DUMP_PREFIX,
    PARTS,
    Fields,
    Place,
    Reader,
    Record,
    SeenIds,
    SkipLog,
    Skipped,
)
from harness.data.corpora.wrapped import named, named_as, plain_file
from harness.errors import DataError, UnknownNameError
from harness.files.csv_text import DELIMITERS
from harness.files.inputs import open_input
from harness.files.progress import Progress
from harness.hub.source import commit_in
from harness.types import Document, Json

if TYPE_CHECKING:
    from harness.data.corpora.index import Stored
    from harness.data.corpora.labels import LabelTable

Format = Literal["jsonl", "csv", "parquet", "fasttext", "axbench", "stackexchange", "huggingface"]

_WITH_FIELDS = ("jsonl", "csv", "parquet", "huggingface")
_FIRST_RECORDS = 10_000
"""A corpus without a document among so many records is refused."""
_CSV_VERSION = 2
"""Part of a CSV file's digest: raised when its rows are read in another way; 2: labels as JSON lists, line ends kept."""
_HEAD = 1 << 16


class Corpus(Sequence[Document]):
    """Documents of a file, folder or dataset: a sequence that stays where it is.

    Iterating reads it from the start. Everything else (a document by its number, the length, labels, digest, what was skipped) makes an index
    when it is first needed: one pass over all records, kept in the cache, read from there the next time, made again when a file has changed.
    With the index, opening reads no document, and ``corpus[i]`` reads that one only.

    Attributes:
        path: what was opened.
        format: how it is read.
    """

    def __init__(
        self, path: Path, reader: Reader, options: Json, *, limit: int | None = None, progress: Callable[[int, int], None] | None = None
    ) -> None:
        self.path, self.format = path, reader.format
        self._reader, self._options, self._limit, self._progress = reader, options, limit, progress

    def __repr__(self) -> str:
        first = "" if self._limit is None else f", first {self._limit}"
        return f"Corpus({str(self.path)!r}, format={self.format!r}{first})"

    def __iter__(self) -> Iterator[Document]:
        """Yield the documents in the order of the file; no index is needed (but ``list(corpus)`` needs one: it asks for the length first).

        Raises:
            DataError: the file was changed since its index was made; checked before the first document and after the last.
        """
        self._check_unchanged()
        found = (record.document() for record in self._items() if isinstance(record, Record))
        yield from islice(found, self._limit)
        self._check_unchanged()

    def __len__(self) -> int:
        """Return the number of documents."""
        return len(self._index.arrays["starts"])

    @overload
    def __getitem__(self, place: int) -> Document: ...
    @overload
    def __getitem__(self, place: slice) -> list[Document]: ...
    def __getitem__(self, place: int | slice) -> Document | list[Document]:
        """Return one document, or a list of several.

        Raises:
            IndexError: there is no document of this number.
            DataError: the file was changed since it was opened.
        """
        if isinstance(place, slice):
            return [self._at(number) for number in range(*place.indices(len(self)))]
        number = operator.index(place)
        size = len(self)
        if not -size <= number < size:
            raise IndexError(f"{self.path} has {size} documents, no document {number}")
        return self._at(number % size)

    def head(self, n: int) -> Corpus:
        """Return the first ``n`` documents (all where there are fewer) as a corpus of its own, with its own labels, support, digest and skips.

        Nothing behind the last of them is read.

        Raises:
            DataError: ``n`` is below 1.
        """
        if n < 1:
            raise DataError(f"the first {n} documents of {self.path} were asked for", given=n, allowed="at least 1")
        limit = n if self._limit is None else min(n, self._limit)
        return Corpus(self.path, self._reader, self._options, limit=limit, progress=self._progress)

    @cached_property
    def labels(self) -> LabelTable:
        """Return which documents have which label."""
        from harness.data.corpora.labels import label_table

        return label_table(self._index)

    @cached_property
    def label_warnings(self) -> list[str]:
        """Lines about labels that may be several in one, or none."""
        from harness.data.corpora.label_text import label_warnings

        return label_warnings(self.labels.names) if self.format in _WITH_FIELDS else []

    @property
    def digest(self) -> str:
        """Return the identity of the documents (16 hex digits): the same on every machine, wherever the file lies."""
        return str(self._index.about["digest"])

    @property
    def instructions_digest(self) -> str:
        """Return the identity of the documents' instructions; empty where none has one."""
        return str(self._index.about["asked"])

    @property
    def stated_digest(self) -> str:
        """Return the identity of the genres and parts that the corpus states; empty where it states none."""
        return str(self._index.about["stated"])

    @property
    def parts(self) -> list[str] | None:
        """Return for what each document is, as the corpus states it (see :class:`~harness.types.Document`); None where it states nothing."""
        codes = self._index.arrays.get("parts")
        return None if codes is None else [("", *PARTS)[code] for code in codes.tolist()]

    @property
    def commit(self) -> str | None:
        """Return the commit of the hub's dataset that it is; None for one that lies elsewhere."""
        return commit_in(self._reader.files[0]) if self._reader.files else None

    @property
    def skipped(self) -> list[Skipped]:
        """Return the records that could not be used, the first 1,000 of them."""
        return list(self._skips.first)

    @property
    def n_skipped(self) -> int:
        """Return the number of records that could not be used."""
        return self._skips.count

    @property
    def skipped_by_reason(self) -> Mapping[str, int]:
        """Return the number of records that could not be used, by reason, the most frequent first."""
        return dict(self._skips.kinds.most_common())

    # ------------------------------------------------------------------------------------------------------------------ inside

    @cached_property
    def _skips(self) -> SkipLog:
        return SkipLog.from_json(self._index.about["skipped"], [named(file, self.path) for file in self._reader.files])

    @cached_property
    def _index(self) -> Stored:
        from harness.data.corpora.index import get
        from harness.data.corpora.indexing import build, state_of

        return get(
            self._key,
            lambda: state_of(self._reader),
            lambda folder: build(folder, self._reader, self._items(), self._options, self._limit, self._progress),
            str(self.path),
        )

    @property
    def _key(self) -> Json:
        files = [str(file.resolve()) for file in self._reader.files] if self.format != "huggingface" else []
        return {
            "kind": "corpus",
            "path": str(self.path) if not files else "",
            "files": files,
            "options": self._options,
            "limit": self._limit,
            "reading": reading_code(),
        }

    def _at(self, number: int) -> Document:
        from harness.data.corpora.indexing import unchanged

        if not unchanged(self._index, self._reader.files):
            raise DataError(f"{self.path} was changed after it was opened", given=self.path, hint="open it again")
        arrays = self._index.arrays
        numbers = arrays.get("numbers")
        start = int(arrays["starts"][number])
        return self._reader.at(Place(start, start + 1 if numbers is None else int(numbers[number])))

    def _check_unchanged(self) -> None:
        """Refuse to iterate other documents than the indexed ones, since results are kept under the digest of the index."""
        from harness.data.corpora.indexing import unchanged

        stored = self.__dict__.get("_index")  # a property that was not asked for yet
        if stored is not None and not unchanged(stored, self._reader.files):
            raise DataError(f"{self.path} was changed while it was read", given=self.path, hint="start again")

    def _items(self) -> Iterator[Record | Skipped]:
        """Yield what the reader finds; a record with a repeated id is skipped."""
        seen = SeenIds() if self._reader.own_ids else None
        for item in self._reader.records():
            if seen is not None and isinstance(item, Record) and not seen.add(item.id):
                offset = item.place.start if self._reader.by_bytes else None
                row = "" if self._reader.by_bytes else f", row {item.place.number}"
                yield Skipped(str(self._reader.files[0]), offset, f"a second document with the same id ({item.id!r}{row})")
            else:
                yield item

    def _check(self) -> None:
        """Refuse a corpus that lacks a named field, or has no document among its first records; with an index nothing is read."""
        from harness.data.corpora.index import peek
        from harness.data.corpora.indexing import state_of

        if (stored := peek(self._key, state_of(self._reader))) is not None:
            self._index = stored
            return
        self._reader.check()
        first: Skipped | None = None
        count = 0
        for item in islice(self._items(), _FIRST_RECORDS):
            if isinstance(item, Record):
                return
            count += 1
            first = first or item
        if first is None:
            raise DataError(f"{self.path} ({self.format}) holds no document", given=self.path, hint="give a corpus that has documents")
        message = f"{self.path} ({self.format}) holds no document that can be used: {count} records were skipped, the first: {first}"
        hint = "mend the records, or name the right format and fields"
        if "not valid UTF-8" in str(first):
            command = f"iconv -f ENCODING -t utf-8 {self.path.name} > NEW"
            hint = f"the text is in another encoding: convert it, e.g. {command} (ENCODING: latin1, cp1252, shift_jis, gb18030, …)"
        raise DataError(message, given=self.path, hint=hint)


def open_corpus(
    path: str | Path,
    *,
    format: Format | None = None,
    text_field: str | None = None,
    label_field: str | None = None,
    id_field: str | None = None,
    label_separator: str | None = None,
    instruction_field: str | None = None,
    genre_field: str | None = None,
    part_field: str | None = None,
    comments: bool = True,
    code_blocks: bool = True,
    progress: Callable[[int, int], None] | None = None,
    revision: str | None = None,
    downloads: Progress | None = None,
) -> Corpus:
    """Open a labelled corpus; its content shows its format.

    ============= ==========================================================================================================
    format        what it is
    ============= ==========================================================================================================
    jsonl         JSON objects, one per line
    csv           rows under a header, separated by commas, semicolons, tabs or bars
    parquet       a Parquet table
    fasttext      lines with ``__label__x`` words
    axbench       a concept folder (``train_data.parquet``, ``latent_eval_data.parquet``): replies, labelled with their concept
    stackexchange a dump's folder, or its ``Posts.xml``: questions, labelled with their tags
    huggingface   ``hf:owner/name``, ``hf:owner/name:config@split`` or ``hf:/folder``, through the ``datasets`` library
    any           ``hub:owner/dataset/path``: a file or folder of a dataset of the hub, fetched, and read by its content
    ============= ==========================================================================================================

    A file may be packed (gzip, bzip2, xz, Zstandard, LZ4; ZIP and 7z with one corpus or a dump in them), in UTF-16 or UTF-32, a JSON list, or a
    table in one JSON object (:mod:`harness.data.corpora.json_shapes`): then it is unpacked into the cache once
    (:mod:`harness.data.corpora.wrapped`). Labels are read alike in all formats with fields (:mod:`harness.data.corpora.label_text`).

    Records that cannot be used are skipped, counted and named in ``corpus.skipped``; a file that was cut off is used up to the break.

    Args:
        path: a file, a folder, ``hf:…`` or ``hub:…``, or ``stackexchange:FORUM`` for a dump that was fetched into the cache
            (:mod:`harness.data.dumps`).
        format: overrides what the content shows.
        text_field: column or key of the text (jsonl, csv, parquet, huggingface); else the first of text, body, content, output that is there.
        label_field: column or key of the labels (a list, or one string); else the first of labels, label, tags, concept, if any.
        id_field: column or key of the id; else ``id`` or ``_id``, else the row's number.
        label_separator: splits a label field that is one text, e.g. ``"|"``; without it that is one label, or a list in quotes and brackets.
        instruction_field: column or key of what a text answers; else the first of instruction, prompt, input that is there, if any.
        genre_field: column or key of a text's genre; none is read that is not named.
        part_field: column or key of what a text is for: ``train``, ``evaluation``, or nothing; none is read that is not named.
        comments: append other users' comments to a question (stackexchange).
        code_blocks: keep code that stands in blocks (stackexchange).
        progress: called with (done, in all) while an index is made: bytes, or rows of a table.
        revision: branch, tag or commit of a dataset of the hub.
        downloads: where the progress of downloads from the hub is shown.

    Raises:
        DataError: there is no file or folder at ``path``, its format is not known, it has no document, a named field is missing, or a text is for
            a part that does not exist (said when the row is read).
        UnknownNameError: ``format`` is not one of the above.
    """
    path = Path(path)
    if str(path).startswith(DUMP_PREFIX):
        from harness.data.dumps.stackexchange import find_dump

        path = find_dump(str(path))
    if format is not None and format not in get_args(Format):
        raise UnknownNameError("corpus format", format, get_args(Format))
    given = str(path)
    if (name := hub_name(given)) is not None:
        path = fetch_corpus(name, revision, downloads)
    hub = name is None and given.startswith(DATASET_PREFIX)
    if hub and format not in (None, "huggingface"):
        hint = "leave out the format, or give a file"
        raise DataError(f"{path} is a dataset of the datasets library, not {format}", given=format, hint=hint)
    if not hub and not os.path.exists(path):
        raise DataError(f"there is no corpus at {str(path)!r}", given=path, hint="give a file or a folder")
    if not hub and format == "huggingface":
        raise DataError(f"{path} is not the name of a dataset", given=path, allowed=DATASET_NAMES, hint=f"begin the name with {DATASET_PREFIX}")
    plain = path if hub else plain_file(path, rows=format in (None, "jsonl"), progress=progress)
    with named_as(plain, path):
        chosen: Format = "huggingface" if hub else format or detect(plain)
    fields = Fields(text_field, label_field, id_field, label_separator, instruction_field, genre_field, part_field)
    if chosen not in _WITH_FIELDS and fields != Fields():
        hint = f"leave out {', '.join([*fields.named, *(['label_separator'] * (label_separator is not None))])}"
        raise DataError(f"{path} is read as {chosen}, which has no fields", given=chosen, hint=hint)
    more = {"stackexchange": (comments, code_blocks), "csv": (_CSV_VERSION,)}.get(chosen, ())
    options: list[Json] = [chosen, text_field, label_field, id_field, label_separator, *more]
    context = {"instruction": instruction_field, "genre": genre_field, "part": part_field}
    options += [context] if any(context.values()) else []
    try:
        with named_as(plain, path):
            reader = _dataset(plain, fields, revision, downloads) if hub else _reader(plain, chosen, fields, comments, code_blocks)
            corpus = Corpus(path, reader, options, progress=progress)
            corpus._check()
        return corpus
    except OSError as error:
        message = f"the corpus {path} cannot be read as {chosen} ({error.strerror or error})"
        raise DataError(message, given=path, hint="give a file or folder that can be read, or another format") from error


def detect(path: Path) -> Format:
    """Return the format of a corpus by its content.

    Raises:
        DataError: the format is not a known one; the message names what was found.
    """
    if path.is_dir():
        return _detect_folder(path)
    with open_input(path, CORPUS) as file:
        head = file.read(_HEAD)
    if head.startswith(b"PAR1"):
        return "parquet"
    start = head.removeprefix(BOM).lstrip()
    if not start:
        raise DataError(f"{path} is empty", given=path, hint="give a corpus that has documents")
    line = start.split(b"\n", 1)[0].rstrip(b"\r")
    if line.startswith(b"{"):
        return "jsonl"
    if line.startswith(b"__label__"):
        return "fasttext"
    if start.startswith(b"<") and b"<posts" in start:
        return "stackexchange"
    if not line.startswith((b"[", b"<")) and b"\0" not in line and any(sign.encode() in line for sign in DELIMITERS):
        return "csv"
    begins = line[:40].decode("utf-8", errors="replace")
    message = f"the format of {path} is unknown (it begins with {begins!r})"
    raise DataError(message, given=begins, allowed=get_args(Format), hint="name one as format=, or give another file")


def _detect_folder(path: Path) -> Format:
    names = sorted(item.name for item in path.iterdir())
    if "Posts.xml" in names:
        return "stackexchange"
    if tables_of(path):
        return "axbench"
    tables = [name for name in names if name.lower().endswith((".jsonl", ".parquet", ".csv", ".tsv"))]
    if tables:
        listed = ", ".join(tables[:8]) + (f" and {len(tables) - 8} more" if len(tables) > 8 else "")
        hint = f"a corpus is one file: name one, join them, or open them all as {DATASET_PREFIX}{path.resolve()}"
        raise DataError(f"the folder {path} holds {listed}", given=path, hint=hint)
    listed = ", ".join(names[:8]) or "nothing"
    message = f"the folder {path} is not a corpus: it holds {listed}"
    raise DataError(message, given=path, allowed="a folder with Posts.xml or train_data.parquet", hint="name a file")


def _dataset(name: Path, fields: Fields, revision: str | None, downloads: Progress | None) -> Reader:
    from harness.data.corpora.huggingface import HuggingFaceReader

    return HuggingFaceReader(str(name), fields, revision, downloads)


def _reader(path: Path, format: Format, fields: Fields, comments: bool, code_blocks: bool) -> Reader:
    # Imported here, so that opening one format does not load what another needs.
    if format == "jsonl":
        from harness.data.corpora.jsonl import JsonLinesReader

        return JsonLinesReader(path, fields)
    if format in ("csv", "parquet"):
        from harness.data.corpora.csv_table import CsvReader
        from harness.data.corpora.parquet import ParquetReader

        return CsvReader(path, fields) if format == "csv" else ParquetReader(path, fields)
    if format == "fasttext":
        from harness.data.corpora.fasttext import FastTextReader

        return FastTextReader(path)
    if format == "axbench":
        from harness.data.corpora.axbench import AxBenchReader

        return AxBenchReader(path)
    from harness.data.corpora.stackexchange import POSTS, StackExchangeReader

    return StackExchangeReader(path / POSTS if path.is_dir() else path, comments=comments, code_blocks=code_blocks)
