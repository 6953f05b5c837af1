"""Versions, hardware and the state of the checkout that made a run."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from harness.store.manifest import GitState

LIBRARIES = ("torch", "transformers", "sae-lens", "numpy", "scipy", "pluggy", "tokenizers", "safetensors")
"""Libraries that the numbers depend on."""


def versions(names: Iterable[str]) -> dict[str, str]:
    """Return the installed versions of distributions; one that is not installed is left out."""
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def hardware() -> dict[str, str]:
    """Return what this machine is, for people: system, processor, cores, accelerators where torch is loaded already."""
    found = {"system": platform.system(), "machine": platform.machine(), "cores": str(os.cpu_count() or "unknown")}
    torch = sys.modules.get("torch")  # asking for accelerators is not worth loading it
    if torch is not None and torch.cuda.is_available():
        found["accelerators"] = ", ".join(torch.cuda.get_device_name(place) for place in range(torch.cuda.device_count()))
    return found


def git_state(folder: Path) -> GitState | None:
    """Return the commit of the checkout that runs, or None for an installed package."""
    if not (folder / ".git").exists():
        return None
    try:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=True, timeout=10)
        status = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"], cwd=folder, capture_output=True, text=True, check=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return GitState(commit=commit.stdout.strip(), dirty=bool(status.stdout.strip()))
