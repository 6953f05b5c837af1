"""One way to fail: an AssertionError with a sentence, whatever Python's optimisation level."""

from __future__ import annotations

from typing import Any

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
