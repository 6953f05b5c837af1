"""The comments of a Stack Exchange dump, found by their post: an index on disk of where they stand; the texts stay in the file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.data.corpora import index
from harness.data.corpora.html_text import comment_to_text
from harness.data.corpora.reading import Report, SkipLog, Skipped, vanished
from harness.data.corpora.xml_rows import parse_row, records, rows
from harness.files.hashing import sha256_file
from harness.types import Json

_COMMENT_BYTES = 4096
_REPORT_EVERY = 4096
_LARGEST_ID = 2**63


class User(NamedTuple):
    """A deleted user has a display name alone, and some have neither."""

    id: str
    name: str

    @classmethod
    def of(cls, row: Mapping[str, str], prefix: str = "") -> User:
        """Return the writer of a comment, or with the prefix ``Owner`` that of a post."""
        return cls(row.get(f"{prefix}UserId", ""), row.get(f"{prefix or 'User'}DisplayName", ""))

    def same(self, other: User) -> bool:
        """By id; deleted users, who have none, by display name."""
        return self.id == other.id if self.id or other.id else bool(self.name) and self.name == other.name


class CommentIndex:
    """Where the comments of each post stand in ``Comments.xml``: 16 bytes a comment on disk, made on first use.

    Making it holds 16 bytes a comment while they are sorted by post.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stored: index.Stored | None = None

    @property
    def digest(self) -> str:
        """Names the content of the file."""
        return str(self._open().about["sha256"])

    def skipped(self, report: Report | None = None) -> SkipLog:
        """Return the damaged records of the file."""
        return SkipLog.from_json(self._open(report).about["skipped"], (self._path,))

    def of(self, post_id: str) -> Iterator[tuple[User, str]]:
        """Yield (user, text) of the comments on a post, in the order of the file."""
        if not _is_id(post_id):
            return
        arrays = self._open().arrays
        first, last = np.searchsorted(arrays["posts"], [int(post_id), int(post_id) + 1])
        if first == last:
            return
        with self._path.open("rb") as file:
            for offset in arrays["offsets"][first:last].tolist():
                _, record = next(records(file, offset, _COMMENT_BYTES), (0, b""))
                row = parse_row(record)
                if isinstance(row, str) or not _is_id(found := row.get("PostId", "")) or int(found) != int(post_id):
                    raise vanished(self._path, offset)
                yield User.of(row), comment_to_text(row.get("Text", ""))

    def _open(self, report: Report | None = None) -> index.Stored:
        if self._stored is None:
            key = {"kind": "comments", "path": str(self._path.resolve())}
            name = f"{self._path.parent.name}/{self._path.name}"
            self._stored = index.get(key, lambda: index.file_state(self._path), lambda folder: self._build(folder, report), name)
        return self._stored

    def _build(self, folder: Path, report: Report | None) -> Json:
        posts, offsets = index.Column(folder, "found-posts", "int64"), index.Column(folder, "found-offsets", "int64")
        skipped = SkipLog()
        for number, (offset, row) in enumerate(rows(self._path, "comments")):
            if isinstance(row, str):
                skipped.add(Skipped(str(self._path), offset, row))
            elif _is_id(row.get("PostId", "")) and row.get("Text"):
                posts.append(int(row["PostId"]))
                offsets.append(offset)
            else:
                skipped.add(Skipped(str(self._path), offset, "a comment without PostId or Text"))
            if report is not None and number % _REPORT_EVERY == 0:
                report(offset)
        found = posts.close(discard=True)
        order = np.argsort(found, kind="stable")
        _take(folder, "posts", found, order)
        _take(folder, "offsets", offsets.close(discard=True), order)
        return {"skipped": skipped.to_json((self._path,)), "sha256": sha256_file(self._path)}


def _take(folder: Path, name: str, values: NDArray[Any], order: NDArray[Any]) -> None:
    """``values[order]`` as an array of the index."""
    target = index.new_array(folder, name, "int64", len(values))
    if len(values):
        np.take(values, order, out=target)


def _is_id(text: str) -> bool:
    """Return whether an attribute is the number of a post."""
    return text.isdecimal() and text.isascii() and int(text[:20]) < _LARGEST_ID and len(text) < 20
