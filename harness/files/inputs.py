"""Files that come from outside, looked at before they are read: what kind of file they are, how large, how encoded.

Everything that a user, another project or a server wrote passes through here: a task, concepts, instructions, label files, entries, rubrics,
sheets, configurations. A pipe, a device or a folder in the place of a file is one line, and is never waited for; a file that is larger than
its kind can be is refused before it is read. JSON is read by :mod:`harness.files.json_text`, TOML by :mod:`harness.files.toml`, files that are
packed by :mod:`harness.files.packed`.
"""

from __future__ import annotations

import codecs
import io
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NoReturn

from harness.errors import DataError, HarnessError
from harness.files.contents import HEAD, recognise

BY_HAND = 1 << 24
"""Bytes of the largest file that people write by hand: a task, a rubric, prices, ``.env``, a configuration."""
IN_MEMORY = 1 << 30
"""Bytes of the largest file that is held in memory: lists of concepts, instructions and ratings, label files, entries."""
LONGEST_LINE = 1 << 24
"""Bytes of the longest line that is read from a file of lines."""

_PRINTABLE = (*b"\t\r\n", *range(0x20, 0x7F))
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""Byte order marks; those of UTF-32 come before those of UTF-16, with which they begin."""


@dataclass(frozen=True)
class Input:
    """A kind of file that comes from outside.

    Attributes:
        what: what it is, for messages, e.g. ``list of concepts``.
        error: what is raised where it cannot be read.
        hint: what to do then.
        largest: bytes of the largest such file that is read; None: it is read in parts, however large it is.
    """

    what: str
    error: type[HarnessError] = DataError
    hint: str = "check the path"
    largest: int | None = BY_HAND

    def refuse(self, path: Path | str, why: str, hint: str = "") -> NoReturn:
        """Raise the error of this kind: ``the WHAT PATH WHY``."""
        raise self.error(f"the {self.what} {path} {why}", given=path, hint=hint or self.hint) from None


def check_file(path: Path, kind: Input) -> os.stat_result:
    """Refuse what is not a regular file, or is too large for its kind; nothing is opened.

    Returns:
        The file's state.

    Raises:
        HarnessError: of ``kind.error``: there is nothing, a folder, a pipe, a device, a socket, or a file of too many bytes.
    """
    try:
        state = os.stat(path)
    except (OSError, ValueError) as error:
        _unreadable(path, kind, error)
    _check_state(state, path, kind)
    return state


def open_input(path: Path, kind: Input) -> BinaryIO:
    """Open a regular file for reading; to be closed by the caller. Raises as :func:`check_file` does, and where reading is not permitted."""
    check_file(path, kind)
    try:
        # what lies there may have become a pipe since; without this flag, opening one waits for its writer
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0))
    except OSError as error:
        _unreadable(path, kind, error)
    file = os.fdopen(descriptor, "rb")
    try:
        _check_state(os.fstat(descriptor), path, kind)
    except BaseException:
        file.close()
        raise
    return file


def read_bytes(path: Path, kind: Input) -> bytes:
    """Return a file's content. Raises as :func:`open_input` does; a file that grows beyond its kind's size while it is read is refused, too."""
    try:
        with open_input(path, kind) as file:
            content = file.read() if kind.largest is None else file.read(kind.largest + 1)
    except OSError as error:
        _unreadable(path, kind, error)
    if kind.largest is not None and len(content) > kind.largest:
        kind.refuse(path, f"has more than {kind.largest:,} bytes", _SMALLER)
    return content


def read_text(path: Path, kind: Input) -> str:
    """Return a file's text: UTF-8 with or without a byte order mark, or UTF-16 or UTF-32, told by their mark or by their zero bytes.

    Line ends stay as they are. Raises as :func:`read_bytes` does, and for another encoding, with the line.
    """
    content = read_bytes(path, kind)
    encoding = encoding_of(content[:HEAD])
    try:
        return content.decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        if encoding.startswith("utf-8"):
            _not_utf8(path, kind, content, content.count(b"\n", 0, error.start) + 1)
        kind.refuse(path, f"is not valid {encoding.upper()} ({error.reason})", f"{_SAVE}; {kind.hint}")


def read_lines(path: Path, kind: Input) -> Iterator[tuple[int, str]]:
    r"""Yield number, from 1, and text of each line of a file, one after the other; the encodings are those of :func:`read_text`.

    ``\n`` and ``\r\n`` end a line, and nothing else does: U+2028, U+0085 or a form feed may stand within a text. Raises as :func:`read_text`
    does, and for a line of more than :data:`LONGEST_LINE` bytes.
    """
    try:
        with open_input(path, kind) as file:
            head = file.read(HEAD)
            file.seek(0)
            encoding = encoding_of(head)
            if not encoding.startswith("utf-8"):
                yield from _decoded_lines(file, encoding, path, kind)
                return
            number = 0
            while line := file.readline(LONGEST_LINE + 2):
                number += 1
                content = without_end(line)
                if len(content) > LONGEST_LINE:
                    _too_long(path, kind, number)
                try:
                    text = content.decode()
                except UnicodeDecodeError:
                    _not_utf8(path, kind, head, number)
                yield number, text.removeprefix("\ufeff") if number == 1 else text
    except OSError as error:
        _unreadable(path, kind, error)


def split_lines(text: str) -> list[str]:
    r"""Return the lines of a text that is in memory, without their ends: ``\n`` and ``\r\n`` end a line, and nothing else does."""
    lines = text.split("\n")
    if not lines[-1]:
        lines.pop()
    return [line.removesuffix("\r") for line in lines]


def without_end(line: bytes) -> bytes:
    r"""Return a line without its end, ``\n`` or ``\r\n``."""
    return line[:-1].removesuffix(b"\r") if line.endswith(b"\n") else line


def encoding_of(head: bytes) -> str:
    """Return the encoding of a text by its first bytes: by its mark, or by the zero bytes of UTF-16 and UTF-32 text; else UTF-8.

    A text of any other encoding cannot be told by its bytes.
    """
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return encoding
    first = head[:4]
    if len(first) == 4 and first.count(0) == 3 and (first[0] in _PRINTABLE or first[3] in _PRINTABLE):
        return "utf-32-le" if first[0] else "utf-32-be"
    even, odd = head[::2], head[1::2]
    for zeros, letters, encoding in ((odd, even, "utf-16-le"), (even, odd, "utf-16-be")):
        # of European text and of JSON and CSV in any alphabet, many characters have a zero byte, always on the same side
        if letters and zeros[:1] == b"\0" and letters[0] in _PRINTABLE and 4 * zeros.count(0) >= len(zeros):
            return encoding if 20 * letters.count(0) <= len(letters) else "utf-8"
    return "utf-8"


# ------------------------------------------------------------------------------------------------------------------ what is wrong

_SMALLER = "give a smaller file"
_SAVE = "save it as UTF-8"


def _check_state(state: os.stat_result, path: Path, kind: Input) -> None:
    if not stat.S_ISREG(state.st_mode):
        kind.refuse(path, f"is not a file, but {_kind_of(state.st_mode)}", "give a regular file")
    if kind.largest is not None and state.st_size > kind.largest:
        kind.refuse(path, f"has {state.st_size:,} bytes, {kind.largest:,} at most", _SMALLER)


def _kind_of(mode: int) -> str:
    kinds = ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a pipe"), (stat.S_ISCHR, "a device"), (stat.S_ISBLK, "a device"))
    return next((name for is_kind, name in kinds if is_kind(mode)), "a socket")


def _unreadable(path: Path, kind: Input, error: OSError | ValueError) -> NoReturn:
    """Raise for a path that cannot be opened, or a file that cannot be read on."""
    if isinstance(error, FileNotFoundError):
        raise kind.error(f"there is no {kind.what} at {path}", given=path, hint=kind.hint) from None
    reason = (error.strerror or str(error)) if isinstance(error, OSError) else "the path holds a NUL character"
    raise kind.error(f"the {kind.what} {str(path)!r} cannot be read ({reason})", given=path, hint=kind.hint) from None


def _not_utf8(path: Path, kind: Input, head: bytes, number: int) -> NoReturn:
    """Raise for bytes that are not UTF-8: a file of a known kind is named, else the line is."""
    found = recognise(head[:HEAD])
    if found is not None:
        kind.refuse(path, f"is {found.name}", found.hint)
    raise kind.error(f"the {kind.what} {path}, line {number}, is not UTF-8", given=path, hint=f"{_SAVE}; {kind.hint}") from None


def _too_long(path: Path, kind: Input, number: int) -> NoReturn:
    raise kind.error(
        f"the {kind.what} {path}, line {number}, has more than {LONGEST_LINE >> 20} MB", given=path, hint="break it into lines"
    ) from None


def _decoded_lines(file: BinaryIO, encoding: str, path: Path, kind: Input) -> Iterator[tuple[int, str]]:
    text = io.TextIOWrapper(file, encoding, newline="\n")
    number = 0
    try:
        while line := text.readline(LONGEST_LINE + 2):
            number += 1
            content = line[:-1].removesuffix("\r") if line.endswith("\n") else line
            if len(content) > LONGEST_LINE:
                _too_long(path, kind, number)
            yield number, content.removeprefix("\ufeff") if number == 1 else content
    except UnicodeDecodeError as error:
        kind.refuse(path, f"is not valid {encoding.upper()} ({error.reason})", f"{_SAVE}; {kind.hint}")
