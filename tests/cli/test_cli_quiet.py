"""Standard error is for errors and for what harness has to say: whatever libraries warn of, and however, does not reach it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from helpers.noisy import NOISY, beside_its_errors

ROOT = Path(__file__).resolve().parents[2]


def errors_of(command: list[str], *sites: Path, **more: str) -> str:
    """What a command writes to standard error in a process of its own."""
    path = os.pathsep.join([*map(str, sites), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **more}
    program = [sys.executable, "-c", "from harness.cli import main; main()", *command]
    process = subprocess.run(program, env=environment, capture_output=True, text=True, timeout=300, check=True)
    return process.stderr


def test_of_libraries_only_errors_reach_the_screen(install: Callable[..., Path]) -> None:
    """A whole run does the same in test_cli_interrupt."""
    errors = errors_of(["plugins"], install(NOISY, "noisy", "noisy-dist"))
    assert not any("warn" in line.lower() or "goes away" in line or "no effect" in line for line in beside_its_errors(errors))


def test_who_asks_for_warnings_gets_them(install: Callable[..., Path]) -> None:
    errors = errors_of(["plugins"], install(NOISY, "noisy", "noisy-dist"), PYTHONWARNINGS="default")
    assert "FutureWarning: an argument goes away" in errors
    assert "DeprecationWarning: a module goes away" in errors
