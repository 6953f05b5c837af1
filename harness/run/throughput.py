"""How fast this machine generated, trained and measured before, and a judge rated, kept in the cache: what a `--dry-run` can go by."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Protocol

from harness.errors import StoreError
from harness.files.atomic import write_atomically
from harness.files.cache_dir import cache_root
from harness.run.spending import Taken
from harness.tasks.schema import Task

FILE = "speed.json"


LEAST = 30
"""Fewer ratings say nothing about a judge's rate."""


TRAINING, COLLECTING = "training dictionaries", "collecting what they are trained on"
"""Parts of a run's time (:mod:`harness.engine.timing`)."""


class Recipe(Protocol):
    """What the time of a step depends on: a ``[[train]]`` table, or the settings made of it."""

    @property
    def architecture(self) -> str: ...
    @property
    def width(self) -> int: ...
    @property
    def k(self) -> int: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def fast(self) -> bool: ...


def training_name(task: Task, recipe: Recipe, control: str, device: str) -> str:
    """Return what the rate of trainings like this one is kept under (:func:`remember_rate`): tokens per second."""
    kind = "" if control == "none" else f", {control}"
    how = "" if recipe.fast else ", float32"
    sizes = f"width {recipe.width}, k {recipe.k}, batches of {recipe.batch_size}"
    return f"training {recipe.architecture}{kind} of {_vectors(task)}, {sizes}{how}, on {device}"


def collecting_name(task: Task, device: str) -> str:
    """Return what the rate of collecting or drawing the vectors is kept under: tokens per second."""
    return f"collecting vectors of {task.subject}, on {device}"


def _vectors(task: Task) -> str:
    """Return whose vectors are read; of synthetic ones their length alone tells how long a step takes."""
    return task.subject if task.file.synthetic is None else f"{task.file.synthetic.dims} dimensions"


def remember(cache: Path, model: str, device: str, tokens_per_second: float) -> None:
    """Keep the rate of new tokens that a run reached. A cache that cannot be written does not stop a run."""
    _keep(cache, f"{model} {device}", tokens_per_second)


def recall(cache: Path, model: str, device: str) -> float | None:
    """Return the new tokens per second of the last run of this model on this device, or None."""
    return _read(cache).get(f"{model} {device}")


def remember_ratings(judge: str, n: int, seconds: float, taken: Taken | None) -> None:
    """Keep how fast a judge (by its label) rated ``n`` texts; not where there were few, or where replies came from a cache."""
    if n >= LEAST and seconds > 0 and not (taken or {}).get("from_cache"):
        _keep(cache_root(), f"ratings by {judge}", n / seconds)


def recall_ratings(judge: str) -> float | None:
    """Return the ratings per second that a judge, by its label, reached the last time; None where that is not known."""
    return _read(cache_root()).get(f"ratings by {judge}")


def remember_rate(name: str, n: float, seconds: float) -> None:
    """Keep how many of something went through in a second; nothing is kept where nothing did."""
    if n > 0 and seconds > 0:
        _keep(cache_root(), name, n / seconds)


def recall_rate(name: str) -> float | None:
    """Return the rate that was kept last under a name, or None."""
    return _read(cache_root()).get(name)


def _keep(cache: Path, name: str, rate: float) -> None:
    known = _read(cache)
    known[name] = float(f"{rate:.4g}")
    with contextlib.suppress(StoreError):
        write_atomically(cache / FILE, json.dumps(known, indent=1) + "\n", "speed file")


def _read(cache: Path) -> dict[str, float]:
    try:
        value = json.loads((cache / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(key): float(rate) for key, rate in value.items()} if isinstance(value, dict) else {}
