"""The state of the process that a plugin may change by the way, and that others rely on: captured before a call, put back after it.
"""

from __future__ import annotations

import contextlib
import gc
import os
import random
import signal
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

try:  # signal's own is this one, with a look-up of an Enum for each of 62 signals around it: half of what a call into a plugin would cost
    from _signal import getsignal  # type: ignore[import-not-found, unused-ignore]
except ImportError:
    from signal import getsignal

from harness.plugin import torch_state

_SIGNALS = tuple(sorted(signal.valid_signals() - {getattr(signal, name, None) for name in ("SIGKILL", "SIGSTOP")}))
_TIMERS = tuple(getattr(signal, name) for name in ("ITIMER_REAL", "ITIMER_VIRTUAL", "ITIMER_PROF") if hasattr(signal, name))


@dataclass(frozen=True, eq=False)
class ProcessState:
    """What :meth:`capture` found.

    Attributes:
        folder: the working folder; None where it has been removed.
        streams: standard output and standard error, as Python's objects.
        signals: the handlers of all signals that may have one.
        timers: of alarms, which end a process that has no handler for them: seconds that are left, and the interval.
        blocked: signals that are held back; None where that is not known.
        recursion_limit: how deep Python may call.
        collects_garbage: whether Python looks for rings of values that nobody uses.
        python_draws: state of ``random``.
        numpy_draws: state of numpy's global generator.
        numpy_errors: what numpy does about overflow and its like.
        torch: torch's settings and generators by name; None where torch was not loaded.
    """

    folder: str | None
    streams: tuple[Any, Any]
    signals: Mapping[int, Any]
    timers: Mapping[int, tuple[float, float]]
    blocked: set[Any] | None
    recursion_limit: int
    collects_garbage: bool
    python_draws: Any
    numpy_draws: Any
    numpy_errors: Mapping[str, Any]
    torch: Mapping[str, Any] | None

    @classmethod
    def capture(cls, signals: bool = True) -> ProcessState:
        """Return the state now; without ``signals``, their handlers are left to whoever sets them."""
        folder = _folder()
        handlers: dict[int, Any] = {number: getsignal(number) for number in _SIGNALS} if signals else {}
        timers = {timer: signal.getitimer(timer) for timer in _TIMERS}
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ()) if hasattr(signal, "pthread_sigmask") else None
        return cls(
            folder=folder,
            streams=(sys.stdout, sys.stderr),
            signals=handlers,
            timers=timers,
            blocked=blocked,
            recursion_limit=sys.getrecursionlimit(),
            collects_garbage=gc.isenabled(),
            python_draws=random.getstate(),
            numpy_draws=np.random.get_state(legacy=True),
            numpy_errors=np.geterr(),
            torch=torch_state.capture(),
        )

    def restore(self) -> None:
        """Put everything back that differs by now."""
        if sys.getrecursionlimit() != self.recursion_limit:  # first: a low one refuses all that follows
            sys.setrecursionlimit(self.recursion_limit)
        for timer, before in self.timers.items():
            if before == (0.0, 0.0) and signal.getitimer(timer) != before:  # one that ran already goes on running
                signal.setitimer(timer, 0)
        if self.folder is not None and _folder() != self.folder:
            with contextlib.suppress(OSError):  # a folder that is gone can't be gone back to
                os.chdir(self.folder)
        if (sys.stdout, sys.stderr) != self.streams:
            sys.stdout, sys.stderr = self.streams
        restore_signals(self.signals)
        if self.blocked is not None and signal.pthread_sigmask(signal.SIG_BLOCK, ()) != self.blocked:
            signal.pthread_sigmask(signal.SIG_SETMASK, self.blocked)
        if gc.isenabled() != self.collects_garbage:
            (gc.enable if self.collects_garbage else gc.disable)()
        if random.getstate() != self.python_draws:
            random.setstate(self.python_draws)
        now: Any = np.random.get_state(legacy=True)
        if now[2:] != self.numpy_draws[2:] or not np.array_equal(now[1], self.numpy_draws[1]):
            np.random.set_state(self.numpy_draws)
        if np.geterr() != self.numpy_errors:
            np.seterr(**self.numpy_errors)
        torch_state.restore(self.torch)


def restore_signals(handlers: Mapping[int, Any]) -> None:
    """Set these handlers where others are set by now; only the main thread may.

    One that says of itself that it is ``spent`` has done its work meanwhile: the system's own takes its place.
    """
    if threading.current_thread() is threading.main_thread():
        for number, before in handlers.items():
            handler = signal.SIG_DFL if getattr(before, "spent", False) else before
            if handler is not None and getsignal(number) is not handler:
                signal.signal(number, handler)


def _folder() -> str | None:
    try:
        return os.getcwd()
    except OSError:
        return None
