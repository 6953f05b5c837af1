"""Stack Exchange dumps: the questions of a forum, labelled with their tags (the corpus of Jørgensen & Hansen 2026, arXiv 2605.31183).

A dump is a folder with ``Posts.xml`` and, mostly, ``Comments.xml``: UTF-8, often with a BOM, one ``<row …/>`` a record, the post's HTML
escaped in an attribute. The files are read record by record and never held: a damaged record is skipped, and nothing outside a single
``<row …/>`` is ever parsed, so a document type declaration (and with it any entity trick) has no effect.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.data.html_text import comment_to_text, html_to_text
from harness.data.reading import Skipped
from harness.data.xml_rows import parse_row, records, rows
from harness.types import Document

POSTS, COMMENTS = "Posts.xml", "Comments.xml"
_COMMENT_BYTES = 4096
_QUESTION = "1"
_POST_TYPE = re.compile(rb"""\sPostTypeId\s*=\s*["'](\d+)["']""")
_TAG = re.compile(r"[^<>|\s]+")

User = tuple[str, str]
"""(user id, display name); a deleted user has a display name alone, and some have neither."""


class StackExchangeReader:
    """The questions of a dump: title, body and the comments of other users as the text, tags as labels, the post's Id as id.

    Args:
        posts: ``Posts.xml``; comments are taken from the ``Comments.xml`` beside it, if there is one.
        comments: append the comments that other users than the asker wrote, in the order of the file.
        code_blocks: keep code that stands in a block of its own.
    """

    format = "stackexchange"
    own_ids = True

    def __init__(self, posts: Path, *, comments: bool = True, code_blocks: bool = True) -> None:
        self._posts = posts
        beside = posts.with_name(COMMENTS)
        self._comments = CommentIndex(beside) if comments and beside.is_file() else None
        self._code_blocks = code_blocks

    def read(self) -> Iterator[Document | Skipped]:
        if self._comments is not None:
            yield from self._comments.skipped()
        for offset, row in rows(self._posts, "posts", _is_question):
            if isinstance(row, str):
                yield Skipped(str(self._posts), offset, row)
            elif row.get("PostTypeId") == _QUESTION:
                missing = [name for name in ("Id", "Title", "Body") if not row.get(name, "").strip()]
                yield Skipped(str(self._posts), offset, f"a question without {' and '.join(missing)}") if missing else self._document(row)

    def _document(self, row: Mapping[str, str]) -> Document:
        parts = [row["Title"].strip(), html_to_text(row["Body"], code_blocks=self._code_blocks)]
        if self._comments is not None:
            asker = _user(row, "Owner")
            parts += [text for user, text in self._comments.of(row["Id"]) if not _same(user, asker)]
        return Document(row["Id"], "\n".join(part for part in parts if part), frozenset(_TAG.findall(row.get("Tags", ""))))


class CommentIndex:
    """Where the comments of each post stand in ``Comments.xml``: 16 bytes a comment, made on first use; the texts stay in the file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._post_ids: NDArray[np.int64] | None = None
        self._offsets: NDArray[np.int64] = np.empty(0, np.int64)
        self._skipped: list[Skipped] = []

    def skipped(self) -> list[Skipped]:
        """The damaged records of the file."""
        self._build()
        return self._skipped

    def of(self, post_id: str) -> Iterator[tuple[User, str]]:
        """(user, text) of the comments on a post, in the order of the file."""
        post_ids = self._build()
        if not post_id.isdecimal():
            return
        first, last = np.searchsorted(post_ids, [int(post_id), int(post_id) + 1])
        if first == last:
            return
        with self._path.open("rb") as file:
            for offset in self._offsets[first:last].tolist():
                _, record = next(records(file, offset, _COMMENT_BYTES))
                row = parse_row(record)
                if not isinstance(row, str):
                    yield _user(row, ""), comment_to_text(row.get("Text", ""))

    def _build(self) -> NDArray[np.int64]:
        if self._post_ids is None:
            post_ids: list[int] = []
            offsets: list[int] = []
            skipped: list[Skipped] = []
            for offset, row in rows(self._path, "comments"):
                if isinstance(row, str):
                    skipped.append(Skipped(str(self._path), offset, row))
                elif row.get("PostId", "").isdecimal() and row.get("Text"):
                    post_ids.append(int(row["PostId"]))
                    offsets.append(offset)
                else:
                    skipped.append(Skipped(str(self._path), offset, "a comment without PostId or Text"))
            ids = np.array(post_ids, np.int64)
            order = np.argsort(ids, kind="stable")
            self._offsets, self._skipped, self._post_ids = np.array(offsets, np.int64)[order], skipped, ids[order]
        return self._post_ids


def _is_question(record: bytes) -> bool:
    """Whether a record may be a question: said by its type, or not said at all."""
    kind = _POST_TYPE.search(record)
    return kind is None or kind[1].decode() == _QUESTION


def _user(row: Mapping[str, str], prefix: str) -> User:
    return row.get(f"{prefix}UserId", ""), row.get(f"{prefix}DisplayName" if prefix else "UserDisplayName", "")


def _same(a: User, b: User) -> bool:
    """By id; deleted users, who have none, by display name."""
    return a[0] == b[0] if a[0] or b[0] else bool(a[1]) and a[1] == b[1]
