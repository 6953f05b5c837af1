"""Requests with adapters beside plain ones: each text is that of its request alone, and the model is as it was between two texts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers.edits import vector
from helpers.generation import generate

from harness.engine.base import GenerationRequest
from harness.engine.reference import ReferenceEngine
from harness.errors import EngineError
from harness.interventions import Edit, Positions, Site
from harness.model.loading import SubjectModel
from harness.steering.add_vector import AddVector
from harness.types import Decoding

GREEDY = Decoding(max_new_tokens=12, temperature=0.0)
SAMPLED = Decoding(max_new_tokens=12, temperature=0.9, top_p=0.9, repetition_penalty=1.1)


@pytest.mark.parametrize(
    ("name", "targets"), [("llama", ["q_proj", "down_proj"]), ("opt", ["fc2", "out_proj"]), ("bloom", ["dense", "dense_4h_to_h"])]
)
@pytest.mark.parametrize("decoding", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_rows_with_and_without_adapters_are_those_alone(
    make_model: Callable[[str], SubjectModel], lora: Callable[..., Path], name: str, targets: list[str], decoding: Decoding
) -> None:
    """Edits at the streams that the adapter's own modules give (OPT's MLP is its last projection), beside edits elsewhere and none."""
    model = make_model(name)
    one, two = (str(lora(model, targets, seed)) for seed in (1, 2))
    programs: list[tuple[str | None, tuple[Edit, ...]]] = [
        (one, ()),
        (None, ()),
        (two, (AddVector(Site(1, "mlp"), vector(model, "v"), Positions(prompt=False, last=2)),)),
        (None, (AddVector(Site(1, "mlp"), vector(model, "v")),)),
        (one, (AddVector(Site(2, "attention"), vector(model, "w")),)),
        (two, ()),
        (one, ()),
    ]
    requests = [
        GenerationRequest(str(i), [1, *range(20 + 3 * i, 19 + 3 * i + n)], 0, edits, adapter)
        for i, (n, (adapter, edits)) in enumerate(zip([4, 7, 2, 5, 9, 3, 1], programs, strict=True))
    ]
    together = {text.id: text for text in generate(model, requests, decoding)}
    assert together == {request.id: next(generate(model, [request], decoding)) for request in requests}
    assert together == {text.id: text for text in generate(model, requests[::-1], decoding, batch_size=2, use_cache=False)}
    reference = ReferenceEngine(model)
    assert together == {text.id: text for text in reference.run(requests, decoding)}
    bare = {text.id: text for text in generate(model, [GenerationRequest(r.id, r.prompt_ids, 0, r.edits) for r in requests], decoding)}
    assert {name for name in bare if bare[name] == together[name]} == {"1", "3"}, "the adapters must do something"


def test_between_two_texts_the_model_wears_nothing(tiny_model: SubjectModel, lora: Callable[..., Path]) -> None:
    folder = str(lora(tiny_model, ["q_proj", "v_proj"]))
    ids = torch.tensor([[1, 30, 31]])
    modules = [id(module) for module in tiny_model.hf.modules()]
    with torch.no_grad():
        plain = tiny_model.hf(ids).logits
    requests = [GenerationRequest(str(i), tiny_model.encode(text), 0, (), folder) for i, text in enumerate(("One day", "The", "Tom and"))]
    seen = 0
    for _ in generate(tiny_model, requests, GREEDY, batch_size=1):
        seen += 1
        assert [id(module) for module in tiny_model.hf.modules()] == modules
        with torch.no_grad():
            assert torch.equal(tiny_model.hf(ids).logits, plain)
    assert seen == 3
    given_up = generate(tiny_model, requests, GREEDY, batch_size=1)
    next(given_up)
    del given_up
    assert [id(module) for module in tiny_model.hf.modules()] == modules


def test_memory_that_runs_out_takes_the_adapter_off(tiny_model: SubjectModel, lora: Callable[..., Path]) -> None:
    folder = str(lora(tiny_model, ["q_proj", "v_proj"]))
    requests = [GenerationRequest(str(i), tiny_model.encode("One day"), 0, (), folder) for i in range(6)]
    expected = {text.id: text for text in generate(tiny_model, requests, SAMPLED)}
    modules = [id(module) for module in tiny_model.hf.modules()]

    def limited(module: object, arguments: object, options: dict[str, torch.Tensor]) -> None:
        if len(options["input_ids"]) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")

    handle = tiny_model.hf.register_forward_pre_hook(limited, with_kwargs=True)
    try:
        assert {text.id: text for text in generate(tiny_model, requests, SAMPLED)} == expected
    finally:
        handle.remove()
    assert [id(module) for module in tiny_model.hf.modules()] == modules


def test_an_adapter_of_another_model_is_an_error_that_names_it(
    tiny_model: SubjectModel, make_model: Callable[[str], SubjectModel], lora: Callable[..., Path]
) -> None:
    folder = str(lora(make_model("gpt2"), ["c_attn"], fan_in_fan_out=True))
    with pytest.raises(EngineError) as error:
        list(generate(tiny_model, [GenerationRequest("0", [1], 0, (), folder)], GREEDY))
    assert error.value.given == folder
    assert error.value.hint
    assert "stories260K" in str(error.value)
