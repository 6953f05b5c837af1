"""What tests of executors share."""

from __future__ import annotations

import pytest


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that there is work for several workers, and a piece may be lost while others are there."""
    monkeypatch.setattr("harness.engine.torch_loop.CHUNK", 3)
