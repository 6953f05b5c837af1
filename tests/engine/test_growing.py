"""The growing cache holds, after any sequence of tokens, leavings and joinings, what concatenation would."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers.cache_utils import DynamicLayer

from harness.engine.growing import enlarge, join, landing, leave, trim
from harness.engine.growing_layers import layer_class
from harness.engine.rows import compact
from harness.model.attention import _attend, show_in

HEADS, WIDTH = 2, 3


def _layer(rows: list[int], columns: int, start: int = 0) -> Any:
    """A plain layer whose numbers say the row and the column."""
    layer = DynamicLayer()
    x = _states(rows, columns, start)
    layer.update(x, -x)
    return layer


def _states(rows: list[int], columns: int, start: int) -> Tensor:
    number = torch.tensor(rows)[:, None] * 1000.0 + torch.arange(start, start + columns)
    return number[:, None, :, None] + torch.zeros(len(rows), HEADS, columns, WIDTH) + torch.arange(WIDTH) / 10


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.sampled_from(["token", "leave", "join", "land", "trim"]), st.integers(0, 30), st.integers(1, 9)), max_size=40),
    st.integers(1, 5),
    st.integers(1, 8),
    st.integers(0, 40),
)
def test_it_holds_what_concatenation_would(steps: list[tuple[str, int, int]], rows: int, columns: int, room: int) -> None:
    names = list(range(rows))
    cache = SimpleNamespace(layers=[_layer(names, columns)])
    expected = cache.layers[0].keys.clone()
    own = [columns] * rows  # of each row, the columns on the right that are its own
    enlarge(cache, rows, room)
    layer, fresh = cache.layers[0], rows
    for kind, number, size in steps:
        width = expected.shape[2]
        if kind == "token":
            new = _states(names, 1, 100 + number)
            expected = torch.cat([expected, new], dim=2)
            shown = layer.update(new, -new)
            own = [n + 1 for n in own]
            torch.testing.assert_close(shown[0][-1, :, -own[-1] :], expected[-1, :, -own[-1] :])
        elif kind == "leave" and len(names) > 1:
            order = compact([place for place in range(len(names)) if place != number % len(names)])
            names, own, expected = [names[i] for i in order], [own[i] for i in order], expected[torch.tensor(order)]
            leave(cache, order, torch.tensor(order))
        elif kind in ("join", "land"):
            coming = list(range(fresh, fresh + 1 + number % 3))
            other = SimpleNamespace(layers=[_layer(coming, size, 500)])
            if kind == "land":  # their first tokens end all of them but those that stay
                stay = torch.tensor([place for place in range(len(coming)) if place != number % 2 or len(coming) == 1])
                keys, other = other.layers[0].keys, landing(cache)
                returned = other.layers[0].update(keys, -keys)
                assert returned[0] is keys
                assert other.layers[0].get_seq_length() == size
                other.layers[0].batch_select_indices(stay)
                torch.testing.assert_close(other.layers[0].keys, keys[stay])
                coming = [coming[place] for place in stay.tolist()]
            longest = max(width, size)
            join(cache, other, width, size)
            parts = [torch.nn.functional.pad(x, (0, 0, longest - x.shape[2], 0)) for x in (expected, other.layers[0].keys)]
            expected, names, own, fresh = torch.cat(parts), [*names, *coming], [*own, *[size] * len(coming)], fresh + 3
        elif kind == "trim" and width > max(own):
            trim(cache, width - max(own), width)
            expected = expected[:, :, width - max(own) :]
        assert layer.keys.shape == layer.values.shape == expected.shape
        assert layer.get_seq_length() == expected.shape[2]
        assert bool(layer.keys.isfinite().all()), "the weight 0 of a NaN is a NaN"
        for row, n in enumerate(own):
            torch.testing.assert_close(layer.keys[row, :, -n:], expected[row, :, -n:])
            torch.testing.assert_close(layer.values[row, :, -n:], -expected[row, :, -n:])


def test_tokens_are_written_without_copying_what_is_there() -> None:
    cache = SimpleNamespace(layers=[_layer([0, 1], 5)])
    enlarge(cache, 2, 30)
    layer = cache.layers[0]
    assert isinstance(layer, layer_class())
    place = layer.keys.data_ptr()
    for step in range(25):
        layer.update(_states([0, 1], 1, step), _states([0, 1], 1, step))
    assert layer.keys.data_ptr() == place
    assert layer.keys.shape[2] == 30
    assert len(layer._buffers[0][0, 0]) == 30, "room for the longest text and no more"


def test_attention_reads_the_room_around_keys_and_leaves_it_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """In bfloat16, whatever lies in the columns around: nothing is copied, and what comes out is what the columns alone give."""
    draws = torch.Generator().manual_seed(0)
    whole, query = (torch.randn(shape, generator=draws).bfloat16() for shape in ((2, 3, HEADS, 40, 8), (3, 2 * HEADS, 1, 8)))
    copies: list[int] = []
    contiguous = Tensor.contiguous
    monkeypatch.setattr(Tensor, "contiguous", lambda self: copies.append(self.shape[2]) or contiguous(self))  # type: ignore[func-returns-value]
    for start, end in ((0, 40), (0, 31), (9, 40), (5, 6)):
        key, value = (show_in(x, start, end) for x in whole)
        for mask in (None, torch.rand(3, 1, 1, end - start, generator=draws) < 0.7):
            if mask is not None:
                mask[..., -1] = True
            found, _ = _attend(torch.nn.Module(), query, key, value, mask)
            assert not copies
            alone, _ = _attend(torch.nn.Module(), query, key.clone(), value.clone(), mask)
            exact = torch.nn.functional.scaled_dot_product_attention(
                query.double(), *(x[:, :, start:end].double().repeat_interleave(2, dim=1) for x in whole), attn_mask=mask
            ).transpose(1, 2)
            torch.testing.assert_close(found, alone, rtol=0.02, atol=0.02)
            torch.testing.assert_close(found.double(), exact, rtol=0.02, atol=0.02)
            copies.clear()
    key, value = (show_in(torch.nn.functional.pad(x, (0, 0, 0, 100)), 0, 40) for x in whole)
    torch.testing.assert_close(_attend(torch.nn.Module(), query, key, value, None)[0], _attend(torch.nn.Module(), query, *whole, None)[0])
    assert copies, "too much around"


def test_a_layer_that_is_not_known_does_not_join() -> None:
    strange = SimpleNamespace(state=torch.ones(2, 3))
    with pytest.raises(ValueError, match="SimpleNamespace"):
        join(SimpleNamespace(layers=[strange]), SimpleNamespace(layers=[strange]), 1, 1)


def test_prompts_that_go_to_a_batch_are_read_in_one_pass() -> None:
    cache = SimpleNamespace(layers=[_layer([0], 4), _layer([0], 4)])
    assert landing(cache) is None, "layers that do not grow take no rows in before they are asked to"
    enlarge(cache, 2, 8)
    coming = landing(cache)
    coming.layers[0].update(_states([1], 2, 0), _states([1], 2, 0))
    with pytest.raises(ValueError, match="one pass"):
        coming.layers[0].update(_states([1], 2, 0), _states([1], 2, 0))
