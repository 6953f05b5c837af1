"""One way to fail: an AssertionError with a sentence, whatever Python's optimisation level."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from harness.plugin.calls import PluginName
from harness.run.bench import TaskBench
from harness.run.guard import ChangedModelError
from harness.types import canonical_json


def require(condition: object, message: str) -> None:
    """Raise AssertionError with ``message`` unless ``condition`` holds."""
    if not condition:
        raise AssertionError(message)


def require_json(value: Any, what: str) -> None:
    """Raise AssertionError unless ``value`` is JSON without NaN, as the run store needs it."""
    try:
        canonical_json(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise AssertionError(f"{what} is not a JSON value, so it cannot be stored: {error}") from error


@contextmanager
def watched(bench: TaskBench, kind: str, plugin: object, call: str) -> Iterator[None]:
    """Within the context a plugin is at work on ``bench``: AssertionError where model or dictionaries are not as before afterwards."""
    entered = bench.guard.enter(PluginName(kind, type(plugin).__name__, type(plugin).__module__), call)
    try:
        try:
            yield
        except BaseException:
            bench.guard.leave(entered, failed=True)
            raise
        bench.guard.leave(entered)
    except ChangedModelError as error:
        raise AssertionError(str(error)) from error
