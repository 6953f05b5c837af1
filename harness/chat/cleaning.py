"""What a server sends, made fit to be kept: the one place where this happens, since every reply and failure passes through it when it is made.

Half characters (lone surrogates, which JSON can hold, and no file) and control characters are replaced, the keys that this process knows are hidden.
"""

from __future__ import annotations

import re

from harness.chat.providers.keys import without_keys

LONGEST_LINE = 200
"""Characters of a name or a word that are kept."""

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def clean_text(text: str) -> str:
    """Return a text as it is kept. Line breaks and tabs stay; other control characters, which would act on a terminal, become U+FFFD."""
    if not text.isascii():
        text = text.encode("utf-8", "replace").decode("utf-8")
    return without_keys(_CONTROL.sub(_REPLACEMENT, text))


def clean_line(text: str, longest: int | None = LONGEST_LINE) -> str:
    """Return a name, a word or a message as it is kept: in one line, of ``longest`` characters at most.

    Otherwise as :func:`clean_text` does it; keys that are cut are taken out, too.
    """
    line = without_keys(" ".join(clean_text(text).split()), cut=True)
    return line if longest is None or len(line) <= longest else line[: longest - 1] + "…"
