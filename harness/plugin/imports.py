"""Plugins while they are imported: one that takes long is named on standard error, one that takes longer than is allowed is broken off."""

from __future__ import annotations

import math
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType

from harness.errors import OptionError
from harness.files.progress_lines import say

NAMED_AFTER = 5.0
"""Seconds after which a plugin that is still being imported is named; again after twice, four times, … as long."""
LIMIT = "HARNESS_PLUGIN_IMPORT_LIMIT"
"""Environment variable: seconds that the import of one plugin may take; unset, as long as it takes. Needs a Unix and the main thread."""


class ImportTimeoutError(BaseException):
    """The import of a plugin took longer than is allowed; not an Exception, so that no handler in the plugin's code takes it for its own."""


class ImportWatch:
    """Watches imports from a thread of its own; a context manager.

    Args:
        named_after: see :data:`NAMED_AFTER`.
    """

    def __init__(self, named_after: float = NAMED_AFTER) -> None:
        self._named_after = named_after
        self._limit = import_limit()
        self._changed = threading.Condition()
        self._plugin: str | None = None
        self._since, self._over = 0.0, False
        self._thread = threading.Thread(target=self._watch, name="plugin-imports", daemon=True)

    def __enter__(self) -> ImportWatch:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self._changed:
            self._over = True
            self._changed.notify()
        self._thread.join()

    @contextmanager
    def importing(self, plugin: str) -> Iterator[None]:
        """Within the context a plugin is imported, named so in what is said of it."""
        self._set(plugin)
        try:
            with _broken_off(plugin, self._limit):
                yield
        finally:
            self._set(None)

    def _set(self, plugin: str | None) -> None:
        """Wakes nobody: almost all imports are over before the watching thread has anything to say."""
        with self._changed:
            self._plugin, self._since = plugin, time.monotonic()

    def _watch(self) -> None:
        stderr = sys.stderr
        said, due = -1.0, self._named_after  # since when the one that was named last has been imported, and after how long it is named again
        with self._changed:
            while not self._over:
                if self._plugin is None:
                    self._changed.wait(self._named_after)
                    continue
                if self._since != said:
                    said, due = self._since, self._named_after
                left = said + due - time.monotonic()
                if left > 0:
                    self._changed.wait(left)
                    continue
                advice = "Ctrl-C stops it" + ("" if self._limit is not None else f", {LIMIT}=SECONDS sets a limit")
                say(f"harness: plugin {self._plugin} is still being imported after {due:g} s; {advice}", stderr)
                due *= 2


def import_limit() -> float | None:
    """Return the seconds that :data:`LIMIT` allows; None for no limit. Raises OptionError for anything but a number above 0."""
    given = os.environ.get(LIMIT, "")
    if not given:
        return None
    try:
        seconds = float(given)
    except ValueError:
        seconds = math.nan
    if not (0 < seconds < math.inf):
        raise OptionError(f"{LIMIT} is {given!r}", given=given, allowed="seconds above 0")
    return seconds


@contextmanager
def _broken_off(plugin: str, limit: float | None) -> Iterator[None]:
    """Within the context, ImportTimeoutError is raised in the main thread once the limit is over."""
    if limit is None or not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise ImportTimeoutError(f"its import took longer than {limit:g} s ({LIMIT})")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, limit)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
