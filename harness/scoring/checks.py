"""Checks that the scoring functions make of their input, and the error that they raise."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.errors import HarnessError

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


class ScoringError(HarnessError, ValueError):
    """Numbers that cannot be scored: a wrong shape, a value out of bounds. A ValueError, too, for callers that do not know harness."""


def float_array(values: ArrayLike, name: str, *, ndim: int | None = None, nan: bool = True) -> FloatArray:
    """Returns ``values`` as float64 (None becomes NaN, "unrated"). Refuses infinities, another ``ndim``, and NaN unless it is allowed."""
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        message = f"{name} cannot be read as numbers ({error})"
        raise ScoringError(message, given=values, allowed="numbers in a rectangular array", hint="convert them first") from error
    if ndim is not None and array.ndim != ndim:
        allowed = f"{ndim} dimension{'s' * (ndim != 1)}"
        raise ScoringError(f"{name} has the shape {array.shape}", given=array.shape, allowed=allowed, hint="reshape or index it first")
    if np.isinf(array).any():
        infinity = float(array[np.isinf(array)].flat[0])
        hint = "find where the infinity came from (an unrated value is NaN)"
        raise ScoringError(f"{name} holds {infinity}", given=infinity, allowed="finite numbers", hint=hint)
    if not nan and np.isnan(array).any():
        message = f"{name} holds {int(np.isnan(array).sum())} NaN"
        raise ScoringError(message, given=float("nan"), allowed="numbers", hint="leave out what is undefined first")
    return array


def open_share(value: float, name: str) -> float:
    """Returns ``value`` if it lies strictly between 0 and 1."""
    if not 0 < value < 1:
        raise ScoringError(f"{name} is {value}", given=value, allowed="above 0 and below 1")
    return float(value)


def at_least(value: int, least: int, name: str) -> int:
    """Returns ``value`` if it is a whole number of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise ScoringError(f"{name} is {value!r}", given=value, allowed=f"a whole number of at least {least}")
    return int(value)


def check_binary(labels: NDArray[np.generic]) -> None:
    """Raise ScoringError for labels that are not all 0 or 1."""
    wrong = labels[~np.isin(labels, (0, 1))]
    if wrong.size:
        given = wrong.flat[0].item()
        raise ScoringError(f"labels hold {given!r}", given=given, allowed="True/False or 1/0", hint="binarise them first")
