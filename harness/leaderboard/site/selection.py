"""Which of many are shown: a choice that depends on nothing but their order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def spread_out(values: Sequence[T], most: int) -> list[T]:
    """Return at most ``most`` of ``values``, evenly spaced from the first to the last, in their order."""
    if len(values) <= most:
        return list(values)
    if most < 2:
        return list(values[: max(most, 0)])
    step = (len(values) - 1) / (most - 1)
    return [values[round(place * step)] for place in range(most)]
