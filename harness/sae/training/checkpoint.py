"""The state of a training on disk, so that one that was killed goes on where it was, to the same weights."""

from __future__ import annotations

import pickle
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from harness.files.atomic import replacing
from harness.types import Json, canonical_json

CHECKPOINT_FILE = "checkpoint.pt"
SECONDS = 60.0
"""So long at least lies between two states that are kept; how often does not change what is trained."""


class Checkpoint:
    """Keeps the state of a SAELens trainer that is stepped by us: weights, optimiser, schedules, which features are dead.

    Args:
        path: the file.
        trainer: the trainer.
        identity: what the weights depend on; a state of another identity is not taken.
    """

    def __init__(self, path: Path, trainer: Any, identity: Mapping[str, Json]) -> None:
        self._path, self._trainer, self._identity = path, trainer, canonical_json(identity)
        self._last = time.monotonic()

    def save_if_due(self, seconds: float) -> None:
        """Keep the state where the last one is old enough; ``seconds``: spent on the training so far."""
        if time.monotonic() - self._last < SECONDS:
            return
        trainer = self._trainer
        state = {
            "identity": self._identity,
            "seconds": seconds,
            "sae": trainer.sae.state_dict(),
            "optimizer": trainer.optimizer.state_dict(),
            "lr_scheduler": trainer.lr_scheduler.state_dict(),
            "coefficients": {name: scheduler.state_dict() for name, scheduler in trainer.coefficient_schedulers.items()},
            "since_fired": trainer.n_forward_passes_since_fired,
            "steps": trainer.n_training_steps,
            "samples": trainer.n_training_samples,
        }
        with replacing(self._path) as new:
            torch.save(state, new)
        self._last = time.monotonic()

    def restore(self) -> float:
        """Bring the trainer to the state that was kept; returns the seconds that were spent until then, 0 where there is none."""
        trainer = self._trainer
        try:
            state = torch.load(self._path, map_location=trainer.cfg.device, weights_only=True)
        except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError):  # nothing there, or torn
            return 0.0
        if not isinstance(state, dict) or state.get("identity") != self._identity:
            return 0.0
        trainer.sae.load_state_dict(state["sae"])
        trainer.optimizer.load_state_dict(state["optimizer"])
        trainer.lr_scheduler.load_state_dict(state["lr_scheduler"])
        for name, scheduler in trainer.coefficient_schedulers.items():
            scheduler.load_state_dict(state["coefficients"][name])
        trainer.n_forward_passes_since_fired = state["since_fired"]
        trainer.n_training_steps, trainer.n_training_samples = int(state["steps"]), int(state["samples"])
        return float(state["seconds"])

    def remove(self) -> None:
        """Forget the state: the training is at its end."""
        self._path.unlink(missing_ok=True)
