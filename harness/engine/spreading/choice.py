"""Which executor spreads a run's work, on how many workers: values, how they are written, and the executor made of them."""

from __future__ import annotations

import importlib.util
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import OptionError, UnknownNameError

if TYPE_CHECKING:
    import torch

SINGLE, PROCESSES, RAY = "single", "processes", "ray"
SUMMARIES = {
    SINGLE: "this process, one chunk after another",
    PROCESSES: "a process for each device of this machine",
    RAY: "actors of a Ray cluster (extra `ray`)",
}
"""The executors."""
MOST = 1000
"""So many workers at most: each holds a model of its own, for more of which no machine and hardly a cluster has the memory."""


@dataclass(frozen=True)
class Spread:
    """How work is spread. No result depends on it, so it is no part of a run's identity.

    Attributes:
        executor: one of :data:`SUMMARIES`.
        workers: how many; None takes one for each device.
        devices: of the workers, one each (``cuda:1``); empty leaves them to the executor.
        address: of the Ray cluster; None takes ``RAY_ADDRESS``, else this machine alone.
    """

    executor: str = SINGLE
    workers: int | None = None
    devices: tuple[str, ...] = ()
    address: str | None = None


@dataclass(frozen=True)
class Place:
    """Where a worker computes: its device, and how many threads it has."""

    device: str
    threads: int


def parse_spread(executor: str | None = None, workers: str | int | None = None, address: str | None = None) -> Spread:
    """Return what ``--executor``, ``--workers`` and ``--ray-address`` ask for; None is what is not given.

    Raises:
        UnknownNameError: there is no such executor.
        OptionError: ``workers`` is neither a number from 1 to :data:`MOST` nor a list of devices, or an option goes with another executor.
    """
    name = executor or SINGLE
    if name not in SUMMARIES:
        raise UnknownNameError("executor", name, SUMMARIES)
    if workers is not None and name == SINGLE:
        hint = f"add --executor {PROCESSES} or --executor {RAY}"
        raise OptionError("--workers is given, and the executor is single: it has none", given=workers, hint=hint)
    if address is not None and name != RAY:
        raise OptionError(f"--ray-address is given, and the executor is {name}", given=address, hint=f"add --executor {RAY}")
    if workers is None:
        return Spread(name, address=address)
    text, form = str(workers).strip(), f"a number from 1 to {MOST}, or devices, e.g. cuda:1,cuda:2"
    if re.fullmatch("-?[0-9]+", text):
        n = int(text[:20])  # what is longer is too large, whatever follows
        if not 1 <= n <= MOST:
            hint = "each worker holds a model of its own; without --workers there is one for each device" if n > MOST else ""
            raise OptionError(f"--workers is {text[:20]}", given=workers, allowed=form, hint=hint)
        return Spread(name, n, address=address)
    devices = tuple(part.strip() for part in text.split(","))
    if not all(part.partition(":")[0].isalpha() for part in devices):
        raise OptionError(f"--workers was given {text!r}", given=workers, allowed=form)
    if name == RAY:
        message = f"--workers was given {text!r}, and Ray gives its workers the devices itself"
        raise OptionError(message, given=workers, allowed="a number of workers")
    return Spread(name, len(devices), devices, address)


def places(spread: Spread, device: torch.device, each: int = 1) -> list[Place]:
    """Return where the workers of this machine compute: a GPU each, all in turn; or a share of the CPU's threads each.

    Args:
        spread: what was asked for.
        device: of the driver's model, whose kind the workers' devices are.
        each: so many GPUs each, where the driver's model needs several.

    Raises:
        OptionError: a device that is not there.
    """
    import torch

    from harness.model.devices import choose_device

    if spread.devices:
        named = list(spread.devices)
        if other := next((name for name in named if choose_device(name).type != device.type), None):
            message = f"--workers names {other}, and the run computes on {device.type}"
            raise OptionError(message, given=other, allowed=f"devices of {device.type}", hint="give --device too")
    elif device.type == "cuda":
        groups = max(1, torch.cuda.device_count() // each)
        named = [_group(place % groups, each) for place in range(spread.workers or groups)]
    else:
        named = [str(device)] * (spread.workers or (usual_workers() if device.type == "cpu" else 1))
    share = max(1, torch.get_num_threads() // len(named))
    return [Place(name, share) for name in named]


def _group(number: int, each: int) -> str:
    """Return the devices of the group of GPUs with this number, as ``--device`` has them."""
    return "+".join(f"cuda:{place}" for place in range(number * each, (number + 1) * each))


def usual_workers() -> int:
    """Return how many workers a machine without GPUs has, where nobody says it: two, since each takes the memory of a model."""
    return min(2, os.cpu_count() or 1)


def check_executor(spread: Spread) -> Spread:
    """Return what was asked for. Raises OptionError where this system, or this installation, lacks what the executor needs."""
    if spread.executor == RAY and importlib.util.find_spec("ray") is None:
        raise OptionError("--executor ray needs the library ray, which is not installed", given=RAY, hint="pip install 'sae-harness[ray]'")
    if spread.executor == PROCESSES and os.name != "posix":
        raise OptionError("--executor processes needs Linux or macOS", given=os.name, hint="use --executor ray, or none")
    return spread
