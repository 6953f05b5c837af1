"""A task's list of concepts: JSON lines ``{"id", "text", "label", "split", "keywords", "hard_negatives"}``."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from harness.errors import DataError, UnknownNameError
from harness.types import Concept

_KEYWORD = re.compile(r"^\w+\*?$")


def open_concepts(path: str | Path, split: str | None = None) -> list[Concept]:
    """Read the concepts of a task, in the order of the file.

    Args:
        path: JSON lines; ``id`` and ``text`` are needed. ``label`` (of the corpus), ``split``, ``keywords`` (a list) and ``hard_negatives`` (a
            label of the corpus) may be left out.
        split: keep the rows of this split alone; a file that knows no splits is used whole.

    Raises:
        DataError: a missing, empty or malformed file, or two rows with one id.
        UnknownNameError: no row has this split.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise DataError(f"the concepts {path} cannot be read ({reason}); give JSON lines with id and text") from error
    found: dict[str, tuple[Concept, str | None]] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            concept = _concept(row)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"line {number} of {path} is no concept ({error}); write {{\"id\": …, \"text\": …, \"label\": …}}") from error
        if concept.id in found:
            raise DataError(f"{path} has two concepts with the id {concept.id!r}; remove one")
        found[concept.id] = (concept, row.get("split"))
    if not found:
        raise DataError(f"{path} holds no concepts; give JSON lines with id and text")
    unsplit = split is None or all(its is None for _, its in found.values())
    chosen = [concept for concept, its in found.values() if unsplit or its == split]
    if not chosen:
        raise UnknownNameError("split", str(split), {its for _, its in found.values() if its}, f"(in {path})")
    return chosen


def concepts_digest(path: Path) -> str:
    """SHA-256 (first 16 hex digits) of a list of concepts, without what :class:`Concept` says is for detection alone.

    That of a file without such fields is its :func:`~harness.files.hashing.path_digest`; results of steering stay with their task when it gains
    them.
    """
    lines = path.read_bytes().splitlines(keepends=True)
    content = b"".join(_without(line, ("keywords", "hard_negatives")) for line in lines)
    return hashlib.sha256(f"{path.name}\x1f{len(content)}\x1f".encode() + content).hexdigest()[:16]


def _concept(row: dict[str, Any]) -> Concept:
    label, hard, keywords = row.get("label"), row.get("hard_negatives"), row.get("keywords", [])
    if not isinstance(keywords, list) or not all(isinstance(word, str) and _KEYWORD.match(word) and word == word.lower() for word in keywords):
        raise ValueError("keywords must be a list of lower-case words, each with one * at its end at most")
    return Concept(
        str(row["id"]),
        str(row["text"]),
        None if label is None else str(label),
        keywords=tuple(keywords),
        hard_negatives=None if hard is None else str(hard),
    )


def _without(line: bytes, names: tuple[str, ...]) -> bytes:
    """A line of JSON without the fields ``names``; one that has none of them as it is."""
    try:
        row = json.loads(line)
        if not set(names) & set(row):
            return line
    except (ValueError, TypeError):  # reading the concepts says what is wrong with it
        return line
    kept = {name: value for name, value in row.items() if name not in names}
    return json.dumps(kept, ensure_ascii=False).encode() + line[len(line.rstrip(b"\r\n")) :]
