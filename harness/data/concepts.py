"""A task's list of concepts: JSON lines ``{"id", "text", "label", "split"}``."""

from __future__ import annotations

import json
from pathlib import Path

from harness.errors import DataError, UnknownNameError
from harness.types import Concept


def open_concepts(path: str | Path, split: str | None = None) -> list[Concept]:
    """Read the concepts of a task, in the order of the file.

    Args:
        path: JSON lines; ``id`` and ``text`` are needed, ``label`` (of the corpus) and ``split`` may be left out.
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
            concept = Concept(str(row["id"]), str(row["text"]), None if row.get("label") is None else str(row["label"]))
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
