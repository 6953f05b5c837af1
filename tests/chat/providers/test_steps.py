"""What reads a server's texts takes a number of steps in proportion to their length: a page of 100 KB must not hold up a run."""

from __future__ import annotations

import re

import pytest
from helpers.patterns import steps
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.chat import cleaning
from harness.chat.providers import keys, quota, refusals

PATTERNS = {
    "keys": keys._LOOKS_LIKE_A_KEY,
    "cut keys": keys.cut_key("sk-proj-0123456789"),
    "control characters": cleaning._CONTROL,
    "spent": quota._SPENT,
    "passing": quota._PASSING,
    "long": quota._LONG,
    "wait": quota._WAIT,
    "refusal": refusals._REFUSAL,
    "streams": refusals._ONLY_STREAMS,
}
PER_CHARACTER = 400
"""Characters that may be compared for each one of the text: each branch of a pattern looks at a bounded number."""
UNITS = st.sampled_from(
    ["a", "-", "*", "_", " ", "0", "ab**", "a-b_c*", "sk", "sk-", "hf_a", "Bearer ", "x-api-key: ", "api_key=", "sk-proj-0123", "a***", "9s", "1m"]
    + ["try again in ", "retry in 1", "insufficient_", "insufficient a", "exceeded your current ", "free tier ", "must only ", "stream", "only a "]
    + ["\n", "free quota", "and ", ", ", "1 hours", "balance is ", "/ day"]
)
TEXTS = st.lists(st.tuples(UNITS, st.integers(1, 60)), min_size=1, max_size=3).map(lambda parts: "".join(unit * n for unit, n in parts)[:400])
quick = settings(max_examples=30, deadline=None)


@pytest.mark.parametrize("name", PATTERNS)
@quick
@given(text=TEXTS)
def test_the_steps_are_in_proportion_to_the_text(name: str, text: str) -> None:
    count, found = steps(PATTERNS[name], text)
    assert count <= PER_CHARACTER * (len(text) + 1)
    assert found == [match.span() for match in PATTERNS[name].finditer(text)], "what is counted is what is done"


@pytest.mark.parametrize(("pattern", "size"), [(r"[a-z]{2,}\*", 100), (r"(?:[a-z]+ ?)+!", 6), (r"[\w-]+\*{3,}", 100)])
def test_a_pattern_that_takes_the_square_or_more_is_told_apart(pattern: str, size: int) -> None:
    once, twice = (steps(re.compile(pattern), "a" * n)[0] for n in (size, 2 * size))
    assert twice > 3.5 * once
    linear = [steps(keys._LOOKS_LIKE_A_KEY, "a" * n)[0] for n in (100, 200)]
    assert linear[1] < 2.5 * linear[0]
