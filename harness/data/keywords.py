"""Words of a text, and keywords among them: whole words, or beginnings of words where the keyword ends in ``*``."""

from __future__ import annotations

import re
from collections.abc import Sequence

WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
"""Letters and digits; an apostrophe inside a word belongs to it."""

_BEFORE_MARK = re.compile(r"[ \t]+(?=[,.;:!?])")
_SPACES = re.compile(r"[ \t]{2,}")


class KeywordMatcher:
    """Finds the words of a text that match a concept's keywords.

    Args:
        keywords: lower case; ``cook*`` matches every word that begins so, any other keyword that word alone.
    """

    def __init__(self, keywords: Sequence[str]) -> None:
        self._words = {keyword for keyword in keywords if not keyword.endswith("*")}
        self._beginnings = tuple(keyword[:-1] for keyword in keywords if keyword.endswith("*"))

    def count(self, words: Sequence[str]) -> tuple[int, int]:
        """Count the lower-case words that match, and the different keywords that they match."""
        hits = [found for word in words if (found := self._match(word))]
        return len(hits), len(set(hits))

    def without(self, text: str) -> str:
        """Return ``text`` without the words that match, in any case; a word before an apostrophe (``pan's``) counts as the word.

        Nothing takes the place of the words; doubled spaces and spaces before punctuation are removed. A text without a match is returned as
        it is.
        """
        found = [match for match in WORD.finditer(text) if self._takes_out(match.group())]
        if not found:
            return text
        edges = [0, *(edge for match in found for edge in match.span()), len(text)]
        kept = "".join(text[start:stop] for start, stop in zip(edges[::2], edges[1::2], strict=True))
        return _SPACES.sub(" ", _BEFORE_MARK.sub("", kept)).strip()

    def _takes_out(self, word: str) -> bool:
        plain = word.lower().replace("’", "'")
        return bool(self._match(plain) or self._match(plain.partition("'")[0]))

    def _match(self, word: str) -> str:
        if word in self._words:
            return word
        return next((beginning for beginning in self._beginnings if word.startswith(beginning)), "")


def words_of(text: str) -> list[str]:
    """Return the words of a text in lower case; an apostrophe inside a word belongs to it."""
    return [word.replace("’", "'") for word in WORD.findall(text.lower())]

