"""Standard output belongs to the command's result: whatever else is written there, by whoever, goes to standard error.

A plugin may print (Python's ``print``, a handler of logging, a native library, a child process), while it is imported or at work, from another
thread, or when the process ends. For the time of a command, file descriptor 1 is therefore standard error, and the result has a descriptor of its
own behind ``sys.stdout``.
"""

from __future__ import annotations

import io
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, cast


class ResultStream(io.TextIOWrapper):
    """Standard output for the thread and process that it was made in; what others write goes to standard error."""

    def __init__(self, raw: IO[bytes], like: Any) -> None:
        super().__init__(raw, encoding=like.encoding, errors=like.errors, line_buffering=like.line_buffering)
        self._owner = threading.get_ident(), os.getpid()

    def write(self, text: str) -> int:
        """Write the text, or pass it on."""
        if (threading.get_ident(), os.getpid()) != self._owner and sys.stderr is not None:
            return sys.stderr.write(text)
        return super().write(text)


@contextmanager
def result_stream() -> Iterator[None]:
    """Within the context ``sys.stdout`` is the result's own, and descriptor 1 is standard error's; for a process that is ours.

    Nothing is done where there is no standard output, or where it has been replaced (a notebook, a test).
    """
    before = sys.stdout
    try:
        is_ours = before is sys.__stdout__ and before is not None and before.fileno() == 1
        if is_ours:
            before.flush()
            own = os.dup(1)
            os.dup2(2, 1)
    except (OSError, ValueError):  # one of the two is closed
        is_ours = False
    if not is_ours:
        yield
        return
    stream = ResultStream(cast("IO[bytes]", os.fdopen(own, "wb")), before)
    sys.stdout = stream
    try:
        yield
    finally:
        # not put back: what is printed while the process ends is no result either
        sys.stdout = sys.stderr
        try:
            stream.flush()
        except BrokenPipeError:  # the reader (head, less) has gone
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            raise
