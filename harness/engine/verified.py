"""What ``harness engines verify`` found, kept in the cache by engine, version and model: an entry says whether its engine was verified."""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from harness.errors import StoreError
from harness.files.atomic import write_atomically
from harness.types import digest

FOLDER = "engines"


@dataclass(frozen=True)
class Verdict:
    """One engine held against the float64 reference on one model.

    Attributes:
        engine: its name.
        version: of the engine, with that of its library.
        model: the model's name.
        model_digest: of its content.
        dtype: in which it was verified, e.g. ``float32``.
        device: on which.
        harness_version: that verified it.
        passed: whether every check passed, and every planted fault was found.
        tolerance: how far logits may be from the reference's, as a share of their spread.
        largest: the largest such difference, by check.
        faults_found: how many planted faults the checks found.
        faults: how many were planted.
        date: when, ISO 8601.
    """

    engine: str
    version: str
    model: str
    model_digest: str
    dtype: str
    device: str
    harness_version: str
    passed: bool
    tolerance: float
    largest: dict[str, float]
    faults_found: int
    faults: int
    date: str


def keep(root: Path, verdict: Verdict) -> None:
    """Keep a verdict below the cache folder ``root``, in place of an earlier one of the same engine, version and model.

    A model without a digest was not loaded from files, so nothing could be found again by it; its verdict is not kept. Neither is one that a
    cache cannot hold.
    """
    if verdict.model_digest:
        with contextlib.suppress(StoreError):
            place = _place(root, verdict.engine, verdict.version, verdict.model_digest)
            write_atomically(place, json.dumps(asdict(verdict), indent=1) + "\n", "verdict on an engine")


def find(root: Path, engine: str, version: str, model_digest: str) -> Verdict | None:
    """Return the verdict on an engine of this version with this model; None where it was not verified on this machine."""
    return _read(_place(root, engine, version, model_digest)) if model_digest else None


def all_verdicts(root: Path) -> list[Verdict]:
    """Return every verdict that is kept, the newest first."""
    found = [verdict for path in sorted((root / FOLDER).glob("*.json")) if (verdict := _read(path)) is not None]
    return sorted(found, key=lambda verdict: verdict.date, reverse=True)


def _place(root: Path, engine: str, version: str, model_digest: str) -> Path:
    return root / FOLDER / f"{digest([engine, version, model_digest], 16)}.json"


def _read(path: Path) -> Verdict | None:
    try:
        return Verdict(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):  # none, or of another version
        return None
