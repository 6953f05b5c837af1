"""Instruction sets: AlpacaEval's JSON list, or JSON lines of our own form."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from harness.data.scalars import text_of
from harness.errors import DataError, UnknownNameError
from harness.files.contents import HEAD, recognise
from harness.files.inputs import IN_MEMORY, Input, read_text, split_lines
from harness.files.json_text import JsonError, is_blank, parse_json
from harness.types import Instruction, Json, digest

_FILE = Input("file of instructions", DataError, "give a JSON or JSON-lines file", IN_MEMORY)


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
    text = read_text(path, _FILE)
    if not text.lstrip().startswith("["):
        yield from ((f"line {number} of {path}", row) for number, row in _lines(path, text))
        return
    try:
        rows = parse_json(text)
    except JsonError as error:
        raise _neither(path, error) from error
    yield from ((f"row {number} of {path}", row) for number, row in enumerate(rows, 1))


def _lines(path: Path, text: str) -> Iterator[tuple[int, Json]]:
    """Yield the number of each line and what it holds; blank lines and comments are passed over."""
    for number, line in enumerate(split_lines(text), 1):
        if is_blank(line):
            continue
        try:
            yield number, parse_json(line)
        except JsonError as error:
            raise _neither(path, f"line {number}: {error}", text) from error


def _neither(path: Path, why: object, text: str = "") -> DataError:
    found = recognise(text[:HEAD].encode())
    if found is not None:
        return DataError(f"the instructions {path} are {found.name}", given=path, hint=found.hint)
    return DataError(f"{path} is neither a JSON list nor JSON lines ({why})", given=path, hint="mend or fetch it again")


def _instruction(row: Json, where: str) -> tuple[Instruction, str | None]:
    text = (row.get("text") or row.get("instruction")) if isinstance(row, dict) else None
    if not isinstance(text, str) or not text.strip():
        raise DataError(f"{where} has no 'text' or 'instruction'", given=row, hint="give each row one of them")
    try:
        identity, split = text_of(row.get("id")), text_of(row.get("split"))
    except ValueError as error:
        raise DataError(f"{where}: id or split is {error}", given=row, hint="give a text or a number") from error
    return Instruction(digest(text, 12) if identity is None else identity, text), split
