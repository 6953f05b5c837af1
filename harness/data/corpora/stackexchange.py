"""Stack Exchange dumps: the questions of a forum, labelled with their tags (the corpus of Jørgensen & Hansen 2026, arXiv 2605.31183).

A dump is a folder with ``Posts.xml`` and, mostly, ``Comments.xml``: UTF-8, often with a BOM, one ``<row …/>`` a record, the post's HTML
escaped in an attribute. The files are read record by record and never held: a damaged record is skipped, and nothing outside a single
``<row …/>`` is ever parsed, so a document type declaration (and with it any entity trick) has no effect.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from harness.data.corpora.comments import CommentIndex, User
from harness.data.corpora.html_text import html_to_text
from harness.data.corpora.reading import Place, Record, Report, SkipLog, Skipped, vanished
from harness.data.corpora.xml_rows import parse_row, record_at, rows
from harness.types import Document

POSTS, COMMENTS = "Posts.xml", "Comments.xml"
_POST_BYTES = 1 << 13
_QUESTION = "1"
_POST_TYPE = re.compile(rb"""<row(?:\s+[^\s=]+\s*=\s*(?:"[^"]*"|'[^']*'))*?\s+PostTypeId\s*=\s*["'](\d+)["']""")
_TAG = re.compile(r"[^<>|\s]+")


class StackExchangeReader:
    """The questions of a dump: title, body and the comments of other users as the text, tags as labels, the post's Id as id.

    Answers, tag wikis and all other kinds of posts are passed over. A question with an empty body is its title (and comments).

    Args:
        posts: ``Posts.xml``; comments are taken from the ``Comments.xml`` beside it, if there is one.
        comments: append the comments that other users than the asker wrote, in the order of the file.
        code_blocks: keep code that stands in a block of its own.
    """

    format = "stackexchange"
    own_ids = True
    by_bytes = True

    def __init__(self, posts: Path, *, comments: bool = True, code_blocks: bool = True) -> None:
        self._posts = posts
        beside = posts.with_name(COMMENTS)
        self._comments = CommentIndex(beside) if comments and beside.is_file() else None
        self._code_blocks = code_blocks
        self.files: tuple[Path, ...] = (posts,) if self._comments is None else (posts, beside)

    @property
    def extent(self) -> int:
        return self._posts.stat().st_size

    @property
    def content(self) -> str:
        return "" if self._comments is None else self._comments.digest

    def check(self) -> None:
        """A dump's attributes are what they are."""

    def prepare(self, report: Report) -> SkipLog:
        return SkipLog() if self._comments is None else self._comments.skipped(report)

    def records(self) -> Iterator[Record | Skipped]:
        for offset, row in rows(self._posts, "posts", _is_question):
            found = row if isinstance(row, str) else self._record(row, offset)
            if found is not None:
                yield Skipped(str(self._posts), offset, found) if isinstance(found, str) else found

    def at(self, place: Place) -> Document:
        row = parse_row(record_at(self._posts, place.start, _POST_BYTES))
        found = row if isinstance(row, str) else self._record(row, place.start)
        if not isinstance(found, Record):
            raise vanished(self._posts, place.start)
        return found.document()

    def _record(self, row: Mapping[str, str], offset: int) -> Record | str | None:
        """Return the question of a row, or why there is none; None for a post of another kind."""
        if row.get("PostTypeId") != _QUESTION:
            return None if "PostTypeId" in row else "a post without PostTypeId"
        missing = [name for name in ("Id", "Title") if not row.get(name, "").strip()] + ["Body"] * ("Body" not in row)
        if missing:
            return f"a question without {' and '.join(missing)}"
        return Record(Place(offset, 0), row["Id"], frozenset(_TAG.findall(row.get("Tags", ""))), partial(self._text, row))

    def _text(self, row: Mapping[str, str]) -> str:
        parts = [row["Title"].strip(), html_to_text(row["Body"], code_blocks=self._code_blocks)]
        if self._comments is not None:
            asker = User.of(row, "Owner")
            parts += [text for user, text in self._comments.of(row["Id"]) if not user.same(asker)]
        return "\n".join(part for part in parts if part)


def _is_question(record: bytes) -> bool:
    """Return whether a record may be a question: said by its type, or not said at all."""
    kind = _POST_TYPE.match(record)
    return kind is None or kind[1].decode() == _QUESTION
