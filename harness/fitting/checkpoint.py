"""A training as it stands, on disk: what it takes to go on with it as if it had not been interrupted."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from harness.files.shards import replace_file

if TYPE_CHECKING:
    import torch

    from harness.fitting.training import Pupil

SECONDS = 20.0
"""It is written no more often."""
LARGEST = 1 << 28
"""Bytes of parameters above which it is not written at all: to write it would take longer than to begin again."""

_ADAM = ("exp_avg", "exp_avg_sq")


class Checkpoint:
    """The file of one training.

    Args:
        path: where it is.
        name: tells the trainings of one folder apart; a file of another is not read.
    """

    def __init__(self, path: Path, name: str) -> None:
        self._path, self._name = path, name
        self._written = time.monotonic()

    def write(self, pupils: Sequence[Pupil]) -> None:
        """Keep how the pupils stand, unless that was done a moment ago or is too much.

        Raises:
            StoreError: the disk is full or cannot be written; what was kept before is there.
        """
        from safetensors.torch import save

        size = sum(value.numel() * value.itemsize for pupil in pupils for value in pupil.parameters.values())
        if size > LARGEST or time.monotonic() - self._written < SECONDS:
            return
        tensors: dict[str, torch.Tensor] = {}
        for place, pupil in enumerate(pupils):
            for name, value in pupil.parameters.items():
                tensors |= {f"{place}/now/{name}": value.detach(), f"{place}/good/{name}": pupil.good[name]}
                state = pupil.optimiser.state[value]
                tensors |= {f"{place}/{part}/{name}": state[part] for part in (*_ADAM, "step") if part in state}
        record = [{"curve": asdict(pupil.curve), "since": pupil.since} for pupil in pupils]
        metadata = {"name": self._name, "pupils": json.dumps(record)}
        replace_file(self._path, save({name: value.contiguous() for name, value in tensors.items()}, metadata=metadata))
        self._written = time.monotonic()

    def read(self, pupils: Sequence[Pupil]) -> bool:
        """Have the pupils go on from where they were kept; False where nothing of this training was, and they are as before."""
        import torch
        from safetensors import safe_open

        from harness.fitting.curves import Curve

        if not self._path.exists():
            return False
        try:
            with safe_open(self._path, "pt") as file:
                if file.metadata()["name"] != self._name:
                    return False
                record = json.loads(file.metadata()["pupils"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        except Exception:  # safetensors' own error has no name: a file that cannot be read is as good as none
            return False
        with torch.no_grad():
            for place, (pupil, kept) in enumerate(zip(pupils, record, strict=True)):
                pupil.curve, pupil.since = Curve(**kept["curve"]), kept["since"]
                pupil.curve.points = [(int(step), training, held) for step, training, held in pupil.curve.points]
                for name, value in pupil.parameters.items():
                    value.copy_(tensors[f"{place}/now/{name}"])
                    pupil.good[name] = tensors[f"{place}/good/{name}"].to(value.device)
                    for part in (*_ADAM, "step"):
                        if (found := tensors.get(f"{place}/{part}/{name}")) is not None:
                            pupil.optimiser.state[value][part] = found if part == "step" else found.to(value.device)
        return True

    def remove(self) -> None:
        """Forget it."""
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)
