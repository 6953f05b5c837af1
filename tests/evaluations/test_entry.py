"""What an entry says of a whole run."""

from __future__ import annotations

import pytest

from harness.evaluations.entry import constant_ratings
from harness.types import Rating


def rated(n: int, fluency: tuple[float, ...] = (2.0,)) -> list[Rating]:
    return [Rating(str(place), "rated", place % 3, 1.0, fluency[place % len(fluency)]) for place in range(n)]


@pytest.mark.parametrize(
    ("ratings", "parts"),
    [
        (rated(30), ["instruction 1", "fluency 2"]),
        (rated(30, (2.0, 1.0)), ["instruction 1"]),
        ([*rated(30), Rating("x", "unrated", reason="garbled"), Rating("y", "pending", ticket="t")], ["instruction 1", "fluency 2"]),
        (rated(9), []),
        ([], []),
    ],
)
def test_a_judge_that_gives_one_rating_to_everything_is_said(ratings: list[Rating], parts: list[str]) -> None:
    found = constant_ratings("words", ratings)
    assert len(found) == len(parts)
    for warning, part in zip(found, parts, strict=True):
        assert f"rated {part} for each of {sum(rating.status == 'rated' for rating in ratings)} texts" in warning
