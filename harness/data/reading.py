"""What every reader of a corpus shares: documents and skipped records in one stream, and lines with their byte offsets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from harness.errors import DataError
from harness.types import Document, Json

BOM = b"\xef\xbb\xbf"
TEXT_FIELDS = ("text", "body", "content", "output")
"""Looked for, in this order, where ``text_field`` is not given."""
LABEL_FIELDS = ("labels", "label", "tags", "concept")
"""Looked for, in this order, where ``label_field`` is not given; a file may have none of them."""
ID_FIELDS = ("id", "_id")


@dataclass(frozen=True)
class Skipped:
    """A record that could not be used. ``offset`` is its first byte in ``file``, None for formats that have no byte offsets (Parquet)."""

    file: str
    offset: int | None
    reason: str

    def __str__(self) -> str:
        return f"{self.file}{'' if self.offset is None else f' at byte {self.offset}'}: {self.reason}"


class Reader(Protocol):
    """One format. ``read`` starts from the beginning each time and yields what it finds, in the file's order, without holding the file."""

    format: str
    own_ids: bool
    """The ids come from the rows, so two rows may share one."""

    def read(self) -> Iterator[Document | Skipped]: ...


@dataclass(frozen=True)
class Fields:
    """Which fields of a row hold the text, the labels and the id; None means: the first of the usual names that is there.

    ``label_separator`` splits a label field that is one string; without it such a string is one label.
    """

    text: str | None = None
    label: str | None = None
    id: str | None = None
    label_separator: str | None = None

    def document(self, row: Mapping[str, Json], number: int) -> Document | str:
        """The document of row ``number`` (from 1), which is also its id where the row has none; or why there is none."""
        text_field = self.text or _first(TEXT_FIELDS, row)
        names = ", ".join(map(str, row)) or "none"
        if text_field is None or text_field not in row:
            return f"no field {self.text or ', '.join(TEXT_FIELDS)} (fields: {names}); name one as text_field"
        text = row[text_field]
        if not isinstance(text, str) or not text.strip():
            return f"field {text_field!r} holds no text"
        id_field = self.id or _first(ID_FIELDS, row)
        identity = row.get(id_field) if id_field else None
        if self.id and identity is None:
            return f"no field {self.id} (fields: {names})"
        label_field = self.label or _first(LABEL_FIELDS, row)
        labels = self._labels(row.get(label_field)) if label_field else frozenset()
        if labels is None:
            return f"field {label_field!r} holds neither a label nor a list of labels"
        return Document(str(number) if identity is None else str(identity), text, labels)

    def check(self, columns: Sequence[str], path: Path) -> None:
        """Raise DataError where a table with these columns lacks a named field, or has no text field at all."""
        for option, name in (("text_field", self.text), ("label_field", self.label), ("id_field", self.id)):
            if name is not None and name not in columns:
                raise DataError(f"{path} has no column {name!r} ({option}); it has {', '.join(columns)}")
        if self.text is None and not any(name in columns for name in TEXT_FIELDS):
            raise DataError(f"{path} has no column {' or '.join(TEXT_FIELDS)}; it has {', '.join(columns)}: name one as text_field")

    def _labels(self, value: Json) -> frozenset[str] | None:
        if value is None:
            return frozenset()
        if isinstance(value, str):
            value = value.split(self.label_separator) if self.label_separator else [value]
        if isinstance(value, (int, float)):
            value = [value]
        if not isinstance(value, Sequence) or not all(isinstance(item, (str, int, float)) for item in value):
            return None
        return frozenset(name for item in value if (name := str(item).strip()))


def lines(path: Path, start: int = 0) -> Iterator[tuple[int, bytes]]:
    """(byte offset, line without its line end and without a BOM) of a file from byte ``start`` on, one at a time."""
    offset = start
    with path.open("rb") as file:
        file.seek(start)
        for line in file:
            here = offset
            offset += len(line)
            if here == 0 and line.startswith(BOM):
                line, here = line[len(BOM) :], len(BOM)
            yield here, line.rstrip(b"\r\n")


def _first(names: Sequence[str], row: Mapping[str, Json]) -> str | None:
    return next((name for name in names if name in row), None)
