"""Standard output and standard error of a process that is ours: of any encoding, closed, or read by nobody."""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import sys

_PLAIN = {
    "–": "-", "—": "-", "─": "-", "−": "-", "×": "x", "·": "*", "…": "...", "«": "<<", "»": ">>", "“": '"', "”": '"', "‘": "'", "’": "'",
    "κ": "kappa", "π": "pi", "₀": "0", "Δ": "delta ", "±": "+/-", "≥": ">=", "≤": "<=", "→": "->", "│": "|", "╭": "+", "╮": "+", "╰": "+", "╯": "+",
    "█": "#", "☐": "[ ]", "␣": "_", "‖": "||", "\u2009": " ", "\u00a0": " ",
}  # fmt: skip
"""Signs of ours for a stream that has no room for them."""

_HANDLER = "harness-plain"


def _in_ascii(error: UnicodeError) -> tuple[str, int]:
    """Return a codec's error handler: our signs in ASCII, any other character written out."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(_PLAIN.get(one) or one.encode("ascii", "backslashreplace").decode() for one in text), error.end


class ClosedStream(io.TextIOWrapper):
    """What stands for a standard stream that was closed before we began: it takes everything, and knows whether that was anything."""

    def __init__(self) -> None:
        super().__init__(open(os.devnull, "wb"), encoding="utf-8")  # noqa: SIM115
        self.lost = False

    def write(self, text: str) -> int:
        """Take the text."""
        self.lost = self.lost or bool(text)
        return super().write(text)


def output_is_lost() -> bool:
    """Return whether a result was written to a standard output that is closed."""
    return isinstance(sys.stdout, ClosedStream) and sys.stdout.lost


def prepare() -> None:
    """Let the standard streams take any text: one that is closed takes everything (:class:`ClosedStream`), another encoding what it can hold."""
    codecs.register_error(_HANDLER, _in_ascii)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed before we began
            setattr(sys, name, ClosedStream())
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=_HANDLER)


def holds_unicode(stream: object) -> bool:
    """Return whether a stream takes every character as it is."""
    return (getattr(stream, "encoding", None) or "utf-8").lower().replace("-", "").replace("_", "").startswith(("utf8", "utf16", "utf32"))


def discard(stream_name: str) -> None:
    """After a reader has gone: let nothing more be written to this stream, also not by the interpreter's own flush at exit."""
    stream = getattr(sys, stream_name)
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
