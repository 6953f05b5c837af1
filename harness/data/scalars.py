"""A single value of a table, a JSON row or a cell as the text that it stands for: one reading for ids, labels and splits of every format."""

from __future__ import annotations

import datetime
import decimal
import math
from typing import Any

MISSING = frozenset({"", "nan", "NaN", "NaT", "<NA>", "\\N"})
"""Texts that stand for no value: what pandas, NumPy, polars and MySQL write where there is none. ``None``, ``null`` and ``NA`` may be names."""


def scalar_text(value: Any) -> str | None:
    """Return a value as text, or None where it stands for nothing: null, NaN, NaT, an empty text, or one of :data:`MISSING`.

    White space around it is dropped. A whole number is written without a fraction, whatever its type: 1, 1.0 and ``Decimal("1.0")`` are ``1``,
    since tables make floats of whole numbers as soon as one is missing. ``True`` and ``False`` are called so.

    Raises:
        ValueError: a value that is not single: a list, an object.
    """
    if value is None:
        return None
    if isinstance(value, str):
        text = value.strip()
        return None if text in MISSING else text
    if isinstance(value, bool | int):
        return str(value)
    if isinstance(value, float | decimal.Decimal):
        if math.isnan(value):
            return None
        return str(int(value)) if math.isfinite(value) and value == int(value) else str(value)
    if isinstance(value, bytes):
        return scalar_text(value.decode("utf-8"))
    if isinstance(value, datetime.date | datetime.time | datetime.datetime):
        text = str(value)
        return None if text in MISSING else text
    if hasattr(value, "item") and not getattr(value, "shape", ()):  # a number of NumPy
        return scalar_text(value.item())
    raise ValueError(f"a {type(value).__name__} in the place of a single value")


def text_of(value: Any) -> str | None:
    """Return an id, a name or a text: a text as it is, None where it is blank, and anything else as :func:`scalar_text`, which may raise."""
    if isinstance(value, str):
        return value if value.strip() else None
    return scalar_text(value)
