"""The frozen model in training: the same log-probabilities as of whole passes, with fewer layers and fewer logits, in every architecture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from helpers.families import FAMILIES, family
from helpers.models import ARCHITECTURES, byte_tokenizer, random_hf

from harness.errors import DataError
from harness.fitting.frozen import FrozenModel
from harness.fitting.training_set import TrainingText
from harness.model.loading import SubjectModel, hidden_of, with_hidden
from harness.model.memory import TokenBudget

WHOLE = ("bloom", "mpt")
"""Architectures whose layers hand on more than their stream: they are read as a whole."""


def texts(lengths: tuple[int, ...] = (9, 30, 17, 25)) -> list[TrainingText]:
    draw = np.random.default_rng(0)
    return [TrainingText(np.array([1, *draw.integers(5, 200, length)]), 4) for length in lengths]


@contextmanager
def added(model: SubjectModel, layer: int, vector: torch.Tensor) -> Iterator[None]:
    handle = model.layers[layer].register_forward_hook(lambda module, arguments, output: with_hidden(output, hidden_of(output) + vector))
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def counted_calls(model: SubjectModel) -> Iterator[dict[str, int]]:
    """Number of tokens that each layer's attention and MLP (whatever is in it) and the unembedding read."""
    seen: dict[str, int] = {}

    def note(name: str) -> Any:
        def hook(module: Any, arguments: Any, output: Any) -> None:
            seen[name] = seen.get(name, 0) + int(np.prod(output.shape[:-1]))

        return hook

    modules: Mapping[str, Any] = {f"layer {i}": layer.mlp for i, layer in enumerate(model.layers)} | {"unembedding": model.unembedding}
    handles = [module.register_forward_hook(note(name)) for name, module in modules.items()]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


@pytest.mark.parametrize("name", [*ARCHITECTURES, "lfm2", "jamba", "mamba", "rwkv", "gpt_oss", "alibi"])
def test_answers_have_the_log_probabilities_of_whole_passes(name: str) -> None:
    model = family(name) if name in FAMILIES else SubjectModel(random_hf(name), byte_tokenizer(), name=name)
    vector = torch.from_numpy(np.random.default_rng(1).standard_normal(model.d_model)).float()
    for after in (0, model.n_layers - 1):
        frozen = FrozenModel(model, texts(), after, 1)
        frozen.read(range(4), TokenBudget(64))
        assert frozen.picks
        assert frozen.begins_above == (name not in WHOLE)
        batch = frozen.batch_of([2, 0, 3, 1])
        with torch.no_grad(), added(model, after, vector):
            found = frozen.answers(batch)
            logits = model.hf(input_ids=batch.tokens, attention_mask=batch.real.long(), use_cache=False).logits.log_softmax(dim=-1)
        for row, number in enumerate([2, 0, 3, 1]):
            ids = torch.from_numpy(texts()[number].ids)
            expected = logits[row, torch.arange(3, len(ids) - 1), ids[4:]].sum()
            torch.testing.assert_close(found[row], expected, rtol=1e-5, atol=1e-4)


def test_layers_below_do_not_run_again_and_logits_are_those_of_answers(tiny_model: SubjectModel) -> None:
    frozen = FrozenModel(tiny_model, texts(), 2, 1)
    frozen.read([0, 1, 3], TokenBudget(1024))
    with counted_calls(tiny_model) as seen, torch.no_grad():
        frozen.answers(frozen.batch_of([0, 1, 3]))
    answers = sum(len(texts()[number].ids) - 4 for number in (0, 1, 3))
    assert seen == {"layer 3": 3 * 31, "layer 4": 3 * 31, "unembedding": answers}
    frozen.forget()
    with counted_calls(tiny_model) as seen, torch.no_grad():
        frozen.answers(frozen.batch_of([0, 1, 3]))
    assert set(seen) == {*(f"layer {i}" for i in range(5)), "unembedding"}


def test_a_model_that_resists_is_read_as_a_whole(tiny_model: SubjectModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its layers look at what the layers below have seen, so it gives other logits when these do not run."""
    forward, below = tiny_model.layers[3].forward, tiny_model.layers[0].self_attn
    calls = {"n": 0}
    below.register_forward_hook(count := lambda *arguments: calls.update(n=calls["n"] + 1))
    last = {"n": -1}

    def odd(*arguments: Any, **named: Any) -> Any:
        found = forward(*arguments, **named)
        stale, last["n"] = calls["n"] == last["n"], calls["n"]
        return 2 * found if stale else found

    monkeypatch.setattr(tiny_model.layers[3], "forward", odd)
    try:
        assert not FrozenModel(tiny_model, texts(), 2, 1).begins_above
    finally:
        for key, hook in list(below._forward_hooks.items()):
            if hook is count:
                del below._forward_hooks[key]


def test_the_model_is_left_as_it_was(tiny_model: SubjectModel) -> None:
    before = [dict(vars(layer)) for layer in tiny_model.layers]
    frozen = FrozenModel(tiny_model, texts(), 3, 1)
    frozen.read(range(4), TokenBudget(1024))

    def break_off(*arguments: Any) -> None:
        raise RuntimeError("broken off")

    handle = tiny_model.layers[4].register_forward_pre_hook(break_off)
    with pytest.raises(RuntimeError, match="broken off"):
        frozen.answers(frozen.batch_of([0]))
    handle.remove()
    assert [set(vars(layer)) for layer in tiny_model.layers] == [set(one) for one in before]
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in tiny_model.hf.modules())


def test_reference_is_by_the_frozen_model(tiny_model: SubjectModel) -> None:
    frozen = FrozenModel(tiny_model, texts(), 2, 1)
    found = frozen.reference([1, 3], TokenBudget(40))
    assert found.isnan().tolist() == [True, False, True, False]
    for number in (1, 3):
        logits = tiny_model.hf(input_ids=torch.from_numpy(texts()[number].ids)[None]).logits[0].log_softmax(dim=-1)
        ids = texts()[number].ids[4:]
        torch.testing.assert_close(found[number], logits[torch.arange(3, 3 + len(ids)), torch.from_numpy(ids)].sum(), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("start", [0, 5, 6])
def test_a_text_without_an_answer_is_refused(start: int) -> None:
    with pytest.raises(DataError) as error:
        TrainingText(np.arange(5), start)
    assert error.value.given == start
