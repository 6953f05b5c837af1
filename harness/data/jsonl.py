"""JSON lines: one object a line, its fields named by the caller or found by their usual names."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from harness.data.reading import Fields, Skipped, lines
from harness.errors import DataError
from harness.types import Document, Json

_PEEK = 1000


class JsonLinesReader:
    """A ``.jsonl`` file. Line numbers, from 1, are the ids of rows that bring none."""

    format = "jsonl"
    own_ids = True

    def __init__(self, path: Path, fields: Fields) -> None:
        self._path, self._fields = path, fields
        self._check_fields()

    def read(self) -> Iterator[Document | Skipped]:
        for offset, number, row in self._rows():
            found = row if isinstance(row, str) else self._fields.document(row, number)
            yield Skipped(str(self._path), offset, found) if isinstance(found, str) else found

    def _rows(self) -> Iterator[tuple[int, int, dict[str, Json] | str]]:
        """(byte offset, line number, the row or why there is none); blank lines are passed over."""
        for number, (offset, line) in enumerate(lines(self._path), 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                yield offset, number, f"not valid JSON ({error})"
                continue
            yield offset, number, row if isinstance(row, dict) else f"a JSON {type(row).__name__}, not an object"

    def _check_fields(self) -> None:
        """A named field that none of the first rows has is a mistake in the name."""
        wanted = {"text_field": self._fields.text, "label_field": self._fields.label, "id_field": self._fields.id}
        missing = {option: name for option, name in wanted.items() if name is not None}
        seen: dict[str, None] = {}
        for count, (_, _, row) in enumerate(self._rows()):
            if not missing or count >= _PEEK:
                break
            if isinstance(row, dict):
                seen.update(dict.fromkeys(row))
                missing = {option: name for option, name in missing.items() if name not in row}
        if missing:
            option, name = next(iter(missing.items()))
            raise DataError(f"{self._path} has no field {name!r} ({option}); its rows have {', '.join(seen) or 'no fields'}")
