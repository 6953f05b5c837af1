"""The loopback server for the tests of this folder."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


def _load(name: str) -> ModuleType:
    """A helper module of this folder (which is no package)."""
    known = sys.modules.get(f"llm_tests_{name}")
    if known is not None:
        return known
    spec = importlib.util.spec_from_file_location(f"llm_tests_{name}", Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def loopback() -> ModuleType:
    """tests/llm/loopback.py: Answer, HANG, RESET, chat_answer."""
    return _load("loopback")


@pytest.fixture
def serve(loopback: ModuleType) -> Iterator[Callable[[Callable[[str, bytes], Any]], Any]]:
    """Start a loopback server: ``server = serve(handler)``; it is stopped after the test."""
    with contextlib.ExitStack() as stack:
        yield lambda handler: stack.enter_context(loopback.Loopback(handler))
