"""Instruction sets: AlpacaEval's JSON list, or JSON lines of our own form."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from harness.errors import DataError, UnknownNameError
from harness.types import Instruction, Json, digest


def open_instructions(path: str | Path, split: str | None = None) -> list[Instruction]:
    """Read an instruction set, in the order of the file.

    Two forms are recognised by their content: AlpacaEval's, a JSON list of ``{"instruction", …}``, and JSON lines of
    ``{"id", "text", "split"}`` where ``id`` and ``split`` may be left out. An id that is not given is derived from the text, so it is the same
    in a subset or another order.

    Args:
        path: the file.
        split: keep the rows of this split only, e.g. ``"development"``; a file without splits is used in full.

    Raises:
        DataError: a missing, empty or malformed file, a row without a text, or two rows with one id.
        UnknownNameError: no row has this split.
    """
    path = Path(path)
    found: list[tuple[Instruction, str | None]] = [_instruction(row, where) for where, row in _rows(path)]
    if not found:
        raise DataError(f"{path} holds no instructions", given=path, hint="give a JSON list like AlpacaEval's, or JSON lines with a text")
    ids: set[str] = set()
    for instruction, _ in found:
        if instruction.id in ids:
            message = f"{path} has two instructions with the id {instruction.id!r} ({instruction.text[:40]!r})"
            raise DataError(message, given=instruction.id, hint="remove one")
        ids.add(instruction.id)
    if split is None or all(row_split is None for _, row_split in found):
        return [instruction for instruction, _ in found]
    chosen = [instruction for instruction, row_split in found if row_split == split]
    if not chosen:
        raise UnknownNameError("split", split, {row_split for _, row_split in found if row_split is not None}, f"(in {path})")
    return chosen


def _rows(path: Path) -> Iterator[tuple[str, Json]]:
    """Yield each row with the place where it stands, for messages."""
    try:
        content = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise DataError(f"the instructions {path} cannot be read ({reason})", given=path, hint="give a JSON or JSON-lines file") from error
    try:
        if content.lstrip().startswith("["):
            yield from ((f"row {number} of {path}", row) for number, row in enumerate(json.loads(content), 1))
            return
        for number, line in enumerate(content.splitlines(), 1):
            if line.strip():
                yield f"line {number} of {path}", json.loads(line)
    except ValueError as error:
        raise DataError(f"{path} is neither a JSON list nor JSON lines ({error})", given=path, hint="mend or fetch it again") from error


def _instruction(row: Json, where: str) -> tuple[Instruction, str | None]:
    text = (row.get("text") or row.get("instruction")) if isinstance(row, dict) else None
    if not isinstance(text, str) or not text.strip():
        raise DataError(f"{where} has no 'text' or 'instruction'", given=row, hint="give each row one of them")
    identity, split = row.get("id"), row.get("split")
    return Instruction(digest(text, 12) if identity is None else str(identity), text), None if split is None else str(split)
