"""What is typed into the search field, as conditions on the index.

All words must occur, in any order and case, accents aside; ``"several words"`` in this order; ``word*`` for words that begin so; ``-word`` must not
occur. Writing without spaces between words (Chinese, Japanese, Thai, …) and signs are looked for letter by letter.
"""

from __future__ import annotations

import re
import sqlite3
from dataclasses import dataclass
from typing import Literal

Within = Literal["all", "text", "instruction", "concept"]
COLUMNS: tuple[Within, ...] = ("text", "instruction", "concept")
"""The columns of the index' table ``words``."""

_TERM = re.compile(r'(-?)(?:"([^"]*)"?|(\S+))')
_SPECIAL = re.compile(r"[%_\\]")
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]")
"""Letters of writing systems in which a word has no bounds that a tokenizer of words would see."""


def count_terms(text: str) -> int:
    """Return how many words, phrases and signs a search looks for."""
    return len(_TERM.findall(text))


@dataclass(frozen=True)
class Search:
    """A parsed search.

    Attributes:
        match: an expression of FTS5 that finds all words; empty where there are none.
        without: expressions of what must not occur.
        parts, without_parts: what is looked for letter by letter, and what must not occur.
        within: where is searched.
    """

    match: str = ""
    without: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    without_parts: tuple[str, ...] = ()
    within: Within = "all"

    def find(self, connection: sqlite3.Connection) -> None:
        """Put the numbers of the texts that were found into the connection's own table ``hits``."""
        where, values = [], []
        for negated, words, parts in (("", (self.match,) if self.match else (), self.parts), ("NOT ", self.without, self.without_parts)):
            for word in words:
                where.append(f"position {negated}IN (SELECT rowid FROM words WHERE words MATCH ?)")
                values.append(word)
            for part in parts:
                test, value, columns = self._letters(part)
                where.append(f"position {negated}IN (SELECT id FROM words_content WHERE {test})")
                values += [value] * columns
        connection.execute("PRAGMA temp_store=MEMORY")
        connection.execute("CREATE TEMP TABLE hits (position INTEGER PRIMARY KEY)")
        connection.execute(f"INSERT INTO hits SELECT position FROM texts WHERE {' AND '.join(where) or '1'}", values)

    def _letters(self, part: str) -> tuple[str, str, int]:
        """Return a test whether the letters stand in a row of FTS5's own table of contents, its value, and how often it takes that."""
        columns = [f"c{place}" for place, column in enumerate(COLUMNS) if self.within in ("all", column)]
        if part.lower() == part.upper():  # no letter has a case
            return " OR ".join(f"instr({column}, ?)" for column in columns), part, len(columns)
        pattern = "%" + _SPECIAL.sub(r"\\\g<0>", part) + "%"
        return " OR ".join(rf"{column} LIKE ? ESCAPE '\'" for column in columns), pattern, len(columns)


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
                (without_parts if minus else parts).append(term)
            continue
        phrase = '"' + term.rstrip("*").replace('"', '""') + '"' + ("*" if word.endswith("*") else "")
        (without if minus else found).append(phrase)
    scope = "" if within == "all" else f"{within} : "
    match = f"{scope}({' AND '.join(found)})" if found else ""
    return Search(match, tuple(f"{scope}({phrase})" for phrase in without), tuple(parts), tuple(without_parts), within)
