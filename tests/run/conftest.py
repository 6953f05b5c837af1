"""The plugins of this installation with the sample one, and the tiny task, once for each module of tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.plugin.host import PluginHost
from harness.tasks.find import load_task
from harness.tasks.schema import Task


@pytest.fixture(scope="module")
def host(sample_site: Path, installed: Callable[..., Any]) -> Iterator[PluginHost]:
    with installed(sample_site):
        yield PluginHost.load()


@pytest.fixture(scope="module")
def task(tiny_task: Path) -> Task:
    return load_task(tiny_task)
