"""Chooses the device and the number format to compute in, by what the machine has."""

from __future__ import annotations

import platform
from functools import lru_cache
from pathlib import Path

import torch

from harness.errors import OptionError

DTYPES: dict[str, torch.dtype] = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
_DEVICES = ("auto", "cpu", "cuda", "cuda:<number>", "mps", "cuda:<number>+cuda:<number>", "cuda:all")
ALL = "cuda:all"
"""All GPUs there are, for one model."""
_SHORT = {"bf16": "bfloat16", "fp16": "float16", "half": "float16", "fp32": "float32", "float": "float32"}


def choose_devices(name: str | torch.device | None = None) -> list[torch.device]:
    """Return the devices that a model's layers are spread over, each once: one, unless ``name`` has several with ``+`` between, or is ``cuda:all``.

    Raises:
        OptionError: as :func:`choose_device`; devices of several kinds.
    """
    if name == ALL:
        choose_device("cuda")
        return [torch.device("cuda", place) for place in range(torch.cuda.device_count())]
    parts = name.split("+") if isinstance(name, str) else [name]
    devices = list(dict.fromkeys(choose_device(part) for part in parts))
    if len({device.type for device in devices}) > 1 or (len(devices) > 1 and devices[0].type != "cuda"):
        raise OptionError(f"a model cannot be spread over {name}", given=str(name), allowed="GPUs, e.g. cuda:0+cuda:1")
    return devices


def choose_device(name: str | torch.device | None = None) -> torch.device:
    """Return the device to compute on; of several (:func:`choose_devices`) the first, where prompts and edits are.

    Args:
        name: ``cpu``, ``cuda``, ``cuda:1``, ``mps``; None or ``auto`` takes CUDA, else Apple's MPS, else the CPU.

    Raises:
        OptionError: a name that torch does not know, or a device that is not there.
    """
    if name is None or name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps") if torch.backends.mps.is_available() else torch.device("cpu")
    if isinstance(name, str) and (name == ALL or "+" in name):
        return choose_devices(name)[0]
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError):
        raise OptionError(f"unknown device {str(name)!r}", given=str(name), allowed=_DEVICES) from None
    if device.type not in ("cpu", "cuda", "mps"):
        raise OptionError(f"unknown device {str(name)!r}", given=str(name), allowed=_DEVICES)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise OptionError(f"device {str(name)!r} was asked for, but torch sees no CUDA device", given=str(name), hint="use --device cpu")
    if device.type == "cuda" and (device.index or 0) >= (count := torch.cuda.device_count()):
        allowed = "cuda:0" if count == 1 else f"cuda:0 to cuda:{count - 1}"
        raise OptionError(f"device {str(name)!r} was asked for, but it is not there", given=str(name), allowed=allowed)
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise OptionError(f"device {str(name)!r} was asked for, but torch sees no MPS device", given=str(name), hint="use --device cpu")
    return device


def choose_dtype(name: str | torch.dtype | None, device: torch.device) -> torch.dtype:
    """Return the number format to compute in.

    None or ``auto`` takes bfloat16 where the hardware multiplies it (CUDA from Ampere on; CPUs with AVX512-BF16, AMX or Arm's BF16
    instructions; MPS from macOS 14 on), else float32. On a CPU without such instructions bfloat16 is emulated and several times slower.

    Args:
        name: ``bfloat16``, ``float16``, ``float32``, one of their usual short forms, a ``torch.dtype``, or None.
        device: where the model will run.

    Raises:
        OptionError: another name.
    """
    if isinstance(name, torch.dtype):
        if name in DTYPES.values():
            return name
        raise OptionError(f"unknown dtype {str(name)!r}", given=name, allowed=("auto", *sorted(DTYPES)))
    if name is None or name == "auto":
        return torch.bfloat16 if _multiplies_bfloat16(device) else torch.float32
    try:
        return DTYPES[_SHORT.get(name, name)]
    except KeyError:
        raise OptionError(f"unknown dtype {name!r}", given=name, allowed=("auto", *sorted(DTYPES))) from None


def _multiplies_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        # Compute capability, not torch.cuda.is_bf16_supported(): that also returns True where bf16 is only emulated.
        return torch.version.hip is not None or torch.cuda.get_device_capability(device)[0] >= 8
    if device.type == "mps":
        release = platform.mac_ver()[0].split(".")[0]
        return release.isdigit() and int(release) >= 14
    return cpu_multiplies_bfloat16()


@lru_cache(maxsize=1)
def cpu_multiplies_bfloat16() -> bool:
    """Return whether this CPU has bfloat16 matrix instructions. Asks torch first (its private probes come and go), then the kernel."""
    for probe in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        supported = getattr(torch.cpu, probe, None)
        if supported is not None and supported():
            return True
    return bool(_cpu_flags() & {"avx512_bf16", "amx_bf16", "bf16"})


def _cpu_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> set[str]:
    """Return instruction-set flags of the first CPU as Linux lists them (``flags`` on x86, ``Features`` on Arm); empty elsewhere."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return set()
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return set(value.split())
    return set()
