"""What a file is by its first bytes, where it is not what was expected: its name, and how to turn it into something that is read."""

from __future__ import annotations

import re
from typing import NamedTuple

HEAD = 1 << 12
"""So many of a file's first bytes are enough."""

_TABLE = "save it as CSV (UTF-8)"
_AS_TEXT = "have it written as JSON lines, CSV or Parquet"
_PICKLED = "it can run any code when read and is never opened; have it written as JSON lines, CSV or Parquet"


class Content(NamedTuple):
    """What a file is: a name with its article, and what to do with it. ``packed`` is the method of a packed file, for those that can be unpacked."""

    name: str
    hint: str
    packed: str = ""


_BEGINNINGS = (
    (b"\x1f\x8b", Content("packed with gzip", "unpack it: gunzip FILE", "gzip")),
    (b"\x28\xb5\x2f\xfd", Content("packed with Zstandard", "unpack it: unzstd FILE", "zstd")),
    (b"\xfd7zXZ\0", Content("packed with xz", "unpack it: unxz FILE", "xz")),
    (b"7z\xbc\xaf\x27\x1c", Content("a 7z archive", "unpack it: 7z x FILE", "7z")),
    (b"\x04\x22\x4d\x18", Content("packed with LZ4", "unpack it: unlz4 FILE", "lz4")),
    (b"Rar!", Content("a RAR archive", "unpack it: unrar x FILE")),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", Content("an old Excel workbook or Office document", _TABLE)),
    (b"SQLite format 3\0", Content("an SQLite database", "export the table: sqlite3 -header -csv FILE 'select * from TABLE' > table.csv")),
    (b"%PDF", Content("a PDF document", "give its text as JSON lines")),
    (b"\x89PNG", Content("a picture", "give a file of texts")),
    (b"\xff\xd8\xff", Content("a picture", "give a file of texts")),
    (b"\x89HDF\r\n", Content("an HDF5 file", _AS_TEXT)),
    (b"ARROW1", Content("an Arrow (Feather) file", "write it as Parquet: pyarrow.feather.read_table, pyarrow.parquet.write_table")),
    (b"FEA1", Content("a Feather file", "write it as Parquet: pandas.read_feather, to_parquet")),
    (b"Obj\x01", Content("an Avro file", _AS_TEXT)),
    (b"\x93NUMPY", Content("a NumPy array", _AS_TEXT)),
    (b"PAR1", Content("a Parquet file", "give it where a table is expected, with the ending .parquet")),
    (b"GGUF", Content("a GGUF model file", "give a file of texts")),
    (b"version https://git-lfs.github.com/spec/", Content("a pointer of Git LFS, not the file itself", "fetch the file: git lfs pull")),
    (b"version https://hawser.github.com/spec/", Content("a pointer of Git LFS, not the file itself", "fetch the file: git lfs pull")),
)
_ZIPPED = (
    (b"xl/", Content("an Excel workbook", _TABLE)),
    (b"opendocument.spreadsheet", Content("an OpenDocument spreadsheet", _TABLE)),
    (b"word/", Content("a Word document", "give its text as JSON lines")),
    (b"[Content_Types].xml", Content("an Office document (Excel, Word)", _TABLE)),
    (b"data.pkl", Content("a PyTorch pickle", _PICKLED)),
    (b".npy", Content("a NumPy archive (.npz)", _AS_TEXT)),
)
"""What a ZIP archive is by the names at its beginning."""
_BZIP2 = re.compile(rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)")
_PICKLE = re.compile(rb"\x80[\x02-\x05]")
_HTML = re.compile(rb"(?:<\?xml[^>]*>\s*)?(?:<!--.{0,500}?-->\s*)*<(?:!doctype\s+html|html|head|body)\b", re.IGNORECASE | re.DOTALL)
_TAR = 257
_CONTROL = tuple(number for number in range(0x20) if chr(number) not in "\t\n\v\f\r\x1b")
"""Bytes that no text has; where a few stand among many others, a text is damaged."""


def recognise(head: bytes) -> Content | None:
    """Return what a file is by its first :data:`HEAD` bytes; None for text, and for what is not known."""
    for beginning, content in _BEGINNINGS:
        if head.startswith(beginning):
            return content
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")):
        return next((content for name, content in _ZIPPED if name in head), Content("a ZIP archive", "unpack it: unzip FILE", "zip"))
    if _BZIP2.match(head):
        return Content("packed with bzip2", "unpack it: bunzip2 FILE", "bz2")
    if _PICKLE.match(head):
        return Content("a Python pickle", _PICKLED)
    if head[_TAR : _TAR + 5] == b"ustar":
        return Content("a tar archive", "unpack it: tar xf FILE")
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if _HTML.match(start):
        return Content("an HTML page", "if a server sent it in the place of a file, fetch the file again")
    if 20 * sum(head.count(byte) for byte in _CONTROL) >= len(head) > 0 and not head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return Content("a binary file", "give a file of text")
    return None
