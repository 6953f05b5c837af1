"""The end of the process: a thread that a plugin has left running does not hold it up once the result is written."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading

from harness.files.progress_lines import say

_PATIENCE = 2.0
"""Seconds that threads have, all together, to come to their end."""


def end(code: int) -> None:
    """End the process with this exit code: as Python does, or at once where threads are left that it would wait for; they are named.

    Threads of an executor are left to Python, which tells them to end.
    """
    left = _left()
    if not left:
        sys.exit(code)
    for thread in left:
        thread.join(_PATIENCE / len(left))
    left = [thread for thread in left if thread.is_alive()]
    if not left:
        sys.exit(code)
    names = ", ".join(repr(thread.name) for thread in left)
    say(f"harness: a plugin has left {len(left)} threads running ({names}); they end with the command")
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(code)


def _left() -> list[threading.Thread]:
    """Return the threads that Python would wait for: without those of executors."""
    executors = sys.modules.get("concurrent.futures.thread")
    queues = getattr(executors, "_threads_queues", {})
    others = [thread for thread in threading.enumerate() if thread is not threading.main_thread() and not thread.daemon]
    return [thread for thread in others if thread not in queues]
