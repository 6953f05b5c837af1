"""What every scoring function asks of its input, and the error it raises when it does not get it."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.errors import HarnessError

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


class ScoringError(HarnessError, ValueError):
    """Numbers that cannot be scored: a wrong shape, a value out of bounds. A ValueError, too, for callers that know nothing of harness."""


def float_array(values: ArrayLike, name: str, *, ndim: int | None = None, nan: bool = True) -> FloatArray:
    """``values`` as float64 (None becomes NaN, "unrated"). Refuses infinities, another ``ndim``, and NaN unless it is allowed."""
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ScoringError(f"{name} must be numbers in a rectangular array, got something else ({error}); convert them first") from error
    if ndim is not None and array.ndim != ndim:
        raise ScoringError(f"{name} must have {ndim} dimension{'s' * (ndim != 1)}, got shape {array.shape}; reshape or index it first")
    if np.isinf(array).any():
        raise ScoringError(f"{name} must be finite, got an infinity; find where it came from (an unrated value is NaN)")
    if not nan and np.isnan(array).any():
        raise ScoringError(f"{name} must not hold NaN, got {int(np.isnan(array).sum())}; leave out what is undefined first")
    return array


def open_share(value: float, name: str) -> float:
    """``value`` if it lies strictly between 0 and 1."""
    if not 0 < value < 1:
        raise ScoringError(f"{name} must lie strictly between 0 and 1, got {value}")
    return float(value)


def at_least(value: int, least: int, name: str) -> int:
    """``value`` if it is a whole number of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise ScoringError(f"{name} must be a whole number of at least {least}, got {value!r}")
    return int(value)
