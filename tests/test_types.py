"""Values that are checked when they are made, and that survive JSON."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.types import Measurement, canonical_json

NUMBERS = st.none() | st.floats(allow_nan=False, allow_infinity=False)
NAMES = st.text(min_size=1, max_size=5)


@given(NUMBERS, st.dictionaries(NAMES, NUMBERS, max_size=3), st.dictionaries(NAMES, NUMBERS, max_size=3))
def test_a_measurement_survives_json(value: float | None, per_item: dict[str, float | None], parts: dict[str, float | None]) -> None:
    reasons = {name: "why" for name, part in parts.items() if part is None}
    made = Measurement(value, per_item, {"n": 3, "list": [1, None]}, "" if value is not None else "why", parts, reasons, {"value": 0.5})
    stored = json.loads(canonical_json(made.as_json()))
    assert Measurement.of_json(stored) == made


def test_what_an_older_version_stored_is_still_read() -> None:
    assert Measurement.of_json({"value": 1.0, "per_item": {}, "details": {}, "reason": ""}) == Measurement(1.0)


@pytest.mark.parametrize(
    ("made", "named"),
    [
        (lambda: Measurement(None), "reason"),
        (lambda: Measurement(math.nan), "value"),
        (lambda: Measurement(math.inf), "value"),
        (lambda: Measurement(1.0, per_item={"layer 3": math.nan}), "layer 3"),
        (lambda: Measurement(1.0, parts={"l0": math.inf}), "l0"),
        (lambda: Measurement(1.0, trivial={"value": math.nan}), "value"),
        (lambda: Measurement(1.0, parts={"l0": None}), "l0"),
        (lambda: Measurement(1.0, parts={"l0": None}, part_reasons={"l0": ""}), "l0"),
    ],
)
def test_a_measurement_that_says_nothing_or_no_number_is_refused(made: object, named: str) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011 (any message that names the number)
        made()  # type: ignore[operator]
    assert named in str(error.value)
