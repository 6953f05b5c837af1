"""Plugins while they are imported: one that takes long is named on standard error, one that takes longer than is allowed is broken off."""

from __future__ import annotations

import math
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
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
        self._number, self._over = 0, False
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
        with self._changed:
            self._plugin = plugin
            self._number += 1
            self._changed.notify()

    def _watch(self) -> None:
        stderr = sys.stderr
        with self._changed:
            while not self._over:
                waited, wait, changed = 0.0, self._named_after, partial(self._has_changed, self._number)
                while self._plugin is not None and not self._changed.wait_for(changed, wait):
                    waited += wait
                    wait = waited
                    advice = "Ctrl-C stops it" + ("" if self._limit is not None else f", {LIMIT}=SECONDS sets a limit")
                    say(f"harness: plugin {self._plugin} is still being imported after {waited:g} s; {advice}", stderr)
                self._changed.wait_for(lambda: self._plugin is not None or self._over)

    def _has_changed(self, number: int) -> bool:
        return self._number != number or self._over


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
