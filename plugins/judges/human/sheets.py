"""Sheets to rate, written: cells that no spreadsheet takes for a formula, and which texts a folder's sheets hold already."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Sequence
from pathlib import Path

from harness.errors import DataError
from harness.files.csv_cells import GuardedWriter
from harness.judging.sheets import COLUMNS, SheetRow, Sheets, read_folder, read_text
from harness.types import JudgeItem


def missing(item: JudgeItem) -> str:
    """Return what an item lacks to be rated: ``concept``, ``instruction`` or nothing. An empty text is shown: it is an answer like any other."""
    return next((name for name, value in (("concept", item.concept), ("instruction", item.instruction)) if not value.strip()), "")


def sheet_csv(rows: Sequence[SheetRow], delimiter: str) -> bytes:
    """Return a sheet with empty ratings, as spreadsheets read it: UTF-8 with a byte order mark."""
    file = io.StringIO(newline="")
    writer = GuardedWriter(file, delimiter=delimiter)
    writer.row(COLUMNS)
    for row in rows:
        writer.row([row.id, *map(readable, (row.concept, row.instruction, row.text)), *[""] * (len(COLUMNS) - 4)])
    return b"\xef\xbb\xbf" + file.getvalue().encode("utf-8", "replace")


def readable(text: str) -> str:
    """Return ``text`` for people to rate: without control characters."""
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f]", "\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n").replace("\r", "\n"))


def page_ids(page: str) -> tuple[str, ...]:
    """Return the ids of the texts of a page that the human judge made. Raises ValueError for another page, or one that is cut short."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    if found is None:
        raise ValueError("the page holds no texts to rate")
    try:
        return tuple(str(row["id"]) for row in json.loads(found[1])["rows"])
    except (KeyError, TypeError, ValueError, RecursionError):
        raise ValueError("the texts of the page cannot be read") from None


def read_sheets(folder: Path) -> Sheets:
    """Return all sheets of a folder, pages included, and what the raters' files say.

    Raises:
        DataError: as :func:`harness.judging.sheets.read_folder`, and for a page that is damaged.
        StoreError: a file cannot be read.
    """
    sheets = read_folder(folder)
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.suffix.lower() != ".html" or path.name.startswith((".", "~$")):
            continue
        try:
            ids = page_ids(read_text(path))
        except ValueError as error:
            hint = "put the original back, or move the file away"
            raise DataError(f"{path} is not a page to rate in: {error}", given=path, hint=hint) from None
        sheets.placed.update(dict.fromkeys(ids, path.name))
    return sheets
