"""Which sign separates the fields of a table of text: commas, semicolons (where the comma is the decimal sign), tabs or bars."""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections.abc import Iterable

DELIMITERS = (",", ";", "\t", "|")
"""What may separate fields; of two that fit alike, the first one does."""
LONGEST_FIELD = 1 << 30
"""Characters of a field; the csv module's own limit is below the longest texts."""

_SEP_LINE = re.compile(r"\ufeff?\"?sep=(.)\"?\s*", re.IGNORECASE | re.DOTALL)
_SAMPLE = 50


def stated_delimiter(line: str) -> str | None:
    """Return the delimiter that a first line ``sep=;`` states, as some spreadsheets write it; None for any other line."""
    found = _SEP_LINE.fullmatch(line)
    return found[1] if found else None


def delimiter_of(lines: Iterable[str]) -> str:
    r"""Return the sign that separates the fields of a table, by its header and the rows behind it.

    A sign counts where it stands in the header outside of quotes. Of several, that one separates with which the most rows have as many fields as
    the header; of those alike, the one that makes the most fields.

    Args:
        lines: the first lines, with their ends, without a line ``sep=;``; 50 are looked at.
    """
    sample = list(itertools.islice(lines, _SAMPLE))
    best, chosen = (0.0, 0), ","
    for delimiter in DELIMITERS:
        widths = _widths(sample, delimiter)
        if not widths or widths[0] < 2:
            continue
        fitting = sum(width == widths[0] for width in widths) / len(widths)
        if (fitting, widths[0]) > best:
            best, chosen = (fitting, widths[0]), delimiter
    return chosen


def table_text(text: str) -> tuple[io.StringIO, str]:
    """Return a table's text without a line ``sep=;``, to be read by the csv module, and its delimiter, stated or found. Sets that module's limit."""
    first, end, rest = text.partition("\n")
    stated = stated_delimiter(first + end)
    table = text if stated is None else rest
    csv.field_size_limit(LONGEST_FIELD)
    return io.StringIO(table, newline=""), stated or delimiter_of(io.StringIO(table, newline=""))


def _widths(lines: list[str], delimiter: str) -> list[int]:
    """Return the number of fields of each row, up to one that is broken; the last is left out, as it may go on behind the sample."""
    csv.field_size_limit(LONGEST_FIELD)
    widths: list[int] = []
    try:
        for row in csv.reader(lines, delimiter=delimiter, strict=True):
            if row:
                widths.append(len(row))
    except csv.Error:
        pass
    return widths[:-1] if len(widths) > 2 and len(lines) == _SAMPLE else widths
