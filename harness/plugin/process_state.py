"""The state of the process that a plugin may change by the way, and that others rely on: captured before a call, put back after it.

torch is looked at only where it is loaded already: a plugin that needs none does not pay for it.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
_CUDNN = ("benchmark", "deterministic", "allow_tf32")


@dataclass(frozen=True, eq=False)
class ProcessState:
    """What :meth:`capture` found.

    Attributes:
        folder: the working folder; None where it has been removed.
        streams: standard output and standard error, as Python's objects.
        signals: the handlers of Ctrl-C and of the signals that end a process.
        python_draws: state of ``random``.
        numpy_draws: state of numpy's global generator.
        numpy_errors: what numpy does about overflow and its like.
        torch: torch's settings and generators by name; None where torch was not loaded.
    """

    folder: str | None
    streams: tuple[Any, Any]
    signals: Mapping[signal.Signals, Any]
    python_draws: Any
    numpy_draws: Any
    numpy_errors: Mapping[str, Any]
    torch: Mapping[str, Any] | None

    @classmethod
    def capture(cls, signals: bool = True) -> ProcessState:
        """Return the state now; without ``signals``, their handlers are left to whoever sets them."""
        folder = _folder()
        handlers = {number: signal.getsignal(number) for number in _SIGNALS} if signals else {}
        draws = np.random.get_state(legacy=True)
        return cls(folder, (sys.stdout, sys.stderr), handlers, random.getstate(), draws, np.geterr(), _torch_state())

    def restore(self) -> None:
        """Put everything back that differs by now."""
        if self.folder is not None and _folder() != self.folder:
            with contextlib.suppress(OSError):  # a folder that is gone can't be gone back to
                os.chdir(self.folder)
        if (sys.stdout, sys.stderr) != self.streams:
            sys.stdout, sys.stderr = self.streams
        restore_signals(self.signals)
        if random.getstate() != self.python_draws:
            random.setstate(self.python_draws)
        now: Any = np.random.get_state(legacy=True)
        if now[2:] != self.numpy_draws[2:] or not np.array_equal(now[1], self.numpy_draws[1]):
            np.random.set_state(self.numpy_draws)
        if np.geterr() != self.numpy_errors:
            np.seterr(**self.numpy_errors)
        _restore_torch(self.torch)


def restore_signals(handlers: Mapping[signal.Signals, Any]) -> None:
    """Set these handlers where others are set by now; only the main thread may.

    One that says of itself that it is ``spent`` has done its work meanwhile: the system's own takes its place.
    """
    if threading.current_thread() is threading.main_thread():
        for number, before in handlers.items():
            handler = signal.SIG_DFL if getattr(before, "spent", False) else before
            if handler is not None and signal.getsignal(number) is not handler:
                signal.signal(number, handler)


def _folder() -> str | None:
    try:
        return os.getcwd()
    except OSError:
        return None


def _torch_state() -> dict[str, Any] | None:
    torch: Any = sys.modules.get("torch")
    if torch is None or not hasattr(torch, "get_default_dtype"):  # absent, or still being imported
        return None
    return {
        "dtype": torch.get_default_dtype(),
        "device": torch.get_default_device(),
        "grad": torch.is_grad_enabled(),
        "threads": torch.get_num_threads(),
        "deterministic": (torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()),
        "precision": torch.get_float32_matmul_precision(),
        "cudnn": {name: getattr(torch.backends.cudnn, name) for name in _CUDNN},
        "draws": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() and torch.cuda.is_initialized() else None,
    }


def _restore_torch(before: Mapping[str, Any] | None) -> None:
    torch: Any = sys.modules.get("torch")
    if torch is None or not hasattr(torch, "get_default_dtype"):
        return
    if before is None:  # torch came with the call: what it begins with
        before = {"dtype": torch.float32, "device": torch.device("cpu"), "grad": True}
    now = _torch_state() or {}
    changed = {name for name, value in before.items() if name not in ("draws", "cuda") and now.get(name) != value}
    setters = {
        "dtype": torch.set_default_dtype,
        # to name the CPU would put a function mode before every call of torch
        "device": lambda device: torch.set_default_device(None if device.type == "cpu" else device),
        "grad": torch.set_grad_enabled,
        "threads": torch.set_num_threads,
        "deterministic": lambda mode: torch.use_deterministic_algorithms(mode[0], warn_only=mode[1]),
        "precision": torch.set_float32_matmul_precision,
        "cudnn": _set_cudnn,
    }
    for name in changed:
        setters[name](before[name])
    if "draws" in before and not torch.equal(now["draws"], before["draws"]):
        torch.set_rng_state(before["draws"])
    if before.get("cuda") is not None:
        torch.cuda.set_rng_state_all(before["cuda"])


def _set_cudnn(flags: Mapping[str, Any]) -> None:
    torch: Any = sys.modules["torch"]
    for name, value in flags.items():
        setattr(torch.backends.cudnn, name, value)
