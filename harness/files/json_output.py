"""JSON as text, written in one place: numbers that JSON has not become null, and no text in it acts on a terminal that shows it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from harness.files.visible import is_hidden
from harness.types import Json


def json_text(value: Json, *, indent: int | None = None, plain: bool = False) -> str:
    """Return ``value`` as JSON.

    Args:
        value: JSON; NaN and infinities in it, which are not, become null.
        indent: spaces a level; None puts all on one line.
        plain: ASCII alone, other characters escaped.
    """
    text = json.dumps(finite(value), indent=indent, ensure_ascii=plain, allow_nan=False)
    if plain or (text.isascii() and "\x7f" not in text):
        return text
    return "".join(f"\\u{ord(one):04x}" if one != "\n" and is_hidden(one) else one for one in text)


def finite(value: Any) -> Any:
    """Return ``value`` with None in the place of every number that is NaN or infinite."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value
