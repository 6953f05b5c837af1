"""The names of a forward's cache: whatever the model's code calls it, it is handed on, and no old name is asked for beside a new one."""

from __future__ import annotations

import functools
from types import SimpleNamespace
from typing import Any

import pytest

from harness.model.structure import cache_argument, cache_of


def new(input_ids: Any, cache: Any = None, **more: Any) -> None: ...


def old(input_ids: Any, past_key_values: Any = None) -> None: ...


def neither(input_ids: Any, **more: Any) -> None: ...


@functools.wraps(new)
def renaming(*args: Any, **kwargs: Any) -> None:
    """As transformers decorates a forward that still takes the old name."""


@pytest.mark.parametrize(
    ("forward", "name"), [(new, "cache"), (renaming, "cache"), (old, "past_key_values"), (neither, "past_key_values")]
)
def test_the_signature_says_what_the_cache_is_called(forward: Any, name: str) -> None:
    assert cache_argument(SimpleNamespace(forward=forward)) == name


def test_the_cache_is_read_under_the_name_that_the_output_has() -> None:
    class Renamed:
        cache = "keys and values"

        @property
        def past_key_values(self) -> str:
            raise AssertionError("the old name warns")

    assert cache_of(Renamed()) == "keys and values"
    assert cache_of(SimpleNamespace(past_key_values="keys and values")) == "keys and values"
    with pytest.raises(AttributeError):
        cache_of(SimpleNamespace(logits=None))
