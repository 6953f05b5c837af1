"""A copy of this process, for tests that kill one: what a process of its own would first import for seconds has been imported here."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any


def begun(run: Callable[[], Any]) -> int:
    """Return the id of a copy of this process that does ``run`` and ends: with 0, or with 1 after an error, which it prints."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if not child:
        code = 1
        try:
            run()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    return child


def ended(child: int) -> int:
    """Return how a copy ended, once it has: its code, or minus the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def killed(run: Callable[[], Any]) -> bool:
    """Return whether a copy of this process that does ``run`` kills itself on the way; what it does ends with 0 otherwise."""
    code = ended(begun(run))
    assert code in (0, -signal.SIGKILL), code
    return code != 0
