"""The arithmetic of bridges: shifts of scores and of differences, over the concepts that both judges gave a value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.evaluations.steering.bridge import _difference_shift, _method_shift
from harness.leaderboard.entry import STEERING_METRICS, Row

VALUES = st.lists(st.tuples(*[st.floats(0, 2, allow_subnormal=False) for _ in range(4)]), min_size=3, max_size=8)


def row(values: Sequence[float | None], steerer: str = "sae-clamp") -> Row:
    """A steering row of chosen mode with one concept a value; None is an abstention."""
    items = [
        {"id": f"c{place}", "text": "x", "features": [f"sae/{place}"], "values": dict.fromkeys(STEERING_METRICS, value), "strength": 0.4, "n": 4}
        if value is not None
        else {"id": f"c{place}", "text": "x", "answered": False, "reason": "no feature"}
        for place, value in enumerate(values)
    ]
    known = [value for value in values if value is not None]
    score: dict[str, Any] = {"value": sum(known) / len(known), "bounds": [0, 2], "higher_is_better": True, "trivial": 0, "reason": "for the test"}
    return Row.model_validate(
        {
            "kind": "steering",
            "role": "method",
            "subject": {"kind": "steering", "labeler": "max-auc", "steerer": steerer, "strength_unit": "residual-norm", "grid": [0.4]},
            "primary": "overall",
            "metrics": dict.fromkeys(STEERING_METRICS, score),
            "bounds": {"low": score["value"], "high": score["value"]},
            "n_items": len(values),
            "n_answered": len(known),
            "coverage": len(known) / len(values),
            "n_texts": 4 * len(known),
            "eligible": True,
            "items": items,
        }
    )


@settings(max_examples=20, deadline=None)
@given(VALUES)
def test_the_shift_of_a_difference_is_the_difference_of_the_shifts(values: list[tuple[float, ...]]) -> None:
    a, b, c, d = (row(column, "sae-clamp" if place < 2 else "sae-add") for place, column in enumerate(zip(*values, strict=True)))
    upper, lower = _method_shift(a, b, False), _method_shift(c, d, False)
    found = _difference_shift((a, b), (c, d), False)
    assert upper.shift is not None
    assert lower.shift is not None
    assert found.shift == pytest.approx(upper.shift - lower.shift, abs=1e-9)
    assert found.n == len(values)
    for shift in (upper, lower, found):
        assert shift.low is None or shift.high is None or shift.low - 1e-9 <= shift.shift <= shift.high + 1e-9  # type: ignore[operator]
    turned = _method_shift(b, a, False)
    assert turned.shift == pytest.approx(-upper.shift, abs=1e-12)


def test_a_judge_that_is_kinder_by_a_constant_shifts_scores_and_no_difference() -> None:
    before, other = [0.2, 0.9, 1.1, 0.4, 0.7, 1.0], [0.1, 0.3, 0.2, 0.5, 0.4, 0.3]
    first, second = row(before), row([value + 0.5 for value in before])
    third, fourth = row(other, "sae-add"), row([value + 0.5 for value in other], "sae-add")
    assert _method_shift(first, second, False).shift == pytest.approx(0.5)
    assert _difference_shift((first, second), (third, fourth), False).shift == pytest.approx(0.0, abs=1e-12)


def test_a_concept_that_one_judge_left_without_a_value_is_not_paired() -> None:
    found = _method_shift(row([0.5, None, 1.0, 1.5]), row([1.0, 2.0, None, 1.5]), False)
    assert (found.n, found.shift) == (2, pytest.approx(0.25))
