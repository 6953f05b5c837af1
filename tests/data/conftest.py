"""Corpora of these tests keep their indexes in a cache of their own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest


@pytest.fixture(scope="module", autouse=True)
def index_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The cache folder while a module's tests run."""
    folder = tmp_path_factory.mktemp("cache")
    with mock.patch.dict(os.environ, {"HARNESS_CACHE": str(folder)}):
        yield folder
