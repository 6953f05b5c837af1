"""What every reader of a corpus shares: records and skipped records in one stream, places to find them again, and lines with their byte offsets."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

from harness.data.corpora.label_text import NotLabels, labels_of, plain_labels
from harness.data.scalars import text_of
from harness.errors import DataError
from harness.files.inputs import Input
from harness.files.json_text import is_unicode
from harness.types import Document, Json

CORPUS = Input("corpus", DataError, "give a file that can be read", None)
"""A corpus is read in parts, however large it is."""
BOM = b"\xef\xbb\xbf"
TEXT_FIELDS = ("text", "body", "content", "output")
"""Looked for, in this order, where ``text_field`` is not given."""
LABEL_FIELDS = ("labels", "label", "tags", "concept")
"""Looked for, in this order, where ``label_field`` is not given; a file may have none of them."""
ID_FIELDS = ("id", "_id")
DATASET_PREFIX = "hf:"
"""Begins the name of a dataset that is read through the ``datasets`` library."""
DATASET_NAMES = f"{DATASET_PREFIX}owner/name, {DATASET_PREFIX}owner/name:config@split, {DATASET_PREFIX}/folder"
"""The forms of such a name, for messages."""
DUMP_PREFIX = "stackexchange:"
"""Begins the name of a forum's dump that ``harness data fetch stackexchange`` has put into the cache."""
INSTRUCTION_FIELDS = ("instruction", "prompt", "input")
"""Looked for, in this order, for what a text replies to, where ``instruction_field`` is not given; a file may have none of them."""
PARTS = ("train", "evaluation")
"""What a corpus may say that a text is for (``part_field``); an empty field says nothing."""
RECORD_LIMIT = 1 << 24
"""Bytes; a longer record is skipped, so that a file without line ends does not fill the memory."""
KEPT_SKIPS = 1000
"""So many skipped records are kept word for word; the others are counted."""
TOO_LONG = f"a record of more than {RECORD_LIMIT >> 20} MB"
CUT_LINE = "the last line has no line end: the file was cut off here, and is used up to this place (if it is whole, end it with a line end)"

Report = Callable[[int], None]
"""Called with the number of bytes (or rows) that are done."""


@dataclass(frozen=True)
class Skipped:
    """A record that could not be used.

    Attributes:
        file: where it is.
        offset: its first byte in ``file``; None for formats that have no byte offsets (Parquet).
        reason: fixed words, then in brackets what is particular to this record.
    """

    file: str
    offset: int | None
    reason: str

    @property
    def kind(self) -> str:
        """Return the reason without its particulars: what skipped records are counted by."""
        return self.reason.split(" (", 1)[0]

    def __str__(self) -> str:
        return f"{self.file}{'' if self.offset is None else f' at byte {self.offset}'}: {self.reason}"


class SkipLog:
    """Records that could not be used: all counted by kind, the first :data:`KEPT_SKIPS` kept."""

    def __init__(self) -> None:
        self.first: list[Skipped] = []
        self.kinds: Counter[str] = Counter()

    @property
    def count(self) -> int:
        return self.kinds.total()

    def add(self, skipped: Skipped) -> None:
        self.kinds[skipped.kind] += 1
        if len(self.first) < KEPT_SKIPS:
            self.first.append(skipped)

    def update(self, other: SkipLog) -> None:
        """Add everything of another log."""
        self.kinds.update(other.kinds)
        self.first += other.first[: KEPT_SKIPS - len(self.first)]

    def to_json(self, files: Sequence[Path]) -> Json:
        """Return the log with files by their place in ``files``, which may have other names the next time."""
        names = [str(file) for file in files]
        return {"kinds": dict(self.kinds), "first": [[names.index(one.file), one.offset, one.reason] for one in self.first]}

    @classmethod
    def from_json(cls, value: Json, files: Sequence[Path]) -> SkipLog:
        log = cls()
        log.kinds.update(value["kinds"])
        log.first += [Skipped(str(files[number]), offset, reason) for number, offset, reason in value["first"]]
        return log


class Place(NamedTuple):
    """Where a record is: ``start`` is its first byte, or its row from 0 in a table without bytes; ``number`` counts lines or rows from 1."""

    start: int
    number: int


@dataclass(frozen=True)
class Record:
    """A document as it stands in the file, with its place. ``text`` may be a function, where making the text of it takes time."""

    place: Place
    id: str
    labels: frozenset[str]
    text: str | Callable[[], str]
    instruction: str = ""
    genre: str = ""
    part: str = ""

    def document(self) -> Document:
        text = self.text if isinstance(self.text, str) else self.text()
        return Document(self.id, text, self.labels, self.instruction, self.genre, self.part)


class Reader(Protocol):
    """Reads one format, from the beginning each time and in the file's order, and holds no more than a part of the file."""

    format: str
    own_ids: bool
    """The ids come from the rows, so two rows may share one."""
    by_bytes: bool
    """Places are bytes of the first file; else they are rows."""
    files: tuple[Path, ...]
    """What the documents depend on."""

    @property
    def extent(self) -> int:
        """Return the total size, in the unit of the places."""
        ...

    @property
    def content(self) -> str:
        """Return the identity of the content that is not in ``files[0]``; the same on every machine."""
        ...

    def check(self) -> None:
        """Look at the beginning, and raise DataError where a named field is missing."""
        ...

    def prepare(self, report: Report) -> SkipLog:
        """Prepare what documents need beside their record, and return what cannot be used there."""
        ...

    def records(self) -> Iterator[Record | Skipped]:
        """Yield all records, the skipped ones too."""
        ...

    def at(self, place: Place) -> Document:
        """Return the document of a record that :meth:`records` gave; raises DataError where it is not there any more."""
        ...


@dataclass
class Notations:
    """Whether a pass over a corpus met labels in other notations; ``identity`` is then part of the corpus' identity, and else empty."""

    met: bool = False

    @property
    def identity(self) -> str:
        return "labels-2" if self.met else ""


@dataclass(frozen=True)
class Fields:
    """Which fields of a row hold the text, the labels and the id; None means: the first of the usual names that is there.

    Labels are read as :mod:`harness.data.corpora.label_text` says.

    Attributes:
        text, label, id, instruction: names of fields.
        genre, part: names of fields; of these none is read that is not named.
        label_separator: splits a label field that is one text.
        untyped: all fields are texts, as in CSV.
        one_label: a label field that is a text is one label, whatever it looks like.
        classes: names of the classes of a column that holds their numbers.
        reading: notes whether labels were found in another notation than lists and single texts.
    """

    text: str | None = None
    label: str | None = None
    id: str | None = None
    label_separator: str | None = None
    instruction: str | None = None
    genre: str | None = None
    part: str | None = None
    untyped: bool = False
    one_label: bool = False
    classes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    reading: Notations = field(default_factory=Notations, compare=False)

    def record(self, row: Mapping[str, Json], place: Place) -> Record | str:
        """Return the record of a row, with its number as the id where the row has none; or the reason why it cannot be used.

        Raises:
            DataError: the row is for a part that does not exist.
        """
        text_field = self.text or _first(TEXT_FIELDS, row)
        if text_field is None or text_field not in row:
            return f"no field {self.text or ', '.join(TEXT_FIELDS)} (fields: {_names(row)}); name one as text_field"
        text = row[text_field]
        if not isinstance(text, str) or not text.strip():
            return f"field {text_field!r} holds no text"
        if len(text) > RECORD_LIMIT:
            return TOO_LONG
        id_field = self.id or _first(ID_FIELDS, row)
        identity = row.get(id_field) if id_field else None
        if self.id and identity is None:
            return f"no field {self.id} (fields: {_names(row)})"
        label_field = self.label or _first(LABEL_FIELDS, row)
        try:
            labels = self._labels(row.get(label_field), label_field) if label_field else frozenset()
        except NotLabels as error:
            return f"field {label_field!r} holds {str(error) or 'neither a label nor a list of labels'}"
        try:
            name = text_of(identity) or str(place.number)
        except ValueError:
            return f"field {id_field!r} holds no id"
        if not all(map(is_unicode, (text, name, *labels))):
            return "half a character of two (a lone surrogate)"
        return Record(place, name, labels, text, self._instruction(row, text_field), self._genre(row), self._part(row, place))

    def check(self, columns: Sequence[str], path: Path | str) -> None:
        """Raise DataError where a table with these columns lacks a named field, or has no text field."""
        for option, name in self.named.items():
            if name not in columns:
                message = f"{path} has no column {name!r} ({option})"
                raise DataError(message, given=name, allowed=tuple(columns), hint=f"name another {option}")
        if self.text is None and not any(name in columns for name in TEXT_FIELDS):
            message = f"{path} has no column {' or '.join(TEXT_FIELDS)}"
            raise DataError(message, given=path, allowed=tuple(columns), hint="name one of these as text_field")

    @property
    def named(self) -> dict[str, str]:
        """Return the fields that were named, by option."""
        fields = {
            "text_field": self.text, "label_field": self.label, "id_field": self.id, "instruction_field": self.instruction,
            "genre_field": self.genre, "part_field": self.part,
        }  # fmt: skip
        return {option: name for option, name in fields.items() if name is not None}

    def columns(self, present: Sequence[str]) -> list[str]:
        """Return the columns of a table that are read."""
        wanted: tuple[str | None, ...] = (
            self.text or _first(TEXT_FIELDS, present),
            self.label or _first(LABEL_FIELDS, present),
            self.id or _first(ID_FIELDS, present),
        )
        wanted += (self.instruction or _first([name for name in INSTRUCTION_FIELDS if name not in wanted], present), self.genre, self.part)
        return list(dict.fromkeys(name for name in wanted if name is not None and name in present))

    def _instruction(self, row: Mapping[str, Json], text_field: str) -> str:
        """Return what the text replies to; empty where the row has none, or one that is not valid Unicode."""
        field = self.instruction or _first([name for name in INSTRUCTION_FIELDS if name not in (text_field, self.label, self.id)], row)
        value = row.get(field) if field else ""
        return value if isinstance(value, str) and is_unicode(value) else ""

    def _genre(self, row: Mapping[str, Json]) -> str:
        value = row.get(self.genre) if self.genre else ""
        return value.strip() if isinstance(value, str) and is_unicode(value) else ""

    def _part(self, row: Mapping[str, Json], place: Place) -> str:
        value = row.get(self.part) if self.part else None
        part = "" if value is None else str(value).strip()
        if part and part not in PARTS:
            message = f"row {place.number}: field {self.part!r} (part_field) holds {value!r}"
            raise DataError(message, given=value, allowed=(*PARTS, "nothing"), hint="name another part_field, or rename the part")
        return part

    def _labels(self, value: Json, label_field: str) -> frozenset[str]:
        if self.one_label and isinstance(value, str):
            return frozenset([value.strip()] if value.strip() else ())
        found = labels_of(value, self.label_separator, self.classes.get(label_field), self.untyped)
        if not self.reading.met:
            split = self.label_separator is not None and isinstance(value, str)
            plain = plain_labels(value.split(self.label_separator) if split else value, self.untyped)
            self.reading.met = found != plain
        return found


class SeenIds:
    """A set of ids that holds their 64-bit hashes in an open table: 12 to 24 bytes per id, whatever its length."""

    def __init__(self) -> None:
        self._slots = array("Q", bytes(8 << 10))
        self._count = 0

    def add(self, id: str) -> bool:
        """Add ``id`` and return whether it is new."""
        if not self._put(hash(id) & 0xFFFFFFFFFFFFFFFF or 1):  # 0 marks a free slot
            return False
        self._count += 1
        if 3 * self._count > 2 * len(self._slots):
            old, self._slots = self._slots, array("Q", bytes(16 * len(self._slots)))
            for key in old:
                if key:
                    self._put(key)
        return True

    def _put(self, key: int) -> bool:
        slots, last = self._slots, len(self._slots) - 1
        place = key & last
        while held := slots[place]:
            if held == key:
                return False
            place = (place + 1) & last
        slots[place] = key
        return True


class Line(NamedTuple):
    """A line of a file without its line end and without a BOM; one of more than :data:`RECORD_LIMIT` bytes is cut a byte behind that.

    ``end`` is the line end: ``\\n`` with whatever ``\\r`` stand before it, or nothing at the end of a file that was cut off.
    """

    offset: int
    content: bytes
    end: bytes

    @property
    def ended(self) -> bool:
        return bool(self.end)

    @property
    def fault(self) -> str:
        """Return the reason why the line cannot be used in any format, or ""."""
        return TOO_LONG if len(self.content) > RECORD_LIMIT else ""


def lines(path: Path, start: int = 0) -> Iterator[Line]:
    """Yield the lines of a file from byte ``start`` on; ``ended`` is false for a last line without a line end."""
    offset = start
    with path.open("rb") as file:
        file.seek(start)
        while line := file.readline(RECORD_LIMIT + 2):
            here, ended = offset, line.endswith(b"\n")
            content = line.rstrip(b"\r\n") if ended or len(line) <= RECORD_LIMIT else line
            end = line[len(content) :] if ended else b""
            offset += len(line)
            while not ended and (more := file.readline(RECORD_LIMIT)):
                ended = more.endswith(b"\n")
                end = b"\n" if ended else b""
                offset += len(more)
            if here == 0 and content.startswith(BOM):
                content, here = content[len(BOM) :], len(BOM)
            yield Line(here, content, end)


def line_at(path: Path, start: int) -> Line:
    """Return the line that starts at a byte; raises DataError where the file ends before it."""
    found = next(lines(path, start), None)
    if found is None:
        raise vanished(path, start)
    return found


def vanished(path: Path, start: int) -> DataError:
    """Return the error for a record that is not in its place any more."""
    return DataError(f"{path} has no record at {start} any more: it was changed after it was opened", given=start, hint="open it again")


def _names(row: Mapping[str, Json]) -> str:
    return ", ".join(map(str, row)) or "none"


def _first(names: Sequence[str], row: Mapping[str, Json] | Sequence[str]) -> str | None:
    return next((name for name in names if name in row), None)
