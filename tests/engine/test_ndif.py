"""The engine ndif against a server on the loopback interface that runs what it is sent: the torch engine's texts; and every refusal in one line."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.ndif import Ndif

from harness.engine.base import GenerationRequest
from harness.engine.choice import open_engine
from harness.engine.ndif import NdifEngine
from harness.engine.reference import ReferenceEngine
from harness.engine.torch_loop import TorchEngine
from harness.errors import EngineError
from harness.interventions import Positions, Site
from harness.model.loading import SubjectModel
from harness.sae.splicing import Splice
from harness.steering.add_vector import AddVector
from harness.testing.edit_kinds import edit_kinds, random_dictionary
from harness.types import Decoding

NAME = "tiny/stories"
GREEDY = Decoding(max_new_tokens=5, temperature=0.0)
SAMPLED = Decoding(5, 0.9, 0.95, 1.2, "all", 2)


@pytest.fixture(scope="module")
def server(tiny_model: SubjectModel) -> Iterator[Ndif]:
    """NDIF with the tiny model."""
    with Ndif(tiny_model) as ndif:
        yield ndif


@pytest.fixture
def engine(server: Ndif, tiny_model: SubjectModel, monkeypatch: pytest.MonkeyPatch) -> NdifEngine:
    """The engine with a key, and that server in the place of NDIF's own."""
    monkeypatch.setenv("NDIF_API_KEY", "a-key-of-a-test")
    monkeypatch.setenv("NDIF_HOST", server.url)
    server.fails = ""
    return NdifEngine(tiny_model, served_as=NAME)


def requests_for(engine: NdifEngine) -> list[GenerationRequest]:
    """A request for each kind of edit that the engine takes."""
    ids = engine.model.encode("Once upon a time there was a little boy")
    kinds = [kind for kind in edit_kinds(engine.model) if not any(map(engine.refuses, kind.edits))]
    return [GenerationRequest(kind.name, ids[: (5, 1, 8, 3)[i % 4]], 3, kind.edits) for i, kind in enumerate(kinds)]


def texts(engine: Any, requests: list[GenerationRequest], decoding: Decoding) -> dict[str, tuple[int, ...]]:
    return {text.id: text.token_ids for chunk in engine.chunks(requests) for text in engine.run(chunk, decoding)}


@pytest.mark.parametrize("decoding", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_texts_are_those_of_the_torch_engine(engine: NdifEngine, server: Ndif, decoding: Decoding) -> None:
    requests = requests_for(engine)
    assert len(requests) >= 15
    before = len(server.jobs)
    assert texts(engine, requests, decoding) == texts(TorchEngine(engine.model), requests, decoding)
    assert len(server.jobs) == before + 1
    assert NAME in server.jobs[-1]["model_key"]
    assert "a-key" not in str(server.jobs)
    assert not any("nnsight" in name.lower() for module in engine.model.hf.modules() for name in vars(module))


def test_logits_are_those_of_the_reference(engine: NdifEngine) -> None:
    reference, requests = ReferenceEngine(engine.model), requests_for(engine)
    new = {request.id: [40 + i, 50, 60][: 1 + i % 3] for i, request in enumerate(requests)}
    found = dict(engine.step_logits(requests, new))
    for name, logits in reference.step_logits(requests, new):
        assert float((found[name].double() - logits).abs().max() / logits.std()) < 2e-5, name
    rows = [[1, 5, 7, 9], [1], [1, 30]]
    edits = requests[1].edits
    for one, other in zip(engine.logits(rows, edits), reference.logits(rows, edits), strict=True):
        assert float((one.double() - other).abs().max() / other.std()) < 2e-5


def test_whole_texts_at_every_step(engine: NdifEngine, tiny_model: SubjectModel) -> None:
    requests = requests_for(engine)[1:4]
    assert texts(NdifEngine(tiny_model, served_as=NAME, use_cache=False), requests, GREEDY) == texts(engine, requests, GREEDY)


def test_what_is_refused(engine: NdifEngine, tiny_model: SubjectModel) -> None:
    unknown = Splice(random_dictionary(tiny_model.d_model, 2))  # which tokens are outliers depends on their values
    assert "graph of torch operations" in str(engine.refuses(unknown))
    wide = AddVector(Site(1), torch.zeros(64), Positions())
    assert engine.refuses(wide) is None
    assert "0 to 4" in str(engine.refuses(replace(wide, site=Site(9))))
    with pytest.raises(EngineError) as error:
        engine.run([GenerationRequest("0", [1], 0, adapter="/some/adapter")], GREEDY)
    assert error.value.given == "/some/adapter"
    for prompt, given in (([], "0"), ([5] * 600, 600)):
        with pytest.raises(EngineError) as error:
            engine.run([GenerationRequest("0", prompt, 0)], GREEDY)
        assert error.value.given == given


def test_a_job_that_fails_is_one_line(engine: NdifEngine, server: Ndif) -> None:
    server.fails = "CUDA out of memory\nin a long traceback"
    with pytest.raises(EngineError) as error:
        list(engine.run([GenerationRequest("0", [1, 5], 0)], GREEDY))
    assert error.value.given == server.url
    assert "out of memory in a long" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_server_that_cannot_be_reached_is_one_line(tiny_model: SubjectModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NDIF_API_KEY", "a-key-of-a-test")
    monkeypatch.setenv("NDIF_HOST", "http://127.0.0.1:9")
    with pytest.raises(EngineError) as error:
        list(NdifEngine(tiny_model, served_as=NAME).run([GenerationRequest("0", [1, 5], 0)], GREEDY))
    assert error.value.given == "http://127.0.0.1:9"
    assert "cannot be reached" in str(error.value)
    assert "NDIF_HOST" in str(error.value.hint)


def test_what_it_needs_is_said_at_once(tiny_model: SubjectModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("NDIF_API_KEY", raising=False)
    with pytest.raises(EngineError) as error:
        open_engine(tiny_model, "ndif")
    assert "NDIF_API_KEY" in str(error.value)
    monkeypatch.setenv("NDIF_API_KEY", "a-key-of-a-test")
    with pytest.raises(EngineError) as error:
        open_engine(tiny_model, "ndif")
    assert "hub" in str(error.value)
    assert error.value.given == tiny_model.source
    monkeypatch.setenv("NDIF_HOST", "ndif.example")
    with pytest.raises(EngineError) as error:
        NdifEngine(tiny_model, served_as=NAME)
    assert error.value.given == "ndif.example"
