"""The torch engine against the float64 reference: every family, every kind of edit, with and without the cache, behind padding."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers.edits import Scale, vector
from helpers.generation import generate
from torch import Tensor

from harness import sae as harness_sae
from harness.engine.base import Engine, GenerationRequest
from harness.engine.plan import can_share, plan_for
from harness.engine.reference import ReferenceEngine
from harness.engine.torch_loop import TorchEngine
from harness.errors import EngineError
from harness.interventions import Edit, Positions, Site
from harness.model.loading import SubjectModel
from harness.steering.add_vector import AddVector
from harness.steering.clamp import ClampFeature
from harness.testing.edit_kinds import edit_kinds
from harness.types import Decoding

NEW = 6
DECODING = Decoding(max_new_tokens=NEW, min_new_tokens=NEW, temperature=0.0)
LENGTHS = (5, 2, 8, 1, 6, 3, 4)


def programs(model: SubjectModel) -> dict[str, tuple[Edit, ...]]:
    """Edits of every kind, for a model of three layers or more: those of ``harness engines verify``, and some without a definition of their own."""
    v, w = vector(model, "v"), vector(model, "w", 1.0)
    return {kind.name: kind.edits for kind in edit_kinds(model)} | {
        "one at several sites": (Scale((Site(0), Site(2, "mlp"), Site(1, "attention")), 0.7), AddVector(Site(2), w)),
        "some that do not commute": (AddVector(Site(1), v), Scale((Site(1),), 0.5), AddVector(Site(1), w, Positions(prompt=False))),
    }


@contextmanager
def step_logits(model: SubjectModel) -> Iterator[list[Tensor]]:
    """The logits of the next token that each forward pass of the engine gave, ``[rows, vocabulary]``."""
    plan_for(model)  # to find it takes passes of its own, as does how prompts are read
    for layer in range(model.n_layers):
        can_share(model, layer)
    steps: list[Tensor] = []
    handle = model.hf.register_forward_hook(lambda module, arguments, output: steps.append(output.logits[:, -1].detach().clone()))
    try:
        yield steps
    finally:
        handle.remove()


def requests_for(edits: Sequence[tuple[Edit, ...]]) -> list[GenerationRequest]:
    """One request a program, prompts of several lengths."""
    lengths = [LENGTHS[i % len(LENGTHS)] for i in range(len(edits))]
    return [
        GenerationRequest(str(i), [1, *range(20 + 5 * i, 19 + 5 * i + n)], 0, e) for i, (e, n) in enumerate(zip(edits, lengths, strict=True))
    ]


@pytest.mark.parametrize("use_cache", [True, False])
def test_logits_are_those_of_the_reference(random_model: SubjectModel, use_cache: bool) -> None:
    """One batch that mixes all kinds of edits; the largest difference of any logit, as a share of the logits' spread."""
    random_model.stream_module(Site(1, "mlp"))  # to find it takes a pass of its own, which is none of the engine's
    reference = ReferenceEngine(random_model)
    named = programs(random_model)
    requests = requests_for(list(named.values()))
    with step_logits(random_model) as steps:
        made = {text.id: text.token_ids for text in generate(random_model, requests, DECODING, use_cache=use_cache)}
    assert len(steps) == NEW
    in_order = sorted(requests, key=lambda request: -len(request.prompt_ids))
    differences = {}
    plain: dict[str, Tensor] = {}
    for b, request in enumerate(in_order):
        n_prompt, ids = len(request.prompt_ids), [*request.prompt_ids, *made[request.id]]
        expected = reference.text_logits(ids, n_prompt, request.edits)[n_prompt - 1 : -1]
        assert expected.dtype == torch.float64
        plain[request.id] = reference.text_logits(ids, n_prompt)[n_prompt - 1 : -1] - expected
        found = torch.stack([step[b] for step in steps]).double()
        differences[list(named)[int(request.id)]] = float((found - expected).abs().max() / expected.std())
    assert max(differences.values()) < 2e-5, differences
    changed = [name for i, name in enumerate(named) if float(plain[str(i)].abs().max()) > 0.01]
    assert len(changed) >= len(named) - 2, "the edits must do something"


@pytest.mark.parametrize("decoding", [DECODING, Decoding(10, 0.8, 0.9, 1.2), Decoding(10, 0.8, 0.9, 1.2, "generated", 3)])
def test_texts_of_a_real_model_are_those_of_the_reference(
    tiny_model: SubjectModel, tiny_sae_path: Path, monkeypatch: pytest.MonkeyPatch, decoding: Decoding
) -> None:
    stops = {i for i in range(3, tiny_model.vocab_size) if tiny_model.tokenizer.decode([i]).strip() in (".", "!", ",", "and", "the")}
    monkeypatch.setattr(tiny_model, "eos_ids", frozenset(stops))
    dictionary = harness_sae.load(tiny_sae_path)
    edits: list[tuple[Edit, ...]] = [
        (),
        (ClampFeature(Site(2), dictionary, 70, 6.0),),
        (ClampFeature(Site(2), dictionary, (70, 12), (3.0, 4.0), Positions(prompt=False)), AddVector(Site(1, "mlp"), vector(tiny_model, "v", 0.3))),
        (AddVector(Site(3, "attention"), vector(tiny_model, "w", 0.5), Positions(first=2, prompt=False)),),
    ]
    prompts = [tiny_model.encode(text) for text in ("Once upon a time", "Tom and his dog", "The", "One day")]
    requests = [GenerationRequest(str(i), prompt, 3, e) for i, (prompt, e) in enumerate(zip(prompts, edits, strict=True))]
    reference: Engine = ReferenceEngine(tiny_model)
    expected = {text.id: text for chunk in reference.chunks(requests) for text in reference.run(chunk, decoding)}
    assert {text.id: text for text in generate(tiny_model, requests, decoding)} == expected


def test_an_adapter_is_worn_in_float64(tiny_model: SubjectModel, lora: Callable[..., Path]) -> None:
    folder = str(lora(tiny_model, ["q_proj", "down_proj"]))
    ids = tiny_model.encode("Once upon a time there was")
    reference = ReferenceEngine(tiny_model)
    (found,) = TorchEngine(tiny_model).logits([ids], adapter=folder)
    (expected,) = reference.logits([ids], adapter=folder)
    assert torch.equal(expected, reference.text_logits(ids, len(ids), adapter=folder))
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-3)
    assert not torch.allclose(expected, reference.text_logits(ids, len(ids)), atol=0.1)


def test_the_model_itself_is_left_alone(tiny_model: SubjectModel) -> None:
    before = {name: value.clone() for name, value in tiny_model.hf.state_dict().items()}
    reference = ReferenceEngine(tiny_model)
    edit = AddVector(Site(1, "mlp"), vector(tiny_model, "v"))
    list(reference.run([GenerationRequest("0", [1, 5], 0, (edit,))], DECODING))
    assert reference.model.dtype == torch.float64
    assert tiny_model.dtype == torch.float32
    assert all(torch.equal(value, before[name]) for name, value in tiny_model.hf.state_dict().items())
    for hf in (tiny_model.hf, reference.model.hf):
        assert not any(hook.__module__.startswith("harness") for m in hf.modules() for hook in m._forward_hooks.values())


def test_it_refuses_what_it_cannot_place(tiny_model: SubjectModel) -> None:
    reference = ReferenceEngine(tiny_model)
    edit = AddVector(Site(7), vector(tiny_model, "v"))
    reason = reference.refuses(edit)
    assert reason is not None
    assert all(part in reason for part in ("layer 7", "stories260K", "0 to 4"))
    with pytest.raises(EngineError) as error:
        reference.run([GenerationRequest("0", [1], 0, (edit,))], DECODING)
    assert error.value.given is edit
    assert all(part in str(error.value) for part in ("reference", "AddVector", reason))
    with pytest.raises(EngineError) as error:
        reference.run([GenerationRequest("0", [1], 0)], replace(DECODING, max_new_tokens=0))
    assert error.value.given == 0
    assert "max_new_tokens" in str(error.value)
