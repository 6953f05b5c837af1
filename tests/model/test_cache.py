"""What a model hands on from token to token: its names, and how rows leave it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from harness.model.cache import CacheNames, cache_names, cut_rows


def new(input_ids: Any, cache: Any = None, **more: Any) -> None: ...


def old(input_ids: Any, past_key_values: Any = None) -> None: ...


def mamba(input_ids: Any, cache_params: Any = None) -> None: ...


def rwkv(input_ids: Any, state: Any = None, **more: Any) -> None: ...


def own(input_ids: Any, memory: Any = None) -> None: ...


def swallowing(input_ids: Any, **more: Any) -> None: ...


def none(input_ids: Any) -> None: ...


@functools.wraps(new)
def renaming(*args: Any, **kwargs: Any) -> None:
    """As transformers decorates a forward that still takes the old name."""


@pytest.mark.parametrize(
    ("forward", "field", "argument"),
    [
        (new, "cache", "cache"),
        (renaming, "cache", "cache"),
        (old, "past_key_values", "past_key_values"),
        (old, "cache", "past_key_values"),
        (new, "past_key_values", "cache"),
        (mamba, "cache_params", "cache_params"),
        (rwkv, "state", "state"),
        (own, "memory", "memory"),
        (swallowing, "past_key_values", "past_key_values"),
    ],
)
def test_names_are_read_off_signature_and_output(forward: Callable[..., Any], field: str, argument: str) -> None:
    output = {"logits": torch.zeros(1), "hidden_states": (torch.zeros(1),), field: "handed on", "loss": None}
    names = cache_names(SimpleNamespace(forward=forward), output)
    assert names == CacheNames(argument, field)
    assert names.value(output) == "handed on"
    assert names.value(SimpleNamespace(**output)) == "handed on"


def test_the_usual_name_comes_before_other_fields_that_the_forward_takes() -> None:
    def forward(input_ids: Any, rope_deltas: Any = None, past_key_values: Any = None) -> None: ...

    output = {"logits": 0, "rope_deltas": 1, "past_key_values": 2}
    assert cache_names(SimpleNamespace(forward=forward), output) == CacheNames("past_key_values", "past_key_values")


@pytest.mark.parametrize(("forward", "fields"), [(none, {"cache": 1}), (new, {}), (new, {"cache": None}), (new, {"attentions": (1,)})])
def test_no_name_where_nothing_is_handed_on(forward: Callable[..., Any], fields: dict[str, Any]) -> None:
    assert cache_names(SimpleNamespace(forward=forward), {"logits": 0, **fields}) is None
    assert cache_names(SimpleNamespace(forward=forward), SimpleNamespace(logits=0, **fields)) is None


def test_an_old_name_that_warns_is_never_asked_for() -> None:
    class Renamed:
        def __init__(self) -> None:
            self.cache = "keys and values"

        @property
        def past_key_values(self) -> str:
            raise AssertionError("the old name warns")

    names = cache_names(SimpleNamespace(forward=new), Renamed())
    assert names is not None
    assert names.value(Renamed()) == "keys and values"


def test_rows_leave_by_the_caches_own_methods() -> None:
    from transformers import DynamicCache

    keys = torch.arange(24.0).reshape(3, 1, 4, 2)
    for how in ("select", "reorder", "keep"):
        cache = DynamicCache()
        cache.update(keys, keys + 1, 0)
        cut_rows(cache, torch.tensor([0, 2]), how)
        assert torch.equal(cache.layers[0].keys, keys if how == "keep" else keys[[0, 2]])
        assert torch.equal(cache.layers[0].values, keys + 1 if how == "keep" else keys[[0, 2]] + 1)
    with pytest.raises(AttributeError):
        cut_rows([keys], torch.tensor([0]), "select")
