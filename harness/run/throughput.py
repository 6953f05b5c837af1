"""How fast this machine generated before, kept in the cache: what a `--dry-run` can go by."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from harness.errors import StoreError
from harness.files.atomic import write_atomically

FILE = "speed.json"


def remember(cache: Path, model: str, device: str, tokens_per_second: float) -> None:
    """Keep the rate of new tokens that a run reached. A cache that cannot be written does not stop a run."""
    known = _read(cache)
    known[f"{model} {device}"] = round(tokens_per_second, 1)
    with contextlib.suppress(StoreError):
        write_atomically(cache / FILE, json.dumps(known, indent=1) + "\n", "speed file")


def recall(cache: Path, model: str, device: str) -> float | None:
    """Return the new tokens per second of the last run of this model on this device, or None."""
    return _read(cache).get(f"{model} {device}")


def _read(cache: Path) -> dict[str, float]:
    try:
        value = json.loads((cache / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(key): float(rate) for key, rate in value.items()} if isinstance(value, dict) else {}
