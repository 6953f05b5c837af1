"""``<row …/>`` records of large XML files, one at a time and with their byte offsets; a damaged record costs itself alone.

In well-formed XML a ``<`` stands nowhere inside a tag, attribute values included (it is written ``&lt;`` there). So the bytes from one
``<`` up to the next are one record, however the file breaks its lines, and after a damaged record the next ``<row`` is a sure place to
go on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO
from xml.etree import ElementTree

_CHUNK = 1 << 20
_RECORD_LIMIT = 1 << 24
_ROW = (b"<row ", b"<row\t", b"<row\n", b"<row\r")
_FRAME = (b"<?", b"<!", b"</")


def rows(path: Path, root: str, wanted: Callable[[bytes], bool] | None = None) -> Iterator[tuple[int, dict[str, str] | str]]:
    """(byte offset, attributes) of the rows of a file; in place of the attributes of a damaged one, the reason.

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
                if wanted is not None and not wanted(record):
                    continue
                row = parse_row(record)
                damaged = isinstance(row, str)
                if isinstance(row, str):
                    last = (offset, row)  # held back: at the end of a file that was cut off it is no damage of its own
                else:
                    yield offset, row
            elif record.startswith(closing):
                complete = True
            elif not damaged and not record.startswith((opening, *_FRAME)):
                damaged = True
                yield offset, f"{record[:20].decode(errors='replace')!r} is no <row>"
        if last is not None and complete:
            yield last
        if not complete:
            yield (last[0] if last else file.tell()), f"the file ends without </{root}>: it was cut off here, and is used up to this place"


def records(file: BinaryIO, start: int = 0, chunk: int = _CHUNK) -> Iterator[tuple[int, bytes]]:
    """(byte offset, bytes) from each ``<`` up to the next or the end; what stands between ``start`` and the first one is left out."""
    file.seek(start)
    rest, position, opened = b"", start, False
    while data := file.read(chunk):
        *pieces, rest = (rest + data).split(b"<")
        if len(rest) > _RECORD_LIMIT:  # no record is so long: hand it out as it is, and take no more of it into memory
            pieces.append(rest)
            rest = b""
        for piece in pieces:
            if opened:
                yield position - 1, b"<" + piece
            position += len(piece) + 1
            opened = True
    if opened:
        yield position - 1, b"<" + rest


def parse_row(record: bytes) -> dict[str, str] | str:
    """The attributes of one ``<row …/>`` (or ``<row …>``), or why it is not well-formed. No entities but XML's own five are known."""
    record = record.strip()
    if record.endswith(b">") and not record.endswith(b"/>"):
        record = record[:-1] + b"/>"
    try:
        return dict(ElementTree.fromstring(record).attrib)
    except ElementTree.ParseError as error:
        return f"not a well-formed row ({error})"
