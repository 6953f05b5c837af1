"""Sheets on which people rate: the form of their rows, and what the raters' files say.

The human judge writes them; it and the comparison of judges read them.

A row is known by its id, a digest of what the rater sees and of nothing else. Each file is one rater's, named by the file: ``sheet-1-anna.csv`` and
``sheet-2-anna.csv`` are Anna's, ``sheet-1.csv`` is that of a rater without a name.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from harness.errors import DataError, StoreError
from harness.files.csv_text import table_text
from harness.files.inputs import IN_MEMORY, Input, encoding_of, read_bytes
from harness.types import ASPECTS, JudgeItem, digest

RATING_COLUMNS = tuple(f"{name}_rating" for name in ASPECTS)
COLUMNS = ("id", "concept", "instruction", "text", *RATING_COLUMNS, "comment")
"""The columns of a sheet."""
SKIP = "skip"
"""What stands in place of a rating where a person cannot rate a text."""
UNNAMED = "unnamed"
"""The rater of a file that is called as its sheet."""
_ID = re.compile(r"t[0-9a-f]{12}")
_SHEET = Input("sheet", StoreError, "check the path and the disk", IN_MEMORY)
_WORKBOOKS = (".xlsx", ".xls", ".ods", ".numbers")


@dataclass(frozen=True)
class SheetRow:
    """A text to rate. ``id`` says nothing of where the text comes from."""

    id: str
    concept: str
    instruction: str
    text: str


@dataclass(frozen=True)
class Answer:
    """What one rater says of one text: ratings by aspect (None: an empty cell), or ``skipped``; ``place`` is file and row, for messages."""

    ratings: tuple[float | None, ...]
    skipped: bool
    comment: str
    place: str

    @property
    def blank(self) -> bool:
        return not self.skipped and all(rating is None for rating in self.ratings)

    @property
    def complete(self) -> bool:
        return not self.skipped and None not in self.ratings


@dataclass
class Sheets:
    """The sheets of a folder: in which sheet each text stands (by its id), and what each rater says of it."""

    folder: Path
    placed: dict[str, str] = field(default_factory=dict)
    answers: dict[str, dict[str, Answer]] = field(default_factory=dict)


def sheet_row(item: JudgeItem) -> SheetRow:
    """Return an item as a row. Its id is made of what the rater sees alone: the same text is asked once, and nothing else can be read from it."""
    return SheetRow(f"t{digest([item.concept, item.instruction, item.text], 12)}", item.concept, item.instruction, item.text)


# ------------------------------------------------------------------------------------------------------------------ reading sheets


def read_folder(folder: Path) -> Sheets:
    """Return all CSV sheets of a folder and what the raters' files say. A folder that is not there holds nothing.

    Raises:
        DataError: a CSV file that is no sheet, a cell that is no rating, two files of one rater that contradict each other, a workbook.
        StoreError: a file cannot be read.
    """
    sheets = Sheets(folder)
    if not folder.is_dir():
        return sheets
    for path in sorted(path for path in folder.iterdir() if not path.name.startswith((".", "~$"))):
        if path.suffix.lower() in _WORKBOOKS and not path.with_suffix(".csv").exists():
            hint = "save it as CSV (UTF-8) in the same folder, or move it away"
            raise DataError(f"{path} is a workbook, which is not read", given=path, hint=hint)
        if path.suffix.lower() == ".csv":
            rater = rater_of(path)
            for row_id, answer in read_sheet(path):
                sheets.placed.setdefault(row_id, path.name)
                if not answer.blank:
                    given = sheets.answers.setdefault(row_id, {})
                    given[rater] = _joined(given[rater], answer, rater) if rater in given else answer
    return sheets


def rater_of(path: Path) -> str:
    """Return whose file it is: what follows the sheet's name, in small letters; a browser's ``(1)`` after a second download counts for nothing."""
    stem = re.sub(r"\s*\(\d+\)$", "", path.stem)
    name = re.sub(r"^sheet-\d+", "", stem, flags=re.IGNORECASE).strip(" -_.")
    return name.casefold() or UNNAMED


def read_sheet(path: Path) -> Iterator[tuple[str, Answer]]:
    """Yield the rows of a CSV file: id and answer. Comma, semicolon or tab; with or without a byte order mark; columns in any order.

    Raises:
        DataError: no CSV, a missing column, a row that is rated but has no id of ours, a cell that is no rating.
    """
    table, delimiter = table_text(read_text(path))
    try:
        rows = list(csv.reader(table, delimiter=delimiter))
    except csv.Error as error:
        raise DataError(f"{path} is no CSV file ({error})", given=path, hint="save the sheet as CSV (UTF-8) again") from None
    header = [name.strip().casefold() for name in rows[0]] if rows else []
    if lacking := [name for name in ("id", *RATING_COLUMNS) if name not in header]:
        message = f"{path} lacks the column{'s'[: len(lacking) > 1]} {', '.join(lacking)}"
        raise DataError(message, given=path, hint=f"a sheet has {', '.join(COLUMNS)}: correct or move it")
    for number, cells in enumerate(rows[1:], start=2):
        row = dict(zip(header, (cell.strip() for cell in cells), strict=False))
        answer = _answer(row, path, number)
        if _ID.fullmatch(row.get("id", "")):
            yield row["id"], answer
        elif not answer.blank:
            message = f"{answer.place} is rated, but its id {row.get('id', '')!r} is none of a sheet's"
            raise DataError(message, given=row.get("id", ""), hint="copy the id from the original sheet")


def _answer(row: Mapping[str, str], path: Path, number: int) -> Answer:
    place = f"{path}, row {number}"
    values: list[float | None] = []
    skipped = False
    for column in RATING_COLUMNS:
        cell = row.get(column, "")
        found = re.fullmatch(r"([012])(?:[.,]0+)?", cell)
        if cell.casefold() == SKIP:
            skipped = True
        elif cell and found is None:
            raise DataError(f"{place}: {column} is {cell[:40]!r}", given=cell, allowed=f"0, 1, 2, {SKIP} or an empty cell")
        values.append(float(found[1]) if found else None)
    return Answer(tuple(values), skipped, row.get("comment", ""), place)


def _joined(first: Answer, second: Answer, rater: str) -> Answer:
    """Return two answers of one rater to one text as one: what is empty in the one is taken from the other. Raises DataError if they contradict."""
    clash = first.skipped != second.skipped or any(
        None not in pair and pair[0] != pair[1] for pair in zip(first.ratings, second.ratings, strict=True)
    )
    if clash:
        message = f"{first.place} and {second.place}, both of rater {rater!r}, rate one text differently"
        raise DataError(message, given=(first.ratings, second.ratings), hint="keep the file that holds")
    ratings = tuple(a if a is not None else b for a, b in zip(first.ratings, second.ratings, strict=True))
    return Answer(ratings, first.skipped, first.comment or second.comment, second.place)


def read_text(path: Path) -> str:
    """Return the text of a sheet: UTF-8, UTF-16 with its mark, else as Windows writes Western European text (only comments could be read wrongly)."""
    content = read_bytes(path, _SHEET)
    if (encoding := encoding_of(content[:4])).startswith("utf-16"):
        return content.decode(encoding, "replace").removeprefix("\ufeff")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252", "replace")
