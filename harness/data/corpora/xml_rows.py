"""``<row …/>`` records of large XML files, one at a time and with their byte offsets; a damaged record costs itself alone.

In well-formed XML a ``<`` stands nowhere inside a tag, attribute values included (it is written ``&lt;`` there). So the bytes from one
``<`` up to the next are one record, however the file breaks its lines, and after a damaged record the next ``<row`` is a sure place to
go on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO
from xml.etree import ElementTree

from harness.data.corpora.reading import RECORD_LIMIT, TOO_LONG

_CHUNK = 1 << 20
_ROW = (b"<row ", b"<row\t", b"<row\n", b"<row\r")
_FRAME = (b"<?", b"<!", b"</")
_OWN = re.compile(rb"""<\S+\s+Id\s*=\s*["']""")
"""A record whose name is wrong, and no piece of the damaged row before it."""
_WHOLE = re.compile(rb"""<row(?:\s+[^\s=]+\s*=\s*(?:"[^"]*"|'[^']*'))*\s*/?>""")


def rows(path: Path, root: str, wanted: Callable[[bytes], bool] | None = None) -> Iterator[tuple[int, dict[str, str] | str]]:
    """Yield (byte offset, attributes) of the rows of a file; in place of the attributes of a damaged one, the reason.

    Args:
        path: the file.
        root: name of the element that holds the rows. A file that ends before its end tag is cut off: the last item says so.
        wanted: looks at the bytes of a record before they are parsed; False passes over it.
    """
    opening, closing = f"<{root}".encode(), f"</{root}".encode()
    complete = damaged = False
    last: tuple[int, str] | None = None
    with path.open("rb") as file:
        for offset, record in records(file):
            if last is not None:
                yield last
                last = None
            if record.startswith(_ROW):
                if wanted is not None and record.count(b"/>") == 1 and not wanted(record):
                    damaged = False
                    continue
                row, end = _parse(record)
                damaged = isinstance(row, str) or end < len(record)
                if isinstance(row, str):
                    last = (offset, row)  # held back: at the end of a file that was cut off it is no damage of its own
                else:
                    yield offset, row
                    if damaged:
                        yield offset + end, _no_row(record[end:])
            elif record.startswith(closing):
                complete = True
            elif (not damaged or _OWN.match(record)) and not record.startswith((opening, *_FRAME)):
                damaged = True
                if any(tag.startswith(record) for tag in (*_ROW, closing)):
                    last = (offset, _no_row(record))  # held back, too: the beginning of a tag, where the file was cut off
                else:
                    yield offset, _no_row(record)
        if last is not None and complete:
            yield last
        if not complete:
            yield (last[0] if last else file.tell()), f"the file ends without </{root}>: it was cut off here, and is used up to this place"


def records(file: BinaryIO, start: int = 0, chunk: int = _CHUNK) -> Iterator[tuple[int, bytes]]:
    """Yield (byte offset, bytes) from each ``<`` up to the next or the end; what stands between ``start`` and the first one is left out.

    Of a record that is longer than :data:`RECORD_LIMIT` some bytes more than that are handed out, and the others dropped.
    """
    file.seek(start)
    record, offset, size, opened = b"", start, 0, False
    while data := file.read(chunk):
        first, *others = data.split(b"<")
        size += len(first)
        if opened and len(record) <= RECORD_LIMIT:
            record += first
        for other in others:
            if opened:
                yield offset, record
            record, offset, size, opened = b"<" + other, offset + size, 1 + len(other), True
    if opened:
        yield offset, record


def record_at(path: Path, start: int, chunk: int) -> bytes:
    """Return the record at a byte offset that :func:`records` gave, read in pieces of ``chunk`` bytes; empty where there is none any more."""
    with path.open("rb") as file:
        offset, record = next(records(file, start, chunk), (start, b""))
    return record if offset == start else b""


def parse_row(record: bytes) -> dict[str, str] | str:
    """Return the attributes of one ``<row …/>`` (or ``<row …>``), or why it is not well-formed. No entities but XML's own five are known."""
    return _parse(record)[0]


def _parse(record: bytes) -> tuple[dict[str, str] | str, int]:
    """Return the attributes of a row or why there are none, and how much of the record is the row: all, or less where something else follows it."""
    if len(record) > RECORD_LIMIT:
        return TOO_LONG, len(record)
    row = record.strip()
    if row.endswith(b">") and not row.endswith(b"/>"):
        row = row[:-1] + b"/>"
    try:
        return dict(ElementTree.fromstring(row).attrib), len(record)
    except ElementTree.ParseError as error:
        tag = _WHOLE.match(record)
        if tag is not None and record[tag.end() :].strip():  # the next row has lost its "<", and this one is sound
            return _parse(tag[0])[0], tag.end()
        return f"not a well-formed row ({error})", len(record)


def _no_row(record: bytes) -> str:
    return f"no <row> (but {record.strip()[:20].decode(errors='replace')!r})"
