"""What a plugin leaves set in the process is put back after its call."""

from __future__ import annotations

import contextlib
import gc
import signal
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from harness.plugin import torch_state
from harness.plugin.calls import PluginName, calling


class Function(TorchFunctionMode):
    def __torch_function__(self, function: Any, kinds: Any, arguments: Any = (), named: Any = None) -> Any:
        return function(*arguments, **(named or {}))


class Dispatch(TorchDispatchMode):
    def __torch_dispatch__(self, function: Any, kinds: Any, arguments: Any = (), named: Any = None) -> Any:
        return function(*arguments, **(named or {}))


LEFT: dict[str, Callable[[], Any]] = {
    "autocast": lambda: torch.autocast("cpu", dtype=torch.float16).__enter__(),
    "the type of autocast": lambda: torch.set_autocast_dtype("cpu", torch.float16),
    "a function mode": lambda: Function().__enter__(),
    "a dispatch mode": lambda: Dispatch().__enter__(),
    "a device": lambda: torch.set_default_device("meta"),
    "a device and a mode": lambda: (Function().__enter__(), torch.set_default_device("meta"), Function().__enter__()),
    "inference mode": lambda: torch.inference_mode().__enter__(),
    "anomalies": lambda: torch.autograd.set_detect_anomaly(True),
    "attention": lambda: torch.backends.cuda.enable_flash_sdp(False),
    "mkldnn": lambda: torch._C._set_mkldnn_enabled(False),
}


def without_draws() -> dict[str, Any]:
    found = torch_state.capture()
    assert found is not None
    return {name: value for name, value in found.items() if name not in ("draws", "cuda")}


@pytest.mark.parametrize("name", LEFT)
def test_what_torch_is_left_with_is_put_back(name: str) -> None:
    before = without_draws()
    with calling(PluginName("labeler", "mine", "their-dist"), "label"):
        kept = LEFT[name]()
    assert without_draws() == before
    assert torch.ones(1).device.type == "cpu"
    del kept


def test_alarms_handlers_and_limits_are_put_back() -> None:
    def state() -> list[Any]:
        handlers = [signal.getsignal(number) for number in (signal.SIGALRM, signal.SIGUSR1, signal.SIGCHLD, signal.SIGPIPE)]
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        return [*handlers, signal.getitimer(signal.ITIMER_VIRTUAL), blocked, sys.getrecursionlimit(), gc.isenabled()]

    before = state()
    with calling(PluginName("labeler", "mine", "their-dist"), "label"):
        for number in (signal.SIGALRM, signal.SIGUSR1, signal.SIGCHLD, signal.SIGPIPE):
            signal.signal(number, lambda *arguments: None)
        signal.setitimer(signal.ITIMER_VIRTUAL, 100.0)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
        gc.disable()
        sys.setrecursionlimit(sys.getrecursionlimit() + 7)
    assert state() == before


def nearly_used_up(deeper: int) -> None:
    """Set the lowest limit that Python takes so deep."""
    if deeper:
        nearly_used_up(deeper - 1)
        return
    for limit in range(1, 10_000):
        with contextlib.suppress(RecursionError):
            sys.setrecursionlimit(limit)
            return


def test_a_recursion_limit_that_is_nearly_used_up() -> None:
    before = sys.getrecursionlimit()
    try:
        with calling(PluginName("labeler", "mine", "their-dist"), "label"):
            nearly_used_up(4)
        after = sys.getrecursionlimit()
    finally:
        sys.setrecursionlimit(before)
    assert after == before
