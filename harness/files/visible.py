"""Texts from outside on a terminal: what would steer it, or turn the line around, is shown as text.

Labels, instructions, generations and names of foreign models and plugins may hold anything. An escape sequence in them could change a terminal's
title or its clipboard, a carriage return could overwrite what stands there, a bidirectional override could make a line read as another.
"""

from __future__ import annotations

import re

_BIDI = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
_HIDDEN = re.compile(f"[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f{_BIDI}\u2028\u2029\ufff9-\ufffb\ud800-\udfff]")
"""Controls of C0 and C1, marks that set a text's direction, line and paragraph separators, halves of characters; not line feed and tab."""


def visible(text: str) -> str:
    """Return ``text`` with characters that a terminal would act on written out, such as ``\\x1b``; line feeds and tabs stay."""
    return _HIDDEN.sub(_written_out, text)


def in_cell(text: str) -> str:
    """Return ``text`` for a cell of a table or a heading: as :func:`visible`, and line feeds and tabs become spaces, so that no cell begins a row."""
    return visible(re.sub(r"[\t\n]+| *\r\n", " ", text))


def _written_out(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def is_hidden(character: str) -> bool:
    """Return whether :func:`visible` would write this character out."""
    return _HIDDEN.fullmatch(character) is not None
