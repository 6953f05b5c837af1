"""JSON that comes from outside: files, lines and replies, none of which can be nested, long or odd enough to break what reads it.

``json.loads`` alone raises RecursionError for some 1,000 levels, and passes lone surrogates on, which no file, no digest and no terminal can
hold; what lies a few levels below its bound breaks whoever walks through the value later.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NoReturn

from harness.files.contents import HEAD, recognise
from harness.files.inputs import Input, read_lines, read_text
from harness.types import Json

DEEPEST = 100
"""Levels of lists and objects within each other."""
LONE_SURROGATE = "it holds half a character of two (a lone surrogate)"
COMMENTS = ("#", "//")
"""A line that begins so, which no JSON does, is a comment."""

_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
_ENDS = re.compile("[\r\x1e]")
_LONE = re.compile("[\ud800-\udfff]")
_SHOWN, _BRIEF = 80, 40
_ONE_A_LINE = "give one JSON object a line"
_NAMES = {dict: "an object", list: "a list", str: "a text", bool: "true or false", int: "a number", float: "a number", type(None): "null"}


class JsonError(ValueError):
    """A text that is not JSON, or JSON that cannot be used; its message is one line."""


def parse_json(
    text: str | bytes | bytearray,
    *,
    surrogates: Literal["refuse", "replace", "keep"] = "refuse",
    constants: bool = True,
    deepest: int = DEEPEST,
) -> Json:
    """Return the value of a JSON text.

    Args:
        text: as text, or as UTF-8 with or without a byte order mark.
        surrogates: lone surrogates (``"\\ud800"``) are refused, replaced by U+FFFD, or kept for the caller to look at.
        constants: NaN, Infinity and -Infinity, which are not JSON, are read as Python writes them; else they are refused.
        deepest: levels of lists and objects within each other.

    Raises:
        JsonError: a ValueError: not JSON, not UTF-8, nested too deeply, or what is refused.
    """
    try:
        if not isinstance(text, str):
            text = text.decode("utf-8-sig")
        value = json.loads(text.removeprefix("\ufeff"), parse_constant=None if constants else _no_constant)
    except RecursionError:
        raise JsonError(_too_deep(deepest)) from None
    except UnicodeDecodeError as error:
        raise JsonError(f"not valid UTF-8 ({error.reason})") from None
    except ValueError as error:  # what json raises is one, and so is what int() says of 5,000 digits
        if "set_int_max_str_digits" in str(error):
            raise JsonError(f"a whole number of more than {sys.get_int_max_str_digits():,} digits") from None
        raise JsonError(" ".join(str(error).split())) from None
    if text.count("[") + text.count("{") > deepest:
        check_depth(value, deepest)
    if surrogates != "keep" and (_SURROGATE_ESCAPE.search(text) or not is_unicode(text)):
        return _clean(value, surrogates)
    return value


def read_json(path: Path, kind: Input, *, constants: bool = False) -> Json:
    """Return the value of a JSON file in any encoding that :func:`harness.files.inputs.read_text` knows.

    Raises:
        HarnessError: of ``kind.error``: the file cannot be read, is not JSON (with the line), or holds what :func:`parse_json` refuses.
    """
    text = read_text(path, kind)
    try:
        return parse_json(text, constants=constants)
    except JsonError as error:
        _refuse(path, kind, text, f"is not valid JSON: {error}", kind.hint)


def json_lines(path: Path, kind: Input, *, constants: bool = False) -> Iterator[tuple[int, dict[str, Json]]]:
    """Yield line number, from 1, and object of each line of a JSON-lines file, one after the other.

    Blank lines and comments (:data:`COMMENTS`) are passed over. Encodings and line ends are those of
    :func:`harness.files.inputs.read_lines`; a carriage return alone, and the record separator of RFC 7464, end a line, too: neither can stand
    within a JSON text. A line's number then counts the parts of the file that hold something.

    Raises:
        HarnessError: of ``kind.error``: the file cannot be read, or a line, which is named, holds no JSON object.
    """
    for number, line in _parts(read_lines(path, kind)):
        if is_blank(line):
            continue
        try:
            row = parse_json(line, constants=constants)
        except JsonError as error:
            _refuse(path, kind, line, f"line {number}, is not valid JSON: {error}", f"{_ONE_A_LINE}; {kind.hint}", number)
        if not isinstance(row, dict):
            message = f"the {kind.what} {path}, line {number}, is no JSON object, but {_name(row)} ({line.strip()[:_BRIEF]!r})"
            raise kind.error(message, given=line[:_SHOWN], hint=f"{_ONE_A_LINE}; {kind.hint}")
        yield number, row


def _parts(lines: Iterator[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """Yield lines, each that holds several records taken apart."""
    more = 0
    for number, line in lines:
        parts = [line]
        if "\r" in line or "\x1e" in line:
            try:
                parse_json(line)
            except JsonError:
                parts = [part for part in _ENDS.split(line) if part.strip()] or [""]
        for place, part in enumerate(parts):
            more += place > 0
            yield number + more, part


def is_blank(line: str) -> bool:
    """Return whether a line of JSON lines holds nothing: white space alone, or a comment."""
    start = line.lstrip()
    return not start or start.startswith(COMMENTS)


def is_unicode(text: str) -> bool:
    """Return False for a text with lone surrogates, which JSON can hold, but no file, no digest and no tokenizer."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def without_surrogates(text: str) -> str:
    """Return a text with U+FFFD in place of its lone surrogates."""
    return text if is_unicode(text) else _LONE.sub("\N{REPLACEMENT CHARACTER}", text)


def check_depth(value: Json, deepest: int = DEEPEST) -> None:
    """Raise JsonError where lists and objects lie more than ``deepest`` levels within each other; a level at a time, so without recursion."""
    level, depth = [value], 0
    while level := [item for item in level if type(item) is dict or type(item) is list]:
        depth += 1
        if depth > deepest:
            raise JsonError(_too_deep(deepest))
        level = [inner for item in level for inner in (item.values() if type(item) is dict else item)]


def _too_deep(deepest: int) -> str:
    return f"it is nested more than {deepest} levels deep"


def _clean(value: Json, surrogates: str) -> Json:
    """Return a value, of a depth that was checked, without lone surrogates; raises JsonError where it has some and they are refused."""
    if isinstance(value, str):
        if is_unicode(value):
            return value
        if surrogates == "refuse":
            raise JsonError(LONE_SURROGATE)
        return without_surrogates(value)
    if isinstance(value, list):
        return [_clean(item, surrogates) for item in value]
    if isinstance(value, dict):
        return {_clean(name, surrogates): _clean(item, surrogates) for name, item in value.items()}
    return value


def _no_constant(name: str) -> NoReturn:
    raise JsonError(f"{name} is not a JSON number")


def _name(value: Json) -> str:
    return _NAMES[type(value)]


def _refuse(path: Path, kind: Input, text: str, why: str, hint: str, number: int = 1) -> NoReturn:
    """Raise for what is not JSON; a file that is something else altogether is named."""
    found = recognise(text[:HEAD].encode("utf-8", "replace")) if number == 1 else None
    if found is not None:
        kind.refuse(path, f"is {found.name}", found.hint)
    comma = "," if why.startswith("line") else ""
    raise kind.error(f"the {kind.what} {path}{comma} {why}", given=path if not comma else text[:_SHOWN], hint=hint) from None
