"""Names that come from outside and become names of files and folders: none may lead out of its folder, or be one that a system refuses."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator

LONGEST = 100
"""Characters of a name; a file that is called by it has room for a digest and an ending within the 255 bytes that systems allow."""
_BYTES = 180
_REFUSED = re.compile(r'[/\\:*?"<>|]')
_RESERVED = re.compile(r"(?:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(?:\..*)?", re.IGNORECASE)
_LONGEST_PATH, _LONGEST_PART = 4000, 255


def name_fault(name: str) -> str:
    """Return why a name cannot be that of a file or folder on every system, or "" where it can.

    Letters of any alphabet, digits, spaces within and all other printable signs but ``/ \\ : * ? " < > |`` may be in it. It begins neither with a
    dot (so it is no hidden file, and not ``..``) nor with a hyphen (so that no command takes it for an option), and ends with no dot or space.
    """
    if not name:
        return "it is empty"
    if len(name) > LONGEST or len(name.encode("utf-8", "replace")) > _BYTES:
        return f"it has {len(name)} characters; {LONGEST} ({_BYTES} bytes) at most"
    if not name.isprintable():
        return "it holds a character that cannot be printed"
    if found := _REFUSED.search(name):
        return f"it holds {found[0]!r}; it becomes the name of a folder"
    if name[0] in ".- " or name[-1] in ". ":
        return "it begins with a dot, a hyphen or a space, or ends with a dot or a space"
    if _RESERVED.fullmatch(name):
        return "it is a name that Windows keeps for a device"
    return ""


def path_fault(path: str) -> str:
    """Return why a text cannot be the path of a file or folder, or the name of something on a hub; "" where it can. ``..`` is allowed."""
    if not path.strip():
        return "it is empty"
    if not path.isprintable():
        return "it holds a character that cannot be printed"
    if len(path) > _LONGEST_PATH or any(len(part.encode("utf-8", "replace")) > _LONGEST_PART for part in re.split(r"[/\\]", path)):
        return "it is longer than a path can be"
    return ""


def _name(value: str) -> str:
    if fault := name_fault(value):
        raise ValueError(f"not usable as a name: {fault}")
    return value


def _path(value: str) -> str:
    if fault := path_fault(value):
        raise ValueError(f"not usable as a path: {fault}")
    return value


Name = Annotated[str, AfterValidator(_name)]
"""A text that :func:`name_fault` finds nothing wrong with, for fields of pydantic models."""
PathText = Annotated[str, AfterValidator(_path)]
"""A text that :func:`path_fault` finds nothing wrong with, for fields of pydantic models."""
