"""What tests of the command line share."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

JUDGE = """
import json, os
from harness import hookimpl
from harness.contracts import JudgeTraits
from harness.errors import JudgeError
from harness.types import Rating

def rated(item):
    return Rating(item.id, "rated", float(min(2, item.text.lower().count(item.concept.split()[-1]))), 1.0,
                  2.0 if len(set(item.text.split())) > 0.6 * len(item.text.split()) else 1.0)

class Judge:
    traits = JudgeTraits(rubric="mine/1", offline=True)
    def __init__(self, options): pass
    def prepare(self, bench): pass
    def collect(self, tickets): return []
    def submit(self, items):
        {body}

@hookimpl
def harness_register_judges(registry):
    registry.add("mine", Judge, summary="a judge of the tests")
"""


@pytest.fixture
def judge() -> Callable[..., str]:
    """``judge(*lines)``: the source of a plugin whose judge 'mine' submits by these lines."""
    return lambda *lines: JUDGE.replace("{body}", "\n        ".join(lines))


@pytest.fixture
def out(evaluation: tuple[Path, Any], tmp_path: Path) -> Path:
    """A copy of the --out folder with the one finished run of the tiny task, which the judge 'words' has rated."""
    return Path(shutil.copytree(evaluation[0], tmp_path / "out"))
