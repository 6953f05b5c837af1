"""What prompts have in common is read once up to the first edit: the same texts as each row alone, for every kind of model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from helpers.families import FAMILIES, family
from helpers.models import ARCHITECTURES, byte_tokenizer, random_hf
from hypothesis import given
from hypothesis import strategies as st

from harness.engine.base import GenerationRequest
from harness.engine.plan import can_share, plan_for
from harness.engine.shared import Sharing, Tree, last_common_layer
from harness.engine.torch_loop import TorchEngine
from harness.errors import EngineError
from harness.interventions import Edit, Site, Stream
from harness.model.loading import SubjectModel
from harness.model.memory import TokenBudget
from harness.steering.add_vector import AddVector
from harness.types import Decoding

PROMPTS = ([5, 9, 11, 30, 31, 32, 7], [5, 9, 12])
DECODING = Decoding(max_new_tokens=5, min_new_tokens=5, temperature=0.0)


def model_of(name: str) -> SubjectModel:
    return family(name) if name in FAMILIES else SubjectModel(random_hf(name), byte_tokenizer(), name=name)


def requests(model: SubjectModel, layer: int, stream: Stream = "residual") -> list[GenerationRequest]:
    """Nine rows of two prompts that begin alike, each with another vector; the last of each prompt without an edit."""
    draw = np.random.Generator(np.random.PCG64(3))
    vectors = torch.from_numpy(draw.standard_normal((9, model.d_model))).float()
    edits: list[tuple[Edit, ...]] = [(AddVector(Site(layer, stream), 2 * vector),) for vector in vectors]
    return [GenerationRequest(str(i), PROMPTS[i % 2], 0, () if i > 6 else edits[i]) for i in range(9)]


def texts(engine: TorchEngine, asked: list[GenerationRequest]) -> dict[str, tuple[int, ...]]:
    return {text.id: text.token_ids for text in engine.run(asked, DECODING)}


@pytest.mark.parametrize("name", [*ARCHITECTURES, "lfm2", "mamba", "phi3", "llama4", "deepseek_v3", "alibi"])
def test_rows_of_one_prompt_get_the_texts_that_each_has_alone(name: str) -> None:
    model = model_of(name)
    engine = TorchEngine(model)
    for layer in (0, model.n_layers - 1):
        asked = requests(model, layer)
        assert texts(engine, asked) == {key: value for one in asked for key, value in texts(engine, [one]).items()}


def test_attention_that_is_not_told_by_a_mask_alone_is_not_read_so() -> None:
    """MPT hands each layer biases of its heads, by columns."""
    model = model_of("mpt")
    plan_for(model)
    assert not can_share(model, 0)
    heads = model.hf.config.n_heads
    draw = np.random.Generator(np.random.PCG64(4))
    edits = [AddVector(Site(1), torch.from_numpy(draw.standard_normal(model.d_model)).float()) for _ in range(3)]
    asked = [GenerationRequest(f"{i} {k}", [5 + i, 9, 11, 30, 31 + i], 0, (edit,)) for i in range(heads) for k, edit in enumerate(edits)]
    engine = TorchEngine(model)
    assert texts(engine, asked) == {key: value for one in asked for key, value in texts(engine, [one]).items()}


@pytest.mark.parametrize("stream", ["attention", "mlp"])
def test_edits_within_a_layer(stream: Stream) -> None:
    model = model_of("llama")
    for layer in (0, 1):
        asked = requests(model, layer, stream)
        assert texts(TorchEngine(model), asked) == {key: value for one in asked for key, value in texts(TorchEngine(model), [one]).items()}


def test_layers_up_to_the_edit_read_what_is_common_once() -> None:
    model = model_of("llama")
    read: dict[int, list[int]] = {layer: [] for layer in range(model.n_layers)}

    def watch(layer: int) -> Any:
        mlp = model.layers[layer].mlp
        assert isinstance(mlp, torch.nn.Module)
        return mlp.register_forward_pre_hook(lambda module, arguments: read[layer].append(arguments[0].shape[:2].numel()))

    assert all(can_share(model, layer) for layer in read)
    handles = [watch(layer) for layer in read]
    try:
        texts(TorchEngine(model), requests(model, 1))
    finally:
        for handle in handles:
            handle.remove()
    beginnings = len({tuple(prompt[:n]) for prompt in PROMPTS for n in range(1, len(prompt) + 1)})
    rows, width, steps = 9, max(map(len, PROMPTS)), DECODING.max_new_tokens - 1
    for layer, tokens in read.items():
        assert tokens[-1 - steps :] == [beginnings if layer <= 1 else rows * width, *[rows] * steps]


@pytest.mark.parametrize("name", ["mistral", "gemma2"])
def test_prompts_longer_than_a_window_are_read_apart(name: str) -> None:
    """In a tree the tokens that stand before one are not those that a window reaches back to."""
    model = model_of(name)
    window = model.hf.config.sliding_window
    assert window
    long = [list(range(5, 5 + window)) + [40 + i] * 3 for i in range(3)]
    asked = [GenerationRequest(f"{i} {k}", prompt, 0) for i, prompt in enumerate(long) for k in range(3)]
    assert texts(TorchEngine(model), asked) == {key: value for one in asked for key, value in texts(TorchEngine(model), [one]).items()}
    sharing = Sharing(model, 0, lambda: True, None, 1024)
    assert sharing.read(asked) is None
    assert sharing.read([GenerationRequest(str(i), prompt[-window // 2 :], 0) for i, prompt in enumerate(2 * long)]) is not None


def test_the_last_common_layer() -> None:
    model = model_of("llama")
    assert last_common_layer(model, []) == model.n_layers - 1
    assert last_common_layer(model, [Site(2), Site(1)]) == 1
    assert last_common_layer(model, [Site(0, "mlp"), Site(2)]) == -1


prompts_drawn = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=6), min_size=1, max_size=6)


@given(prompts_drawn)
def test_a_tree_has_each_beginning_once(prompts: list[list[int]]) -> None:
    tree = Tree(prompts)
    beginnings = {tuple(prompt[:n]) for prompt in prompts for n in range(1, len(prompt) + 1)}
    assert len(tree) == len(beginnings)
    seen = tree.seen()
    for prompt in prompts:
        path = tree.add(prompt)
        assert [tree.tokens[node] for node in path] == prompt
        assert [tree.depths[node] for node in path] == list(range(len(prompt)))
        for n, node in enumerate(path):
            assert seen[node].nonzero()[0].tolist() == sorted(path[: n + 1])
    assert len(tree) == len(beginnings)


@given(prompts_drawn, st.integers(6, 20))
def test_parts_are_all_requests_and_fit(prompts: list[list[int]], most: int) -> None:
    asked = [GenerationRequest(str(place), prompt, 0) for place, prompt in enumerate(prompts)]
    parts = Sharing(mock.Mock(), 0, lambda: True, None, most).parts(asked)
    assert sorted(request.id for part in parts for request in part) == sorted(request.id for request in asked)
    assert len(parts) == 1 or all(len(Tree([request.prompt_ids for request in part])) <= most for part in parts)
    assert Sharing(mock.Mock(), -1, lambda: True, None, most).parts(asked) == [asked]


@pytest.mark.parametrize("edited", [True, False])
def test_more_beginnings_than_a_pass_reads(edited: bool) -> None:
    """Prompts of several beginnings of their own; each part of them has a tree."""
    model = model_of("llama")
    prompts = [[5 + a, 9, 11, 30 + a, 31, 12, 40 + b, *[13] * (b % 3)] for b in range(4) for a in range(4)]
    asked = requests(model, 1)[0].edits if edited else ()
    wanted = [GenerationRequest(str(i), prompt, 0, asked) for i, prompt in enumerate(prompts)]
    read: list[int] = []
    watch = model.layers[0].mlp.register_forward_pre_hook(lambda module, given: read.append(given[0].shape[:2].numel()))  # type: ignore[union-attr,operator]
    alone = {key: value for one in wanted for key, value in texts(TorchEngine(model), [one]).items()}
    read.clear()
    with mock.patch.object(TokenBudget, "usual", classmethod(lambda cls, device: cls(13))):
        assert can_share(model, 1)
        read.clear()
        assert texts(TorchEngine(model), wanted) == alone
    watch.remove()
    trees = read[: -(DECODING.max_new_tokens - 1)]
    assert trees == [13] * 4


def test_layers_are_what_they_were_after_an_error() -> None:
    model = model_of("llama")
    engine, asked = TorchEngine(model), requests(model, 1)
    broken = [replace(request, edits=(AddVector(Site(1), torch.full((model.d_model,), float("nan"))),)) for request in asked]
    with pytest.raises(EngineError, match="not finite"):
        texts(engine, broken)
    assert not any("forward" in vars(module) for module in model.hf.modules())
    moved = model.layers[0].forward  # as accelerate does, which moves what a layer is given
    calls: list[int] = []

    def own(*arguments: Any, **named: Any) -> Any:
        calls.append(1)
        return moved(*arguments, **named)

    model.layers[0].forward = own
    assert texts(engine, asked)
    assert calls
    assert model.layers[0].forward is own
    del model.layers[0].forward


def test_prompts_are_told_apart_by_their_tokens_not_by_padding() -> None:
    model = model_of("llama")
    pad = model.pad_id
    asked = [GenerationRequest(str(i), prompt, 0) for i, prompt in enumerate([[pad, 5, 6], [5, 6], [pad, 5, 6], [5, 6], [5, 6]])]
    assert Sharing(model, 0, lambda: True, None, 1024).read(asked) is not None
    assert texts(TorchEngine(model), asked) == {key: value for one in asked for key, value in texts(TorchEngine(model), [one]).items()}
    few = [GenerationRequest(str(i), prompt, 0) for i, prompt in enumerate([[5, 6], [7, 8], [9, 10]])]
    assert Sharing(model, 0, lambda: True, None, 1024).read(few) is None
