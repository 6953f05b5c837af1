"""Versions and the state of the checkout that made a run."""

from __future__ import annotations

import importlib.metadata
import subprocess
from collections.abc import Iterable
from pathlib import Path

from harness.leaderboard.entry import (
    GitState,
)

LIBRARIES = ("torch", "transformers", "sae-lens", "numpy", "scipy", "pluggy", "tokenizers", "safetensors")


def versions(names: Iterable[str]) -> dict[str, str]:
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def git_state(folder: Path) -> GitState | None:
    """Commit of the checkout that runs, or None for an installed package."""
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
