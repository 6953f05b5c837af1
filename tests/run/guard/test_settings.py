"""Settings of process and model: put back silently, and the core computes under its own."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.guarded import first, plugin

from harness.errors import PluginError
from harness.run.bench import TaskBench
from harness.testing import toy_bench


def settings(b: Any) -> None:
    """Changes everything that is put back without a word."""
    torch.set_default_dtype(torch.float64)
    torch.set_grad_enabled(False)
    torch.set_num_threads(torch.get_num_threads() + 1)
    torch.manual_seed(123)
    np.random.seed(123)
    np.seterr(all="raise")
    random.seed(123)
    b.model.hf.train()
    b.model.hf.config.use_cache = False
    b.model.layers[0].self_attn.scaling = 0.0
    b.model.tokenizer.padding_side = "nowhere"
    b.model.tokenizer.backend_tokenizer.enable_truncation(4)
    b.model.tokenizer.backend_tokenizer.enable_padding(length=9)
    b.model.tokenizer._special_tokens_map["eos_token"] = "x"
    first(b).requires_grad_(True)
    first(b).grad = torch.ones_like(first(b))


def test_settings_are_put_back_silently(bench: TaskBench) -> None:
    model = bench.model

    def state() -> list[Any]:
        attention = model.layers[0].self_attn
        return [
            torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_num_threads(), torch.get_rng_state().tolist(), random.getstate(),
            np.random.get_state()[1].tolist(), np.geterr(), model.hf.training, model.hf.config.use_cache, attention.scaling,  # type: ignore[index]
            model.tokenizer.padding_side, model.tokenizer.backend_tokenizer.truncation, model.tokenizer.backend_tokenizer.padding,
            str(model.tokenizer.eos_token), first(bench).grad, first(bench).requires_grad,
        ]  # fmt: skip

    before = state()
    plugin("steerer", prepare=lambda b, labelings: settings(b)).prepare(bench, [])
    assert state() == before
    with pytest.raises(PluginError):
        plugin("steerer", prepare=lambda b, labelings: (settings(b), 1 / 0)).prepare(bench, [])
    assert state() == before


def test_the_core_measures_under_its_own_settings(bench: TaskBench, folder: Path) -> None:
    def label(b: Any, concepts: Any) -> Any:
        torch.set_default_dtype(torch.float64)
        b.model.hf.config.use_cache = False
        b.model.layers[0].self_attn.scaling = 0.0
        found = b.statistics()
        assert torch.get_default_dtype() == torch.float64
        assert b.model.layers[0].self_attn.scaling == 0.0
        return [np.asarray(found.document_means)]

    found = plugin("labeler", label=label).label(bench, [])
    assert np.array_equal(found[0], np.asarray(toy_bench(folder).statistics().document_means))


def test_a_judge_that_rates_one_by_one_keeps_its_own_draws(bench: TaskBench) -> None:
    def submit(items: Any) -> Any:
        random.seed(7)
        for _ in items:
            yield random.random()

    judge = plugin("judge", prepare=lambda b: None, submit=submit)
    judge.prepare(bench)
    found = []
    for number in judge.submit(range(4)):
        found.append(number)
        random.random()
    other = random.Random(7)
    assert found == [other.random() for _ in range(4)]
