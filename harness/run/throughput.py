"""How fast this machine generated before, and a judge rated, kept in the cache: what a `--dry-run` can go by."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from harness.errors import StoreError
from harness.files.atomic import write_atomically
from harness.files.cache_dir import cache_root
from harness.run.spending import Taken

FILE = "speed.json"


LEAST = 30
"""Fewer ratings say nothing about a judge's rate."""


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


def _keep(cache: Path, name: str, rate: float) -> None:
    known = _read(cache)
    known[name] = round(rate, 1) or rate
    with contextlib.suppress(StoreError):
        write_atomically(cache / FILE, json.dumps(known, indent=1) + "\n", "speed file")


def _read(cache: Path) -> dict[str, float]:
    try:
        value = json.loads((cache / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(key): float(rate) for key, rate in value.items()} if isinstance(value, dict) else {}
