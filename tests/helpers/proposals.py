"""The command that a screen proposes, and the screen without it: a word of a command that is wider than the screen stays whole."""

from __future__ import annotations

import re
import shlex

_NEXT = re.compile(r"^ next:\s+(.*?)(?:  |\n +)\(", re.MULTILINE | re.DOTALL)


def proposed(text: str) -> list[str]:
    """The words of the command that a screen proposes, as a shell takes them."""
    found = _NEXT.search(text)
    assert found is not None, text
    return shlex.split(found.group(1).replace("\\\n", ""))


def without_command(text: str) -> str:
    """A screen without the commands that it proposes."""
    return _NEXT.sub("(", text)
