"""Edits of streams and positions while a model generates: watched at every token, with and without the cache, behind padding, beside others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from helpers.edits import Scale, vector
from helpers.generation import generate
from helpers.models import byte_tokenizer, hf_of
from torch import Tensor

from harness.engine import placing
from harness.engine.base import GenerationRequest
from harness.engine.reference import touches
from harness.engine.torch_loop import TorchEngine
from harness.errors import EngineError
from harness.interventions import Edit, EditContext, Positions, Site
from harness.model.loading import SubjectModel
from harness.model.streams import stream_of
from harness.steering.add_vector import AddVector
from harness.types import Decoding

STREAMS = ("residual", "attention", "mlp")
NEW = 5
DECODING = Decoding(max_new_tokens=NEW, min_new_tokens=NEW, temperature=0.0)
PROMPTS = [[1, 30, 31, 32, 33], [1, 40], [1, 50, 51]]
ORDER = (0, 2, 1)
"""The rows of a batch: the longest prompt first."""


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Tensor, Tensor]]:
    """What a module gave in each forward pass, and what the engine made of it."""
    found: list[tuple[Tensor, Tensor]] = []
    real = placing._hook

    def hook(edits: Any, context: EditContext) -> Callable[[Any, Any, Any], Any]:
        edited = real(edits, context)

        def told(module: Any, arguments: Any, output: Any) -> Any:
            made = edited(module, arguments, output)
            found.append((stream_of(output, len(context.real)).clone(), stream_of(made, len(context.real)).clone()))
            return made

        return told

    monkeypatch.setattr(placing, "_hook", hook)
    return found


@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("name", ["llama", "gemma2", "opt", "bloom", "falcon"])
@pytest.mark.parametrize(
    "positions",
    [
        Positions(prompt=False, first=2),
        Positions(prompt=False, last=2, first_token=False),
        Positions(prompt=False, first=1, last=1),
    ],
    ids=["first 2", "last 2", "first and last"],
)
def test_only_the_tokens_of_the_positions_change(
    make_model: Callable[[str], SubjectModel], seen: list[tuple[Tensor, Tensor]], name: str, stream: Any, positions: Positions, use_cache: bool
) -> None:
    """A long row, a padded one, and a padded one without an edit; every token that goes through, decoded ones included."""
    model = make_model(name)
    site = Site(1, stream)
    edits = [AddVector(site, vector(model, str(i)), positions) for i in range(2)]
    requests = [GenerationRequest(str(i), prompt, 0, (edits[i],) if i < 2 else ()) for i, prompt in enumerate(PROMPTS)]
    list(generate(model, requests, DECODING, use_cache=use_cache))
    assert len(seen) == NEW
    for step, (before, after) in enumerate(seen):
        total = 5 + step
        width = 1 if use_cache and step else total
        assert before.shape == after.shape == (3, width, 32)
        for b, row in enumerate(ORDER):
            n_prompt = len(PROMPTS[row])
            for at, place in enumerate(range(total - width - (5 - n_prompt), total - (5 - n_prompt))):
                touched = row < 2 and place >= 0 and touches(positions, place, n_prompt)
                change = edits[row].vector if touched else torch.zeros(32)
                assert torch.equal(after[b, at], before[b, at] + change), (step, row, place)


def tokens(model: SubjectModel, requests: Sequence[GenerationRequest], decoding: Decoding, **options: Any) -> dict[str, tuple[int, ...]]:
    return {text.id: text.token_ids for text in generate(model, requests, decoding, **options)}


def test_a_vector_added_to_the_mlp_is_one_added_after_the_layer(random_model: SubjectModel) -> None:
    """Whatever the family's build: what the MLP adds is the last thing that is added."""
    decoding = replace(DECODING, max_new_tokens=12, min_new_tokens=12)
    v = vector(random_model, "v")
    for positions in (Positions(), Positions(prompt=False, last=1)):
        at_mlp, after = (
            [GenerationRequest(str(i), prompt, 0, (AddVector(site, v, positions),)) for i, prompt in enumerate(PROMPTS)]
            for site in (Site(1, "mlp"), Site(1))
        )
        found = tokens(random_model, at_mlp, decoding)
        assert found == tokens(random_model, after, decoding)
        assert found != tokens(random_model, [replace(request, edits=()) for request in after], decoding)


def test_attention_is_edited_before_the_mlp_reads_it(make_model: Callable[[str], SubjectModel]) -> None:
    """In a row of attention and MLP the MLP sees the edit; side by side it does not."""
    ids = torch.tensor([PROMPTS[0]])
    for name, side_by_side in (("llama", False), ("olmo2", False), ("gptj", True), ("falcon", True)):
        model = make_model(name)
        v = vector(model, "v")
        at_attention, after = (
            next(TorchEngine(model).logits(ids.tolist(), [AddVector(site, v)])) for site in (Site(1, "attention"), Site(1))
        )
        assert torch.allclose(at_attention, after, rtol=1e-4, atol=1e-3) == side_by_side, name


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma2", "opt", "mpt", "mixtral"])
def test_a_batch_that_mixes_streams_is_its_rows_alone(make_model: Callable[[str], SubjectModel], name: str) -> None:
    model = make_model(name)
    programs: list[tuple[Edit, ...]] = [
        (AddVector(Site(1, "attention"), vector(model, "a")),),
        (),
        (Scale((Site(0, "mlp"), Site(2, "attention")), 1.5), AddVector(Site(1), vector(model, "b"), Positions(prompt=False, last=2))),
        (AddVector(Site(1, "mlp"), vector(model, "c"), Positions(prompt=False, first=1, generated=False)),),
        (Scale((Site(1, "attention"),), 0.0),),
        (AddVector(Site(1, "attention"), vector(model, "d"), Positions(first_token=False)), Scale((Site(1, "attention"),), 2.0)),
    ]
    requests = [
        GenerationRequest(str(i), [1, *range(20 + 7 * i, 20 + 7 * i + n)], 0, edits)
        for i, (n, edits) in enumerate(zip([4, 9, 2, 7, 1, 5], programs, strict=True))
    ]
    for decoding in (Decoding(max_new_tokens=12, temperature=0.0), Decoding(max_new_tokens=12, temperature=0.8, top_p=0.9)):
        together = tokens(model, requests, decoding)
        assert together == {request.id: tokens(model, [request], decoding)[request.id] for request in requests}
        assert together == tokens(model, requests[::-1], decoding, batch_size=4, use_cache=False)
        plain = tokens(model, [replace(request, edits=()) for request in requests], decoding)
        assert together["1"] == plain["1"]
        assert sum(together[key] != plain[key] for key in plain) >= 3


def test_an_edit_that_touches_no_token_of_a_step_sets_no_hook(make_model: Callable[[str], SubjectModel]) -> None:
    """A cached step decodes one generated token: an edit of the prompt alone has nothing to do there."""
    model = make_model("llama")
    for positions, steps in ((Positions(generated=False), 1), (Positions(prompt=False), NEW - 1), (Positions(prompt=False, last=1), NEW)):
        edit = AddVector(Site(1, "mlp"), vector(model, "v"), positions)
        with watched_calls(model, Site(1, "mlp")) as calls:
            list(generate(model, [GenerationRequest("0", PROMPTS[0], 0, (edit,))], DECODING))
        assert calls[0] == steps


@contextmanager
def watched_calls(model: SubjectModel, site: Site) -> Iterator[list[int]]:
    """How many forward passes had a hook at a site, beside the one that counts."""
    module, calls = model.stream_module(site), [0]

    def count(module: Any, arguments: Any) -> None:
        calls[0] += bool(module._forward_hooks)

    handle = module.register_forward_pre_hook(count)
    try:
        yield calls
    finally:
        handle.remove()


def test_a_stream_that_cannot_be_told_apart_is_refused_before_anything_is_generated() -> None:
    size = {"vocab_size": 320, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4}
    hf = hf_of("GraniteConfig", **size, num_key_value_heads=2, residual_multiplier=0.5)
    model = SubjectModel(hf, byte_tokenizer(), name="granite")
    engine = TorchEngine(model)
    edit = AddVector(Site(1, "mlp"), vector(model, "v"))
    assert engine.refuses(replace(edit, site=Site(1))) is None
    reason = engine.refuses(edit)
    assert reason is not None
    assert "\n" not in reason
    ran: list[int] = []
    handle = hf.register_forward_pre_hook(lambda module, arguments: ran.append(1))
    try:
        with pytest.raises(EngineError) as error:
            engine.run([GenerationRequest("0", [1], 0), GenerationRequest("1", [1], 0, (edit,))], DECODING)
    finally:
        handle.remove()
    assert error.value.given is edit
    assert all(part in str(error.value) for part in ("torch", "AddVector", "layer 1 mlp", "granite"))
    assert ran == []
