"""What another user than root may do."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@contextlib.contextmanager
def as_nobody(*readable: Path) -> Iterator[None]:
    """Root may write anywhere, so root becomes nobody for a while; skips where nobody may not read what a test needs."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        if not all(os.access(path, os.R_OK, effective_ids=True) for path in (ROOT / "harness", Path(pytest.__file__), *readable)):
            pytest.skip("only root may read this checkout or its data")
        yield
    finally:
        os.seteuid(0)
