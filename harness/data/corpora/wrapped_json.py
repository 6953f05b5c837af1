"""JSON that is not one object a line (a list, objects over several lines, a table in one object, a text sequence), written as JSON lines."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, TextIO, cast

from harness.data.corpora.json_shapes import refuse_values, rows_in
from harness.data.corpora.reading import CORPUS, RECORD_LIMIT
from harness.errors import DataError
from harness.files.inputs import open_input
from harness.files.json_text import JsonError, parse_json

_BLOCK = 1 << 20
_LINE_ENDS = re.compile(r"[\r\n]+")
_OPENS_LIST = re.compile(rb"\[\s*(?:[\{\]]|\Z)")
_OPENS_VALUES = re.compile(rb"\[\s*\[")
_SEPARATOR = b"\x1e"
"""Begins each record of a JSON text sequence (RFC 7464)."""
_BEGINS_SEQUENCE = re.compile(rb"(?:\xef\xbb\xbf)?\s*\x1e\s*[\x1e\[{\"]")
_ONE_OBJECT = 1 << 28
"""Bytes of a single JSON object that is read as a table: it is in memory as a whole."""
_OPENS_OBJECT = re.compile(r"\{\s*|\{.*[,\[{]\s*")


def begins_sequence(head: bytes) -> bool:
    """Return whether a file is a JSON text sequence (RFC 7464), by its first bytes."""
    return _BEGINS_SEQUENCE.match(head) is not None


def is_wrapped(path: Path, head: bytes) -> bool:
    """Return whether the JSON of a file, which begins with ``head``, is anything else than an object a line. Raises DataError for a list of lists."""
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if _OPENS_VALUES.match(start):
        raise refuse_values(path)
    if _OPENS_LIST.match(start):
        return True
    return start.startswith(b"{") and (_over_several_lines(start) or _holds_a_table(path))


def _over_several_lines(start: bytes) -> bool:
    """Return whether JSON objects stand over several lines, or several on one line, by the beginning of a file."""
    text = start.decode("utf-8", errors="ignore")
    try:
        _, end = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        first, more, _ = text.partition("\n")
        return bool(more) and _OPENS_OBJECT.fullmatch(first) is not None
    return "\n" in text[:end] or re.match(r"[ \t\r]*[,{]", text[end:]) is not None


def _holds_a_table(path: Path) -> bool:
    """Return whether a file is one object on one line, and that is a table."""
    if path.stat().st_size > _ONE_OBJECT:
        with open_input(path, CORPUS) as file:
            return b"\n" not in file.read(RECORD_LIMIT + 1)  # too long for a record: one object, which is refused as such
    return (value := _one_object(path, on_a_line=True)) is not None and rows_in(value, path) is not None


def _one_object(path: Path, on_a_line: bool = False) -> dict[str, Any] | None:
    """Return the object that a file is; None for one with more in it, for what is no JSON, and for what is too large."""
    if path.stat().st_size > _ONE_OBJECT:
        return None
    with open_input(path, CORPUS) as file:
        first = file.readline() if on_a_line else b""
        rest = file.read(_BLOCK) if on_a_line else file.read()
        if on_a_line and rest.strip():
            return None
    try:
        value = parse_json(first or rest, surrogates="keep")
    except JsonError:
        return None
    return value if isinstance(value, dict) else None


def to_lines(path: Path, made: Path) -> None:
    """Write the objects of a JSON list, objects one after the other, or the rows of a table in one object, as lines."""
    count, first = 0, None
    with open_input(path, CORPUS) as file:
        listed = file.read(_BLOCK).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"[")
    with open_input(path, CORPUS) as file, _lines_to(made) as target:
        for text, value in _objects(path, file):
            target.write(_LINE_ENDS.sub(" ", text))  # which stand between the parts of an object alone: within a text they are escaped
            if value is None:  # what is cut off or is no JSON stands in a last line without end, which the reader skips and reports
                break
            target.write("\n")
            count, first = count + 1, value if count == 0 else None
    one = first if count == 1 else _one_object(path) if count == 0 else None
    rows = rows_in(one, path) if isinstance(one, dict) else None
    if rows is not None:
        with _lines_to(made) as target:
            for row in rows:
                target.write(json.dumps(row) + "\n")
    elif count == 0 and path.stat().st_size > _ONE_OBJECT and not listed:
        hint = "write its rows as JSON lines, e.g. jq -c '.[\"data\"][]' FILE > rows.jsonl"
        raise DataError(f"the corpus {path} is one JSON object of more than {_ONE_OBJECT >> 20} MB", given=path, hint=hint)


def _lines_to(path: Path) -> TextIO:
    return path.open("w", encoding="utf-8", errors="surrogateescape", newline="\n")


def sequence_to_lines(path: Path, made: Path) -> None:
    """Write the records of a JSON text sequence as lines; one that is no JSON is a line of its own, which the reader skips and reports."""
    held = b""
    with open_input(path, CORPUS) as file, made.open("wb") as target:
        while True:
            block = file.read(_BLOCK)
            *records, held = (held + block).split(_SEPARATOR) if block else (held, b"")
            target.writelines(b" ".join(record.splitlines()) + b"\n" for record in records if record.strip())
            if len(held) > RECORD_LIMIT + _BLOCK:  # a longer record is cut behind the limit, as one in a line is
                held = held[: RECORD_LIMIT + 1]
            if not block:
                return


def _objects(path: Path, file: BinaryIO) -> Iterator[tuple[str, Any]]:
    """Yield the text and the value of each object; of the last with None as its value, where it breaks off or is no JSON."""
    stream = io.TextIOWrapper(cast(Any, file), "utf-8-sig", errors="surrogateescape", newline="")
    decoder = json.JSONDecoder()
    buffer, ended, listed, begun = "", False, False, False
    while True:
        buffer = buffer.lstrip(" \t\r\n,") if begun else buffer.lstrip()
        if not begun and buffer:
            begun, listed = True, buffer[0] == "["
            buffer = buffer[listed:].lstrip()
        if not buffer and ended:
            if listed:
                yield "[", None  # the list is never closed
            return
        if listed and buffer.startswith("]"):
            return
        try:
            value, end = decoder.raw_decode(buffer) if buffer else (None, 0)
        except RecursionError:
            raise DataError(f"the corpus {path} is nested too deeply", given=path, hint="give flat rows") from None
        except ValueError:
            value, end = None, 0
        if end and (ended or end < len(buffer)):
            yield buffer[:end], {} if value is None else value
            buffer = buffer[end:]
        elif ended or len(buffer) > RECORD_LIMIT:
            yield " ".join(buffer[:200].split()), None
            return
        else:
            more = stream.read(max(_BLOCK, len(buffer)))
            ended, buffer = not more, buffer + more
