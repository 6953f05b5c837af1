"""Workers that begin at once, as copies of the test's process."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from harness.engine.spreading import processes, worker


class Copied:
    """As much of :class:`subprocess.Popen` as a pool needs, for the program of a worker: that is done by a copy of this process.

    A process of its own imports torch and transformers for seconds; test_cli_executor has such workers.
    """

    def __init__(self, command: Sequence[str], *, stdin: int, stdout: Any, stderr: Any, pass_fds: Sequence[int], start_new_session: bool) -> None:
        (descriptor,) = pass_fds
        assert (stdin, stdout, start_new_session, command[3]) == (subprocess.DEVNULL, stderr, True, str(descriptor))
        self._code: int | None = None
        self.pid = os.fork()
        if not self.pid:
            code = 1
            try:
                os.setsid()
                nothing = os.open(os.devnull, os.O_RDONLY)
                for own, given in enumerate((nothing, stdout.fileno(), stderr.fileno())):
                    os.dup2(given, own)
                for other in map(int, os.listdir("/proc/self/fd")):
                    if other > 2 and other != descriptor:
                        with contextlib.suppress(OSError):
                            os.close(other)
                worker.main(descriptor)
                code = 0
            finally:
                os._exit(code)

    def kill(self) -> None:
        if self._code is None:
            os.kill(self.pid, signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int:
        if self._code is None:
            self._code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self._code


def copied_workers(patch: pytest.MonkeyPatch) -> None:
    """Have workers begin as copies of this process."""
    patch.setattr(processes, "subprocess", SimpleNamespace(**{**vars(subprocess), "Popen": Copied}))
