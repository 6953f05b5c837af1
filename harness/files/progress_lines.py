"""Progress off a terminal: plain lines on standard error, at least one a minute while work goes on."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable
from typing import TextIO

from harness.files.visible import visible

EVERY_SECONDS = 60.0
"""A piece of work is silent for no longer."""


def say(message: str, stream: TextIO | None = None) -> None:
    """Write a line on standard error, or on the stream that was it before. A terminal that has gone stops no work."""
    with contextlib.suppress(OSError, ValueError):
        print(visible(message), file=stream or sys.stderr, flush=True)


class Line:
    """A plain line at the start, and now and then how far the work has come; a context manager for the time of the work.

    Args:
        description: what is being done.
        total: units in all, if known.
        every: share of them after which another line shows how far it has come.
        quiet: nothing is shown.
        in_bytes: units are bytes.
        seconds: a line is written at least so often, with the time left, even while no unit ends.
        done: units that an earlier call has done.
    """

    describe: Callable[[str], None] | None = None
    """Nobody watches a line change."""

    def __init__(
        self,
        description: str,
        total: int | None,
        every: float,
        quiet: bool,
        *,
        in_bytes: bool = False,
        seconds: float | None = None,
        done: int = 0,
    ) -> None:
        self._description, self._total, self._every, self._quiet, self._in_bytes = description, total, every, quiet, in_bytes
        self._seconds = EVERY_SECONDS if seconds is None else seconds
        self._done = self._done_before = done
        self._shown_share = done / total if total else 0.0
        self._began = self._last = time.monotonic()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._say(f" ({self._size(total)})" if total and in_bytes else f" ({done}/{total})" if total else "")

    def __enter__(self) -> Line:
        if not self._quiet:
            self._thread = threading.Thread(target=self._watch, daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def __call__(self, n: int = 1) -> None:
        self._done += n
        if not self._total:
            return
        share = self._done / self._total
        if share - self._shown_share >= self._every:
            self._shown_share = share
            self._say(f" ({self.how_far()})")

    def how_far(self) -> str:
        """What is done, of how much, and how long the rest will take by the pace so far."""
        done = f"{self._size(self._done)}/{self._size(self._total)}" if self._total else self._size(self._done)
        passed, just_done = time.monotonic() - self._began, self._done - self._done_before
        if not self._total or not just_done or self._done >= self._total or passed < 1:
            return done
        return f"{done}, {clock(passed * (self._total - self._done) / just_done)} left"

    def _watch(self) -> None:
        """Write a line whenever none was written for a while."""
        while not self._ended.wait(max(0.01, self._last + self._seconds - time.monotonic())):
            if time.monotonic() - self._last >= self._seconds:
                self._say(f" ({self.how_far()}, {clock(time.monotonic() - self._began)} so far)")

    def _size(self, units: int | None) -> str:
        if not self._in_bytes or units is None:
            return str(units)
        return f"{units / 1e9:.2f} GB" if units >= 1e9 else f"{units / 1e6:.1f} MB"

    def _say(self, how_far: str) -> None:
        self._last = time.monotonic()
        if not self._quiet:
            say(f"{self._description}{how_far}")


def clock(seconds: float) -> str:
    """Return a duration as people read it: 0:42, 12:05, 3:07:10."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
