"""Waiting for what another thread or process does, however busy the machine is."""

from __future__ import annotations

import time
from collections.abc import Callable

SECONDS = 120.0
"""A test that waits for longer fails: long enough for a machine on which many other things run, and only reached by a defect."""


def wait_for(true: Callable[[], object], seconds: float = SECONDS) -> None:
    """Wait until ``true`` answers with something true; an AssertionError if it never does."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)
