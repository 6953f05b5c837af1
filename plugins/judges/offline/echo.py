"""The instruction repeated at the start of a text: found by words, so that case, marks and small slips do not hide it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import SequenceMatcher

ALIKE = 0.8
"""Share of the instruction's words, and of the text's, that must agree for the start of the text to count as an echo."""
MAX_ECHOES = 4
_WORD = re.compile(r"\w+(?:['’]\w+)*")
_REST = re.compile(r"[^\w\s]*[^\S\n]*(?:\n\s*)?")
_BETWEEN = re.compile(r"[\s\"'“”‘’*_#>:;,.?!()\[\]-]*")


@dataclass(frozen=True)
class Unechoed:
    """A text without the instruction that it began with.

    Attributes:
        text: what is left; the whole text if there is no echo, or nothing else.
        echoed: words of the text that repeat the instruction.
        alone: the text is the instruction and nothing else.
    """

    text: str
    echoed: int
    alone: bool


def cut_echo(instruction: str, text: str) -> Unechoed:
    """Cut the instruction off the start of ``text``, however often it stands there."""
    asked = [match.group().casefold() for match in _WORD.finditer(instruction)]
    rest, echoed = text.strip(), 0
    for _ in range(MAX_ECHOES):
        found = _echo(asked, rest)
        if found is None:
            break
        end, words = found
        echoed += words
        rest = rest[end:].strip()
        if not _WORD.search(rest):
            return Unechoed(text.strip(), echoed, alone=True)
    return Unechoed(rest, echoed, alone=False)


def _echo(asked: list[str], text: str) -> tuple[int, int] | None:
    """Where in ``text`` an echo of the words ``asked`` at its start ends, and of how many words it is; None if it does not begin with one."""
    words = list(_WORD.finditer(text))
    if not asked or not words:
        return None
    said = [match.group().casefold() for match in words[: len(asked) + max(2, len(asked) // 4)]]
    blocks = [block for block in SequenceMatcher(None, asked, said, autojunk=False).get_matching_blocks() if block.size]
    if not blocks:
        return None
    agree, end = sum(block.size for block in blocks), blocks[-1].b + blocks[-1].size
    broken_off = end == len(words) and end >= 5  # a text that ends within the echo
    enough = agree >= ALIKE * len(asked) or broken_off
    if not enough or agree < ALIKE * end or (len(asked) < 3 and agree < len(asked)):
        return None
    place = words[end - 1].end()
    marks = _REST.match(text, place)
    return marks.end() if marks else place, end
