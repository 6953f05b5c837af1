"""A sample of mutated dictionaries of every format: each works by its definition, or is refused in one line."""

from __future__ import annotations

import pytest
from helpers.mutations import trial

BATCH = 30


@pytest.mark.parametrize("first", range(0, 120, BATCH))
def test_a_mutated_dictionary_works_or_is_refused(first: int) -> None:
    assert [wrong for seed in range(first, first + BATCH) if (wrong := trial(seed))] == []
