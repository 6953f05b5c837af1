"""What is typed into the search field, as conditions on the index.

All words must occur, in any order and case, accents aside; ``"several words"`` in this order; ``word*`` for words that begin so; ``-word`` must not
occur. Writing without spaces between words (Chinese, Japanese, Thai, …) and signs are looked for letter by letter.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Within = Literal["all", "text", "instruction", "concept"]
COLUMNS: tuple[Within, ...] = ("text", "instruction", "concept")
"""The columns of the index' table ``words``."""

_TERM = re.compile(r'(-?)(?:"([^"]*)"?|(\S+))')
_SPECIAL = re.compile(r"[%_\\]")
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]")
"""Letters of writing systems in which a word has no bounds that a tokenizer of words would see."""


@dataclass(frozen=True)
class Search:
    """A parsed search: conditions on rows of ``words``.

    Attributes:
        match: an expression of FTS5 that finds all words; empty where there are none.
        without: expressions of what must not occur.
        parts, without_parts: patterns of LIKE (escaped by a backslash), for what is looked for letter by letter.
        within: where is searched.
    """

    match: str = ""
    without: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    without_parts: tuple[str, ...] = ()
    within: Within = "all"

    def conditions(self, position: str) -> tuple[list[str], list[str]]:
        """Return conditions on ``position``, a column with the row's number in ``words``, and their values."""
        where, values = [], []
        columns: Sequence[str] = COLUMNS if self.within == "all" else (self.within,)
        likes = " OR ".join(rf"{column} LIKE ? ESCAPE '\'" for column in columns)
        for negated, words, parts in (("", (self.match,) if self.match else (), self.parts), ("NOT ", self.without, self.without_parts)):
            for word in words:
                where.append(f"{position} {negated}IN (SELECT rowid FROM words WHERE words MATCH ?)")
                values.append(word)
            for part in parts:
                where.append(f"{position} {negated}IN (SELECT rowid FROM words WHERE {likes})")
                values += [part] * len(columns)
        return where, values


def parse_search(text: str, within: Within = "all") -> Search:
    """Return what a search asks for; whatever is typed is a valid search, and nothing in it is an expression of SQLite's."""
    found: list[str] = []
    without: list[str] = []
    parts: list[str] = []
    without_parts: list[str] = []
    for minus, quoted, word in _TERM.findall(text.replace("\0", " ")):
        term = quoted or word
        if not any(letter.isalnum() for letter in term) or _UNSPACED.search(term):
            if term.strip():
                (without_parts if minus else parts).append("%" + _SPECIAL.sub(r"\\\g<0>", term) + "%")
            continue
        phrase = '"' + term.rstrip("*").replace('"', '""') + '"' + ("*" if word.endswith("*") else "")
        (without if minus else found).append(phrase)
    scope = "" if within == "all" else f"{within} : "
    match = f"{scope}({' AND '.join(found)})" if found else ""
    return Search(match, tuple(f"{scope}({phrase})" for phrase in without), tuple(parts), tuple(without_parts), within)
