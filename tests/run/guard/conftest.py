"""A bench whose model a test may spoil."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.files.artifacts import ArtifactCache
from harness.run.bench import TaskBench
from harness.testing import toy_bench


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy task with its statistics, for all of these tests: no test writes there."""
    made = tmp_path_factory.mktemp("toy")
    toy_bench(made).statistics()
    return made


@pytest.fixture
def bench(folder: Path, tmp_path: Path) -> TaskBench:
    """A bench whose model a test may spoil, with a cache of the test's own."""
    made = toy_bench(folder)
    made.artifacts = ArtifactCache(tmp_path / "cache")
    return made
