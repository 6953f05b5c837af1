"""The settings of torch that hold for the whole process: captured before a call into a plugin, put back after it.

torch is looked at only where it is loaded already: a plugin that needs none does not pay for it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

_CUDNN = ("benchmark", "deterministic", "allow_tf32")
_ATTENTION = ("flash", "mem_efficient", "math", "cudnn")
_AUTOCAST = ("cpu", "cuda", "mps", "xpu")
_ORDER = (
    "device", "modes", "inference", "grad", "dtype", "autocast", "autocast_nesting", "autocast_cache", "anomaly", "attention", "mkldnn", "threads",
    "deterministic", "precision", "cudnn",
)  # fmt: skip
"""How settings are put back: the default device and inference mode change others."""
_INFERENCE: list[Any] = []
"""Contexts of inference mode that were entered to put it back; they hold as long as they live."""


def capture() -> dict[str, Any] | None:
    """Return the settings and generators by name; None where torch is not loaded."""
    torch: Any = sys.modules.get("torch")
    if torch is None or not hasattr(torch, "get_default_dtype"):  # absent, or still being imported
        return None
    return {
        "dtype": torch.get_default_dtype(),
        "device": torch.get_default_device(),
        "grad": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "modes": _modes(torch),
        "autocast": {kind: (torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)) for kind in _AUTOCAST},
        "autocast_nesting": _autocast_nesting(torch),
        "autocast_cache": torch.is_autocast_cache_enabled(),
        "anomaly": (torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()),
        "attention": {name: getattr(torch.backends.cuda, f"{name}_sdp_enabled")() for name in _ATTENTION},
        "mkldnn": torch._C._get_mkldnn_enabled(),
        "threads": torch.get_num_threads(),
        "deterministic": (torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()),
        "precision": torch.get_float32_matmul_precision(),
        "cudnn": {name: getattr(torch.backends.cudnn, name) for name in _CUDNN},
        "draws": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() and torch.cuda.is_initialized() else None,
    }


def restore(before: Mapping[str, Any] | None) -> None:
    """Put everything back that differs by now; None stands for what torch begins with."""
    torch: Any = sys.modules.get("torch")
    if torch is None or not hasattr(torch, "get_default_dtype"):
        return
    if before is None:  # torch came with the call: what it begins with
        before = {"dtype": torch.float32, "device": torch.device("cpu"), "grad": True, "inference": False, "modes": ((), ())}
        before |= {"autocast": {kind: (False, torch.get_autocast_dtype(kind)) for kind in _AUTOCAST}}
    now = capture() or {}
    changed = {name for name, value in before.items() if name not in ("draws", "cuda") and now.get(name) != value}
    setters = {
        "inference": lambda mode: _set_inference(torch, mode),
        "modes": lambda modes: _set_modes(torch, modes),
        "autocast": lambda flags: _set_autocast(torch, flags),
        "autocast_nesting": lambda depth: _set_autocast_nesting(torch, depth),
        "autocast_cache": torch.set_autocast_cache_enabled,
        "anomaly": lambda mode: torch.autograd.set_detect_anomaly(*mode),
        "attention": lambda flags: [getattr(torch.backends.cuda, f"enable_{name}_sdp")(flag) for name, flag in flags.items()],
        "mkldnn": torch._C._set_mkldnn_enabled,
        "dtype": torch.set_default_dtype,
        # to name the CPU would put a function mode before every call of torch
        "device": lambda device: torch.set_default_device(None if device.type == "cpu" else device),
        "grad": torch.set_grad_enabled,
        "threads": torch.set_num_threads,
        "deterministic": lambda mode: torch.use_deterministic_algorithms(mode[0], warn_only=mode[1]),
        "precision": torch.set_float32_matmul_precision,
        "cudnn": _set_cudnn,
    }
    for name in sorted(changed, key=_ORDER.index):
        setters[name](before[name])
    if "draws" in before and not torch.equal(now["draws"], before["draws"]):
        torch.set_rng_state(before["draws"])
    if before.get("cuda") is not None:
        torch.cuda.set_rng_state_all(before["cuda"])


def _set_cudnn(flags: Mapping[str, Any]) -> None:
    torch: Any = sys.modules["torch"]
    for name, value in flags.items():
        setattr(torch.backends.cudnn, name, value)


def _set_inference(torch: Any, mode: bool) -> None:
    _INFERENCE.append(torch.inference_mode(mode))
    _INFERENCE[-1].__enter__()


def _set_autocast(torch: Any, flags: Mapping[str, tuple[bool, Any]]) -> None:
    for kind, (enabled, dtype) in flags.items():
        torch.set_autocast_enabled(kind, enabled)
        torch.set_autocast_dtype(kind, dtype)
    torch.clear_autocast_cache()


def _autocast_nesting(torch: Any) -> int:
    """Return how many contexts of autocast are entered. While one is, cast weights are kept, and a trainer would go on with old ones."""
    depth = int(torch.autocast_increment_nesting()) - 1
    torch.autocast_decrement_nesting()
    return depth


def _set_autocast_nesting(torch: Any, depth: int) -> None:
    for _ in range(_autocast_nesting(torch) - depth):
        torch.autocast_decrement_nesting()
    torch.clear_autocast_cache()


def _modes(torch: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Return what stands before every call of torch, the outermost first: function modes without that of the default device, and dispatch modes."""
    from torch.utils._device import DeviceContext
    from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

    functions = (torch._C._get_function_stack_at(place) for place in range(torch._C._len_torch_function_stack()))
    return tuple(mode for mode in functions if not isinstance(mode, DeviceContext)), tuple(_get_current_dispatch_mode_stack())


def _set_modes(torch: Any, before: tuple[tuple[Any, ...], tuple[Any, ...]]) -> None:
    from torch import overrides
    from torch.utils._device import DeviceContext
    from torch.utils._python_dispatch import _pop_mode as pop_dispatch
    from torch.utils._python_dispatch import _push_mode as push_dispatch

    functions: Any = overrides  # its stack of modes has no types
    devices = [mode for mode in (functions._pop_mode() for _ in range(torch._C._len_torch_function_stack())) if isinstance(mode, DeviceContext)]
    for mode in (*devices, *before[0]):
        functions._push_mode(mode)
    for _ in _modes(torch)[1]:
        pop_dispatch()
    for mode in before[1]:
        push_dispatch(mode)
