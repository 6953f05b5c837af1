"""Ratings as judges give them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from harness.errors import PluginError
from harness.judging.ratings import check_rating
from harness.types import Rating


@pytest.mark.parametrize("kind", [int, float, np.float16, np.float32, np.float64, np.int64, np.uint8])
def test_a_number_of_any_type_is_a_rating(kind: Any) -> None:
    found = check_rating("mine", Rating("a", "rated", kind(1), kind(2), kind(0)), {"a"})
    assert [type(value) for value in (found.concept, found.instruction, found.fluency)] == [float] * 3
    assert (found.concept, found.instruction, found.fluency) == (1, 2, 0)


@pytest.mark.parametrize("value", [True, np.bool_(True), 1j])
def test_what_is_no_number_is_no_rating(value: Any) -> None:
    rating = Rating("a", "rated", 1.0, 1.0, 1.0)
    object.__setattr__(rating, "concept", value)
    with pytest.raises(PluginError):
        check_rating("mine", rating, {"a"})
