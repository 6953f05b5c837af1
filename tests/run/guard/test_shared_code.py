"""Code that all share and a plugin replaces: one error, and it is put back."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.guarded import plugin

from harness.run.bench import TaskBench
from harness.run.guard import ChangedModelError


def doubled(owner: Any, name: str) -> None:
    before = getattr(owner, name)
    setattr(owner, name, lambda *arguments, **named: before(*arguments, **named) * 2)


SHARED: dict[str, Callable[[Any], tuple[Any, str]]] = {
    "a function of torch": lambda b: (torch.nn.functional, "linear"),
    "a method of tensors": lambda b: (torch.Tensor, "matmul"),
    "a function of numpy": lambda b: (np, "mean"),
    "the call of a layer": lambda b: (torch.nn.Linear, "__call__"),
    "the call of all modules": lambda b: (torch.nn.Module, "_call_impl"),
    "forward of a class": lambda b: (type(b.model.layers[0].mlp), "forward"),
    "a function of the model's own module": lambda b: (sys.modules[type(b.model.hf).__module__], "apply_rotary_pos_emb"),
    "encode of the dictionary's class": lambda b: (type(b.dictionaries["sae"].sae), "encode"),
    "encode of ours": lambda b: (type(b.dictionaries["sae"]), "encode"),
    "encode of our own dictionary": lambda b: (b.dictionaries["sae"], "encode"),
    "call of the tokenizer's class": lambda b: (type(b.model.tokenizer), "__call__"),
}


@pytest.mark.parametrize("name", SHARED)
def test_code_that_is_replaced_is_one_error_and_put_back(name: str, bench: TaskBench) -> None:
    assert bench.dictionaries
    owner, function = SHARED[name](bench)
    had, before = function in vars(owner), getattr(owner, function)
    with pytest.raises(ChangedModelError) as error:
        plugin("labeler", label=lambda b, concepts: (doubled(owner, function), [])[1]).label(bench, [])
    assert getattr(owner, function) == before
    assert (function in vars(owner)) == had
    assert error.value.message.startswith("labeler 'mine' of their-dist has changed code that all share in label: " + function)


def test_a_library_may_replace_its_own_functions(bench: TaskBench) -> None:
    assert bench.model
    code, before = textwrap.dedent('''
        def manual_seed(seed):
            return before(seed)
    '''), torch.manual_seed
    names: dict[str, Any] = {"before": before}
    exec(compile(code, str(Path(torch.__file__).parent / "_dynamo" / "any.py"), "exec"), names)
    try:
        plugin("labeler", label=lambda b, concepts: (setattr(torch, "manual_seed", names["manual_seed"]), [])[1]).label(bench, [])
    finally:
        torch.manual_seed = before  # type: ignore[assignment]
