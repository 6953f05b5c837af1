"""Keywords are whole words or beginnings of words; taking them out leaves none that the matcher, or a bag of words, could find."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.data.keywords import KeywordMatcher, words_of

SEA = KeywordMatcher(["pan", "cook*", "sea"])


def test_keywords_are_whole_words_or_beginnings() -> None:
    matcher = KeywordMatcher(["art", "paint*"])
    assert matcher.count(words_of("Art starts: painters paint the painter's party, artful.")) == (4, 2)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("The cook's Pan, cooked over the SEA.", "The, over the."),
        ("A panther and an oven-pan by the seaside", "A panther and an oven- by the seaside"),
        ("The pan’s lid.\n\nCooking  is fun!", "The lid.\n\n is fun!"),
        ("No  match , here", "No  match , here"),
        ("cook", ""),
        ("", ""),
    ],
)
def test_keywords_are_taken_out_as_words_in_any_case(text: str, left: str) -> None:
    assert SEA.without(text) == left


@given(st.lists(st.sampled_from(["pan", "Pans", "PAN'S", "cook", "Cookery", "sea", "seas", "other", "-", "\n", ",", "’", "_"]), max_size=20))
def test_nothing_is_left_to_find_and_nothing_else_is_lost(parts: list[str]) -> None:
    text = " ".join(parts)
    left = SEA.without(text)
    assert SEA.count(words_of(left)) == (0, 0)
    assert not re.findall(r"\b(?:pan|sea|cook\w*)\b", left.lower())
    others = [word for word in words_of(text) if word in ("pans", "seas", "other")]
    assert [word for word in words_of(left) if word in ("pans", "seas", "other")] == others
    assert SEA.without(left) == left or SEA.count(words_of(text)) == (0, 0)
