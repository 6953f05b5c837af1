"""Chunks and executors: what is generated together is fixed by all requests, so a run that goes on has the texts of an undisturbed one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch
from helpers.edits import vector
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.engine.base import Engine, Generated, GenerationRequest, check_requests
from harness.engine.executors import LocalExecutor, generate
from harness.engine.plan import plan_for
from harness.engine.reference import ReferenceEngine
from harness.engine.sizing import CHUNK
from harness.engine.torch_loop import TorchEngine
from harness.errors import EngineError
from harness.interventions import Edit, Site
from harness.model.activations import Row
from harness.model.loading import SubjectModel, load_model
from harness.steering.add_vector import AddVector
from harness.types import Decoding

GREEDY = Decoding(max_new_tokens=12, temperature=0.0)
SAMPLED = Decoding(max_new_tokens=12, temperature=0.8)


def requests_of(lengths: Sequence[int], adapters: Sequence[str | None] = ()) -> list[GenerationRequest]:
    given_adapters = [*adapters, *[None] * (len(lengths) - len(adapters))]
    return [GenerationRequest(f"r{i}", [1, *range(20, 19 + n)], 0, adapter=a) for i, (n, a) in enumerate(zip(lengths, given_adapters, strict=True))]


@dataclass
class Recording:
    """An engine that keeps what it was asked; refuses edits of layer 9."""

    batch: int = 2
    name: str = "recording"
    version: str = "0"
    asked: list[list[str]] = field(default_factory=list)

    def refuses(self, edit: Edit) -> str | None:
        return "it knows no layer 9" if Site(9) in edit.sites else None

    def chunks(self, requests: Sequence[GenerationRequest]) -> list[list[GenerationRequest]]:
        return [list(requests[start : start + self.batch]) for start in range(0, len(requests), self.batch)]

    def logits(self, texts: Sequence[Row], edits: Sequence[Edit] = (), adapter: str | None = None) -> Iterator[torch.Tensor]:
        return (torch.zeros(len(text), 8) for text in texts)

    def step_logits(
        self, requests: Sequence[GenerationRequest], new: Mapping[str, Sequence[int]]
    ) -> Iterator[tuple[str, torch.Tensor]]:
        return ((request.id, torch.zeros(len(new[request.id]), 8)) for request in requests)

    def run(self, requests: Sequence[GenerationRequest], decoding: Decoding) -> Iterator[Generated]:
        def made() -> Iterator[Generated]:
            self.asked.append([request.id for request in requests])
            yield from (Generated(request.id, (5,), "x", "eos") for request in requests)

        return made()


def test_our_engines_are_engines(tiny_model: SubjectModel) -> None:
    for engine in (TorchEngine(tiny_model), ReferenceEngine(tiny_model), Recording()):
        assert isinstance(engine, Engine)
        assert engine.name
        assert engine.version


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(n=st.integers(0, 3 * CHUNK + 1), worn=st.lists(st.sampled_from([None, "a", "b"]), max_size=20))
def test_chunks_are_requests_of_one_adapter_in_their_order(tiny_model: SubjectModel, n: int, worn: list[str | None]) -> None:
    requests = requests_of([3] * n, worn[:n])
    chunks = TorchEngine(tiny_model).chunks(requests)
    assert chunks == TorchEngine(tiny_model, batch_size=2).chunks(requests), "a chunk is no batch"
    for adapter in (None, "a", "b"):
        own = [chunk for chunk in chunks if chunk[0].adapter == adapter]
        assert [r for chunk in own for r in chunk] == [r for r in requests if r.adapter == adapter]
        sizes = {len(chunk) for chunk in own}
        assert not sizes or (min(sizes) > 0 and max(sizes) <= CHUNK and max(sizes) - min(sizes) <= 1)
        assert len(own) == -(-sum(map(len, own)) // CHUNK)


@given(st.lists(st.booleans(), min_size=1, max_size=12))
def test_a_chunk_in_which_something_is_missing_is_generated_whole(missing: list[bool]) -> None:
    engine, requests = Recording(), requests_of([3] * len(missing))
    only = {request.id for request, wanted in zip(requests, missing, strict=True) if wanted}
    found = [text.id for text in generate(engine, LocalExecutor(), requests, GREEDY, only)]
    assert found == [request.id for request in requests if request.id in only]
    chunks = [[request.id for request in chunk] for chunk in engine.chunks(requests)]
    assert engine.asked == [chunk for chunk in chunks if only & set(chunk)]


def test_without_a_choice_everything_is_generated() -> None:
    engine, requests = Recording(), requests_of([3, 4, 5])
    assert [text.id for text in generate(engine, LocalExecutor(), requests, GREEDY)] == ["r0", "r1", "r2"]
    assert engine.asked == [["r0", "r1"], ["r2"]]


def test_a_run_that_goes_on_has_the_same_texts_in_bfloat16(tiny_model_path: Path) -> None:
    """There a row's rounding depends on its neighbours: with others, some texts differ."""
    model = load_model(tiny_model_path, device="cpu", dtype="bfloat16")
    edit = AddVector(Site(2), vector(model, "v", 0.2))
    texts = ("Once upon a time", "Tom and his dog went to the park", "The", "One day a girl", "Lily was sad because her", "A big cat", "He")
    requests = [GenerationRequest(f"{i}-{k}", model.encode(text), 0, (edit,) if k else ()) for i, text in enumerate(texts) for k in range(3)]
    decoding = Decoding(max_new_tokens=40, temperature=1.0)
    engine, local = TorchEngine(model, batch_size=4), LocalExecutor()
    whole = {text.id: text for text in generate(engine, local, requests, decoding)}
    assert len(whole) == len(requests)
    only = {request.id for request in requests[::4]}
    again = {text.id: text for text in generate(TorchEngine(model, batch_size=4), local, requests, decoding, only)}
    assert again == {name: whole[name] for name in only}


def test_everything_is_checked_before_anything_is_generated(tiny_model: SubjectModel) -> None:
    local = LocalExecutor()
    fine, late = AddVector(Site(1), torch.zeros(64)), AddVector(Site(9), torch.zeros(64))
    for engine in (Recording(batch=1), TorchEngine(tiny_model, batch_size=1)):
        requests = [replace(request, edits=(fine,)) for request in requests_of([2, 3])]
        with pytest.raises(EngineError) as error:
            local.map(engine, engine.chunks([*requests, replace(requests_of([4])[0], id="late", edits=(late,))]), GREEDY)
        assert "\n" not in str(error.value)
        assert error.value.given is late
        assert all(part in str(error.value) for part in (engine.name, "AddVector", "layer 9"))
        with pytest.raises(EngineError) as error:
            local.map(engine, engine.chunks([*requests, *requests]), GREEDY)
        assert error.value.given == requests[0].id
        assert error.value.hint
    plan_for(tiny_model)  # to find it takes passes of its own
    for wrong, refused, name in [
        (replace(requests_of([2])[0], id="long", prompt_ids=[5] * 600), 600, "long"),
        (replace(requests_of([2])[0], id="worn", adapter="/nowhere"), "/nowhere", "adapter_config.json"),
    ]:
        ran: list[int] = []
        handle = tiny_model.hf.register_forward_pre_hook(lambda module, arguments, ran=ran: ran.append(1))
        try:
            with pytest.raises(EngineError) as error:
                generate(TorchEngine(tiny_model, batch_size=1), local, [*requests_of([2, 3]), wrong], GREEDY)
        finally:
            handle.remove()
        assert error.value.given == refused
        assert name in str(error.value)
        assert ran == []


def test_an_edit_that_many_requests_share_is_checked_once() -> None:
    class Counting(Recording):
        calls = 0

        def refuses(self, edit: Edit) -> str | None:
            self.calls += 1
            return None

    engine = Counting()
    edits = AddVector(Site(1), torch.zeros(64)), AddVector(Site(1), torch.zeros(64))
    check_requests(engine, [replace(request, edits=edits) for request in requests_of([3] * 50)])
    assert engine.calls == 2


def test_an_iteration_that_is_given_up_leaves_the_model_alone(tiny_model: SubjectModel) -> None:
    edit = AddVector(Site(1), vector(tiny_model, "v"))
    requests = [replace(request, edits=(edit,)) for request in requests_of([3, 4, 5, 6])]
    texts = generate(TorchEngine(tiny_model, batch_size=2), LocalExecutor(), requests, SAMPLED)
    next(texts)
    del texts
    assert not any(hook.__module__.startswith("harness") for m in tiny_model.hf.modules() for hook in m._forward_hooks.values())
