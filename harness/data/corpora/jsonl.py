"""JSON lines: one object per line, its fields named by the caller or found by their usual names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from harness.data.corpora.reading import Fields, Line, Place, Record, Report, SkipLog, Skipped, line_at, lines, vanished
from harness.errors import DataError
from harness.files.json_text import COMMENTS, parse_json
from harness.types import Document, Json

_PEEK = 1000
_COMMENTS = tuple(sign.encode() for sign in COMMENTS)


class JsonLinesReader:
    """A ``.jsonl`` file; line numbers, from 1, are the ids of rows without one."""

    format = "jsonl"
    own_ids = True
    by_bytes = True

    def __init__(self, path: Path, fields: Fields) -> None:
        self._path, self._fields = path, fields
        self.files: tuple[Path, ...] = (path,)

    @property
    def extent(self) -> int:
        return self._path.stat().st_size

    @property
    def content(self) -> str:
        return self._fields.reading.identity

    def prepare(self, report: Report) -> SkipLog:
        return SkipLog()

    def records(self) -> Iterator[Record | Skipped]:
        self._fields.reading.met = False
        for number, line in enumerate(lines(self._path), 1):
            if line.content.strip():
                found = self._record(line, number)
                yield Skipped(str(self._path), line.offset, found) if isinstance(found, str) else found

    def at(self, place: Place) -> Document:
        found = self._record(line_at(self._path, place.start), place.number)
        if isinstance(found, str):
            raise vanished(self._path, place.start)
        return found.document()

    def check(self) -> None:
        """Refuse a named field that none of the first rows has: the name is a mistake."""
        missing = self._fields.named
        seen: dict[str, None] = {}
        for count, line in enumerate(lines(self._path)):
            if not missing or count >= _PEEK:
                break
            row = _parse(line)
            if isinstance(row, dict):
                seen.update(dict.fromkeys(row))
                missing = {option: name for option, name in missing.items() if name not in row}
        if missing:
            option, name = next(iter(missing.items()))
            message = f"{self._path} has no field {name!r} ({option})"
            raise DataError(message, given=name, allowed=tuple(seen) or "none, its rows have no fields", hint=f"name another {option}")

    def _record(self, line: Line, number: int) -> Record | str:
        row = _parse(line)
        return row if isinstance(row, str) else self._fields.record(row, Place(line.offset, number))


def _parse(line: Line) -> dict[str, Json] | str:
    """Return the object of a line, or the reason why it cannot be used."""
    if line.fault:
        return line.fault
    if line.content.lstrip().startswith(_COMMENTS):
        return "a comment"
    try:
        row = parse_json(line.content, surrogates="keep")
    except ValueError as error:
        if line.ended:
            return f"not valid JSON ({error})"
        return f"the last line breaks off: the file was cut off here, and is used up to this place (not valid JSON: {error})"
    return row if isinstance(row, dict) else f"no JSON object (but a {type(row).__name__})"
