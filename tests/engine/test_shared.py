"""Prompts that a batch holds several times are read once up to the first edit: the same texts as each row alone, for every kind of model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from helpers.families import FAMILIES, family
from helpers.models import ARCHITECTURES, byte_tokenizer, random_hf

from harness.engine.base import GenerationRequest
from harness.engine.plan import can_share, plan_for
from harness.engine.rows import Rows
from harness.engine.shared import last_common_layer, prompts_of
from harness.engine.torch_loop import TorchEngine
from harness.interventions import Edit, Site, Stream
from harness.model.loading import SubjectModel
from harness.steering.add_vector import AddVector
from harness.types import Decoding

PROMPTS = ([5, 9, 11, 30, 31, 32, 7], [5, 9, 12])
DECODING = Decoding(max_new_tokens=5, min_new_tokens=5, temperature=0.0)


def model_of(name: str) -> SubjectModel:
    return family(name) if name in FAMILIES else SubjectModel(random_hf(name), byte_tokenizer(), name=name)


def requests(model: SubjectModel, layer: int, stream: Stream = "residual") -> list[GenerationRequest]:
    """Nine rows of two prompts, each with another vector; the last of each prompt without an edit."""
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


def test_as_many_prompts_as_heads() -> None:
    """MPT hands each layer biases of its heads, which come first as prompts do."""
    model = model_of("mpt")
    heads = model.hf.config.n_heads
    draw = np.random.Generator(np.random.PCG64(4))
    edits = [AddVector(Site(1), torch.from_numpy(draw.standard_normal(model.d_model)).float()) for _ in range(3)]
    asked = [GenerationRequest(f"{i} {k}", [5 + i, 9, 11, 30, 31 + i], 0, (edit,)) for i in range(heads) for k, edit in enumerate(edits)]
    engine = TorchEngine(model)
    assert texts(engine, asked) == {key: value for one in asked for key, value in texts(engine, [one]).items()}
    assert not can_share(model)
    llama = model_of("llama")
    plan_for(llama)
    assert can_share(llama)


@pytest.mark.parametrize("stream", ["attention", "mlp"])
def test_edits_within_a_layer(stream: Stream) -> None:
    model = model_of("llama")
    for layer in (0, 1):
        asked = requests(model, layer, stream)
        assert texts(TorchEngine(model), asked) == {key: value for one in asked for key, value in texts(TorchEngine(model), [one]).items()}


def test_layers_below_the_edit_read_each_prompt_once() -> None:
    model = model_of("llama")
    plan_for(model)
    assert can_share(model)
    read: dict[int, list[int]] = {layer: [] for layer in range(model.n_layers)}

    def watch(layer: int) -> Any:
        return model.layers[layer].register_forward_pre_hook(lambda module, arguments: read[layer].append(len(arguments[0])))

    handles = [watch(layer) for layer in read]
    try:
        texts(TorchEngine(model), requests(model, 1))
    finally:
        for handle in handles:
            handle.remove()
    assert {layer: rows[-DECODING.max_new_tokens :] for layer, rows in read.items()} == {
        layer: [2 if layer <= 1 else 9, *[9] * (DECODING.max_new_tokens - 1)] for layer in read
    }


def test_the_last_common_layer() -> None:
    model = model_of("llama")
    assert last_common_layer(model, []) == model.n_layers - 1
    assert last_common_layer(model, [Site(2), Site(1)]) == 1
    assert last_common_layer(model, [Site(0, "mlp"), Site(2)]) == -1


def test_prompts_are_told_apart_by_their_tokens_not_by_padding() -> None:
    model = model_of("llama")
    pad = model.pad_id
    rows = Rows(model, [[pad, 5, 6], [5, 6], [pad, 5, 6], [5, 6], [5, 6]], plan_for(model))
    found = prompts_of(rows)
    assert found is not None
    assert found[0].tolist() == [0, 1]
    assert found[1].tolist() == [0, 1, 0, 1, 1]
    assert prompts_of(Rows(model, [[5, 6], [7, 8], [9, 10], [5, 6]], plan_for(model))) is not None
    assert prompts_of(Rows(model, [[5, 6], [7, 8], [9, 10]], plan_for(model))) is None
