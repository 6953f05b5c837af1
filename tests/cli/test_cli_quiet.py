"""Standard error is for errors and for what harness has to say: whatever libraries warn of, and however, does not reach it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

NOISY = '''
"""A plugin whose libraries warn in each of the ways there are, as it is imported."""
import logging
import warnings
from harness import hookimpl

warnings.simplefilter("always")  # as some libraries do
warnings.warn("an argument goes away", FutureWarning)
warnings.warn("a module goes away", DeprecationWarning)
logging.getLogger("library.part").warning("a setting has no effect")
logging.getLogger("library.part").error("the library failed")
logging.getLogger("harness.files").warning("the cache was damaged, key %s", "sk-proj-" + "a1B2" * 12)

@hookimpl
def harness_register_judges(registry):
    pass
'''


def errors_of(command: list[str], *sites: Path, **more: str) -> str:
    """What a command writes to standard error in a process of its own."""
    path = os.pathsep.join([*map(str, sites), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **more}
    program = [sys.executable, "-c", "from harness.cli import main; main()", *command]
    process = subprocess.run(program, env=environment, capture_output=True, text=True, timeout=300, check=True)
    return process.stderr


@pytest.mark.parametrize("command", [["plugins"], ["eval", "--dry-run", "--labeler", "calibf1", "--steerer", "sae-clamp"]])
def test_of_libraries_only_errors_reach_the_screen(
    command: list[str], install: Callable[..., Path], tiny_task: Path, cache_folder: Path, sample_site: Path
) -> None:
    site = install(NOISY, "noisy", "noisy-dist")
    more = ["--task", str(tiny_task)] if "eval" in command else []
    errors = errors_of([*command, *more], site, sample_site, HARNESS_CACHE=str(cache_folder))  # the sample has the task's judge
    first, second, *rest = errors.splitlines()
    assert first == "the library failed"
    assert second.startswith("the cache was damaged, key ")
    assert "a1B2a1B2" not in second
    assert not any("warn" in line.lower() or "goes away" in line or "no effect" in line for line in rest)


def test_who_asks_for_warnings_gets_them(install: Callable[..., Path]) -> None:
    errors = errors_of(["plugins"], install(NOISY, "noisy", "noisy-dist"), PYTHONWARNINGS="default")
    assert "FutureWarning: an argument goes away" in errors
    assert "DeprecationWarning: a module goes away" in errors
