"""Cells of CSV files that no spreadsheet takes for a formula, and that come back as they were.

A cell that begins with ``=``, ``+``, ``-`` or ``@`` (also behind white space or quotes), or with a tab or a line break, is run by spreadsheets when
the file is opened: it can fetch an address or start a program. An apostrophe before it makes it a text. Numbers stay numbers.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

_FORMULA = re.compile(r"[\s'\"]*[=+\-@＝＋－＠\t\r\n]")
_NUMBER = re.compile(r"-?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def guarded(cell: str) -> str:
    """``cell`` with an apostrophe before it where a spreadsheet would take it for a formula."""
    return f"'{cell}" if _is_formula(cell) else cell


def unguarded(cell: str) -> str:
    """What :func:`guarded` was given. A cell that it would not have made stays as it is."""
    return cell[1:] if cell.startswith("'") and _is_formula(cell[1:]) else cell


class GuardedWriter:
    """Writes rows as CSV, texts in them guarded.

    Args:
        file: opened with ``newline=""``.
        options: of :func:`csv.writer`.
    """

    def __init__(self, file: TextIO, **options: Any) -> None:
        self._writer = csv.writer(file, **options)

    def row(self, cells: Iterable[Any]) -> None:
        """Write one row."""
        self._writer.writerow([guarded(cell) if isinstance(cell, str) else cell for cell in cells])

    def rows(self, rows: Iterable[Sequence[Any]]) -> None:
        """Write several."""
        for cells in rows:
            self.row(cells)


def _is_formula(cell: str) -> bool:
    return _FORMULA.match(cell) is not None and _NUMBER.fullmatch(cell) is None
