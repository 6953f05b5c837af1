"""TOML files, read in one way: what is wrong with one is said in one line, with the file and the line in it."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.files.inputs import Input, read_bytes

_PLACE = re.compile(r"\s*\(at (?:line (\d+), column \d+|end of document)\)$")


def read_toml(path: Path, what: str, error: type[HarnessError], hint: str) -> dict[str, Any]:
    """Return the content of a TOML file: UTF-8, with or without a byte order mark.

    Args:
        path: the file.
        what: what it is, for messages, e.g. ``task file``.
        error: what is raised.
        hint: what to do where it is not there or cannot be read.

    Raises:
        HarnessError: of the kind ``error``: the file is missing, is not a file, cannot be read, is too large, or is not TOML.
    """
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    content = read_bytes(path, Input(what, error, hint))
    try:
        return tomllib.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError as problem:
        line = content.count(b"\n", 0, problem.start) + 1
        raise error(f"the {what} {path}, line {line}, is not valid TOML: it is not UTF-8", given=path, hint="save it as UTF-8") from None
    except RecursionError:
        raise error(f"the {what} {path} is nested too deeply", given=path, hint="correct it") from None
    except ValueError as problem:  # what tomllib raises for bad TOML is one, and so is what int() says of 5,000 digits
        raise error(f"the {what} {path}{_where(str(problem), content)}", given=path, hint="correct it") from None


def _where(message: str, content: bytes) -> str:
    """``, line 3: what is wrong`` of a parser's message, which names the place at its end."""
    place = _PLACE.search(message)
    words = " ".join(_PLACE.sub("", message).split())
    if place is None:
        return f" is not valid TOML: {words}"
    line = place[1] or content.rstrip().count(b"\n") + 1
    return f", line {line}, is not valid TOML: {words}"
