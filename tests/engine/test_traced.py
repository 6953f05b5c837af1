"""The engine nnsight: the torch engine's texts and logits for every kind of edit, and nothing of nnsight left on model and process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.edits import vector
from torch import Tensor

from harness.engine.base import GenerationRequest, engine_version
from harness.engine.choice import open_engine
from harness.engine.reference import ReferenceEngine
from harness.engine.torch_loop import TorchEngine
from harness.engine.traced import NNsightEngine
from harness.errors import DataError, EngineError, UnknownNameError
from harness.interventions import EditContext, Positions, Site
from harness.model.loading import SubjectModel
from harness.run.bench import TaskBench
from harness.steering.add_vector import AddVector
from harness.testing import check_engine, toy_bench
from harness.testing.edit_kinds import edit_kinds
from harness.types import Decoding

GREEDY = Decoding(max_new_tokens=8, temperature=0.0)
SAMPLED = Decoding(8, 0.9, 0.95, 1.1, "generated", 2)


def requests_for(model: SubjectModel, folder: Path | None = None) -> list[GenerationRequest]:
    """A request for each kind of edit, prompts of several lengths, one of a single token among them."""
    ids = model.encode("Once upon a time there was a little boy who had a red ball")
    kinds = edit_kinds(model, folder)
    return [GenerationRequest(kind.name, ids[: (5, 1, 8, 3)[i % 4]], 3, kind.edits, kind.adapter) for i, kind in enumerate(kinds)]


def texts(engine: Any, requests: list[GenerationRequest], decoding: Decoding) -> dict[str, tuple[int, ...]]:
    return {text.id: text.token_ids for chunk in engine.chunks(requests) for text in engine.run(chunk, decoding)}


def as_it_was(model: SubjectModel) -> bool:
    """Whether no module has a forward of its own, or anything of nnsight's."""
    return not any(name == "forward" or "nnsight" in name.lower() for module in model.hf.modules() for name in vars(module))


@pytest.mark.parametrize("decoding", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_texts_are_those_of_the_torch_engine(tiny_model: SubjectModel, tmp_path: Path, decoding: Decoding) -> None:
    requests = requests_for(tiny_model, tmp_path / "adapter")
    assert any(request.adapter for request in requests)
    expected = texts(TorchEngine(tiny_model), requests, decoding)
    assert texts(NNsightEngine(tiny_model), requests, decoding) == expected
    assert texts(NNsightEngine(tiny_model, batch_size=3), requests[::-1], decoding) == expected, "order and batch size change nothing"
    assert as_it_was(tiny_model)


def test_logits_are_those_of_the_reference(tiny_model: SubjectModel, tmp_path: Path) -> None:
    requests = requests_for(tiny_model, tmp_path / "adapter")
    reference, engine = ReferenceEngine(tiny_model), NNsightEngine(tiny_model)
    new = {request.id: [40 + i, 50, 60][: 1 + i % 3] for i, request in enumerate(requests)}
    found, expected = dict(engine.step_logits(requests, new)), dict(reference.step_logits(requests, new))
    assert found.keys() == expected.keys()
    for name, logits in expected.items():
        assert found[name].shape == logits.shape == (len(new[name]), tiny_model.vocab_size)
        assert float((found[name].double() - logits).abs().max() / logits.std()) < 2e-5, name
    rows = [[1, 5, 7, 9], [1], [1, 30]]
    for request in requests[::4]:
        pairs = zip(engine.logits(rows, request.edits, request.adapter), reference.logits(rows, request.edits, request.adapter), strict=True)
        assert all(float((one.double() - other).abs().max() / other.std()) < 2e-5 for one, other in pairs)
    assert as_it_was(tiny_model)


@pytest.mark.parametrize("name", ["gpt2", "gpt_neox", "falcon", "opt", "gemma2"])
def test_other_architectures(make_model: Callable[[str], SubjectModel], name: str) -> None:
    """Attention and MLP one after the other and side by side, streams as tuples and as flat tensors."""
    model = make_model(name)
    v = vector(model, "v")
    sites = [Site(1), Site(1, "mlp"), Site(1, "attention"), Site(2)]
    edits = tuple(AddVector(site, v * (1 + i), Positions(first_token=bool(i % 2))) for i, site in enumerate(sites))
    requests = [GenerationRequest("edited", [5, 6, 7, 8], 0, edits), GenerationRequest("plain", [9, 6], 0)]
    assert texts(NNsightEngine(model), requests, GREEDY) == texts(TorchEngine(model), requests, GREEDY)
    assert as_it_was(model)


@dataclass(frozen=True, eq=False)
class Raising:
    """An edit that raises where generated tokens are edited, or at once."""

    error: Exception
    late: bool
    sites: tuple[Site, ...] = (Site(1),)
    positions: Positions = field(default_factory=Positions)
    batch_key: str = "raising"

    def stack(self, rows: object, device: object) -> Raising:
        return self

    def apply(self, x: Tensor, ctx: EditContext) -> Tensor:
        if bool(ctx.generated.any()) or not self.late:
            raise self.error
        return x


@pytest.mark.parametrize("late", [False, True])
def test_nothing_is_left_where_an_edit_raises_or_the_iteration_is_given_up(tiny_model: SubjectModel, late: bool) -> None:
    engine = NNsightEngine(tiny_model)
    request = GenerationRequest("0", [1, 5, 9], 0, (AddVector(Site(2), torch.ones(64)), Raising(KeyError("broken edit"), late)))
    with pytest.raises(KeyError, match="broken edit"):
        list(engine.run([request], GREEDY))
    assert as_it_was(tiny_model)
    several = [replace(request, id=str(i), prompt_ids=[1, 5, *range(6, 6 + i)], edits=request.edits[:1]) for i in range(3)]
    given_up = NNsightEngine(tiny_model, batch_size=1).run(several, GREEDY)
    next(given_up)
    assert as_it_was(tiny_model)
    assert texts(engine, several, GREEDY) == texts(TorchEngine(tiny_model), several, GREEDY)


def test_memory_that_runs_out_halves_the_batch(tiny_model: SubjectModel) -> None:
    def request(i: int) -> GenerationRequest:
        return GenerationRequest(str(i), [1, 5 + i], 0, (Narrow(),))

    class Narrow(Raising):
        def __init__(self) -> None:
            super().__init__(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"), False)

        def apply(self, x: Tensor, ctx: EditContext) -> Tensor:
            if len(x) > 2:
                raise self.error
            return x

    requests = [request(i) for i in range(5)]
    plain = [replace(one, edits=()) for one in requests]
    assert texts(NNsightEngine(tiny_model), requests, GREEDY) == texts(TorchEngine(tiny_model), plain, GREEDY)


def test_what_is_refused(tiny_model: SubjectModel) -> None:
    engine = NNsightEngine(tiny_model)
    edit = AddVector(Site(7), torch.zeros(64))
    assert "0 to 4" in str(engine.refuses(edit))
    with pytest.raises(EngineError) as error:
        engine.run([GenerationRequest("0", [1], 0, (edit,))], GREEDY)
    assert error.value.given is edit
    assert "nnsight" in str(error.value)
    for prompt, given in (([], "0"), ([5] * 600, 600)):
        with pytest.raises(EngineError) as error:
            engine.run([GenerationRequest("0", prompt, 0)], GREEDY)
        assert error.value.given == given
    with pytest.raises(DataError):
        engine.logits([[1], []])
    assert list(engine.run([], GREEDY)) == []


def test_it_keeps_the_contract_of_engines(tmp_path: Path) -> None:
    bench: TaskBench = toy_bench(tmp_path)
    assert check_engine(NNsightEngine, bench) == check_engine(TorchEngine, bench)


def test_names_and_versions(tiny_model: SubjectModel) -> None:
    import importlib.metadata

    engine = open_engine(tiny_model, "nnsight")
    assert (engine.name, engine.version) == ("nnsight", engine_version("nnsight"))
    assert importlib.metadata.version("nnsight") in engine.version
    with pytest.raises(UnknownNameError, match="nnsight"):
        open_engine(tiny_model, "nnsigth")


def test_importing_nnsight_changes_nothing_that_all_share() -> None:
    code = (
        "import torch\nbefore = torch.Tensor.backward\n"
        "from harness.engine.nnsight_package import load_nnsight\nload_nnsight()\n"
        "assert torch.Tensor.backward is before\nassert not hasattr(1, 'save')\nprint('same')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "same", done.stderr
