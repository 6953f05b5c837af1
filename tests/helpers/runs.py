"""Manifests for runs that no task is behind, and the run of a folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.store import Manifest
from harness.store.manifest import ModelRef, TaskRef
from harness.types import Decoding, digest


def manifest(identity: Mapping[str, Any] | None = None, **changes: Any) -> Manifest:
    """A complete manifest of a run with this identity; ``changes`` are fields of it."""
    facts: dict[str, Any] = {
        "identity": {"task": {"name": "demo", "version": "1"}, "seed": 0} if identity is None else dict(identity),
        "harness_version": "0.1.0",
        "task": TaskRef(name="demo", version="1", digest=digest("demo"), split="report", mode="fixed"),
        "model": ModelRef(name="model", digest=digest("model"), dtype="float32", device="cpu"),
        "instruction_set_digest": digest("instructions"),
        "decoding": Decoding(max_new_tokens=16),
        "seed": 0,
    }
    return Manifest(**{**facts, **changes})


def run_of(out: Path) -> Path:
    """The folder of the one run below an --out folder."""
    (run,) = (out / "runs").iterdir()
    return run
