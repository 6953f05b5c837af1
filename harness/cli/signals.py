"""SIGTERM and SIGHUP end a command as gently as Ctrl-C does; a second one ends it at once."""

from __future__ import annotations

import os
import signal
from types import FrameType

GENTLE = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Signals by which systems ask a process to end: batch queues, containers, a terminal that was closed."""

_received: list[signal.Signals] = []


class Terminated(KeyboardInterrupt):
    """The process was asked to end. It takes the way of Ctrl-C: what is under way is collected and stored."""


class Kept(KeyboardInterrupt):
    """Ends a command that was interrupted and says itself what is kept of its work."""


def end_gently() -> None:
    """Raise :class:`Terminated` in the main thread at the first of these signals. One that is ignored from the start (nohup) stays so."""
    own = os.getpid()

    def stop(number: int, _: FrameType | None) -> None:
        stop.spent = True  # type: ignore[attr-defined]
        for each in GENTLE:
            if signal.getsignal(each) is stop:
                signal.signal(each, signal.SIG_DFL)
        if os.getpid() != own:  # a child that inherited this; nothing of ours is under way in it
            os.kill(os.getpid(), number)
            return
        _received.append(signal.Signals(number))
        raise Terminated(signal.Signals(number).name)

    for each in GENTLE:
        if signal.getsignal(each) == signal.SIG_DFL:
            signal.signal(each, stop)


def received() -> signal.Signals | None:
    """Return the signal that ended this process' command, if one did."""
    return _received[-1] if _received else None
