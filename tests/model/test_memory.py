"""Halving: every item is done once and in order, whatever fits; what failed leaves nothing behind; other errors pass."""

from __future__ import annotations

import gc
import itertools
import weakref

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import ModelError
from harness.model.memory import Budget, TokenBudget, attempt, halving, is_out_of_memory

CPU = torch.device("cpu")
ERRORS = [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: can't allocate memory")]


def alone(item: int) -> ModelError:
    return ModelError(f"item {item} does not fit")


@given(n=st.integers(0, 60), size=st.integers(1, 70), fits=st.integers(1, 70), widths=st.lists(st.integers(1, 9), min_size=60, max_size=60))
def test_every_item_is_done_once_and_in_order(n: int, size: int, fits: int, widths: list[int]) -> None:
    widths.sort(reverse=True)  # as callers do: the first item of a step is its widest
    tried: list[slice] = []

    def work(part: slice) -> list[int]:
        tried.append(part)
        count = part.stop - part.start
        if count > 1 and count * widths[part.start] > fits:
            raise ERRORS[len(tried) % 2]
        return list(range(part.start, part.stop))

    budget = Budget(size)
    done = list(halving(n, budget, work, device=CPU, alone=alone, width=lambda item: widths[item]))
    assert [item for _, items in done for item in items] == list(range(n))
    for part, items in done:
        assert items == list(range(part.start, part.stop))
        assert len(items) == 1 or len(items) * widths[part.start] <= min(size, fits)
    assert budget.size <= size
    for before, after in itertools.pairwise(tried):
        if after.start == before.start:  # the same items again: half of them
            assert after.stop - after.start == (before.stop - before.start) // 2


def test_one_budget_serves_several_calls() -> None:
    sizes: list[int] = []

    def work(part: slice) -> None:
        sizes.append(part.stop - part.start)
        if sizes[-1] > 3:
            raise ERRORS[0]

    budget = Budget(12)
    for _ in range(2):
        list(halving(12, budget, work, device=CPU, alone=alone))
    assert sizes == [12, 6, 3, 3, 3, 3, 3, 3, 3, 3]


def test_a_single_item_that_does_not_fit_is_the_callers_error() -> None:
    def work(part: slice) -> int:
        if part.stop > 2:
            raise ERRORS[1]
        return part.start

    steps = halving(5, Budget(2), work, device=CPU, alone=alone)
    assert next(steps) == (slice(0, 2), 0)
    with pytest.raises(ModelError) as error:
        next(steps)
    assert "item 2" in str(error.value)


def test_other_errors_pass() -> None:
    def work() -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        attempt(work, CPU)
    assert not is_out_of_memory(RuntimeError("mat1 and mat2"))
    assert all(map(is_out_of_memory, ERRORS))


def test_nothing_of_a_failed_attempt_is_kept() -> None:
    kept: list[weakref.ref[torch.Tensor]] = []

    def work() -> None:
        big = torch.zeros(3)
        kept.append(weakref.ref(big))
        raise torch.OutOfMemoryError("out of memory")

    gc.disable()
    try:
        assert attempt(work, CPU) is None
        assert kept[0]() is None
    finally:
        gc.enable()
    assert attempt(lambda: None, CPU) == (None,)


def test_the_usual_budget_depends_on_the_device() -> None:
    assert TokenBudget.usual(CPU).size < TokenBudget.usual(torch.device("cuda")).size
