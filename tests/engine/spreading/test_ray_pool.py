"""Workers of a Ray cluster of this machine: the texts of the single process, and the same when an actor is killed."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.edits import vector
from helpers.spreading import WORDS, Fatal, by_id, two_workers

from harness.engine.base import GenerationRequest
from harness.engine.executors import LocalExecutor, generate
from harness.engine.spreading.choice import Spread
from harness.engine.spreading.executor import SpreadExecutor
from harness.engine.spreading.opening import open_executor
from harness.engine.spreading.ray_pool import _said
from harness.engine.torch_loop import TorchEngine
from harness.errors import EngineError
from harness.interventions import Site
from harness.model.loading import SubjectModel
from harness.steering.add_vector import AddVector
from harness.types import Decoding

SAMPLED = Decoding(max_new_tokens=8, temperature=0.9)

pytestmark = [
    pytest.mark.usefixtures("small_chunks"),
    # not imported here: what Ray prints is settled before the pool imports it
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="the extra `ray` is not installed"),
]


@pytest.fixture(scope="module")
def workers() -> Iterator[SpreadExecutor]:
    yield from two_workers("ray")


def test_a_cluster_that_is_not_there_is_said(tiny_model: SubjectModel) -> None:
    for address in ("127.0.0.1:1", "ray://127.0.0.1:1"):
        executor = open_executor(Spread("ray", 1, address=address))
        with pytest.raises(EngineError) as error:
            list(executor.map(TorchEngine(tiny_model), [[GenerationRequest("r", [1], 0)]], SAMPLED))
        assert error.value.given == address


def test_of_an_actor_that_cannot_be_made_is_told_what_happened_in_it() -> None:
    made = "The actor died because of an error raised in its creation task, \x1b[36mray::Actor.__init__()\x1b[39m (pid=7)\nTraceback:\n  line 3\n"
    assert _said(RuntimeError(f"{made}ModuleNotFoundError: No module named 'harness'\n")) == "ModuleNotFoundError: No module named 'harness'"
    assert _said(RuntimeError("The actor died\n\tpid: 7\nkilled by \x1b[31mSIGKILL\x1b[0m.")) == "The actor died pid: 7 killed by SIGKILL."


def test_texts_are_those_of_the_single_process_also_when_an_actor_is_killed(
    tiny_model: SubjectModel, workers: SpreadExecutor, tmp_path: Path
) -> None:
    engine = TorchEngine(tiny_model, batch_size=3)
    edits = AddVector(Site(2), vector(tiny_model, "v", 0.4)), Fatal("kill", tmp_path / "killed")
    requests = [GenerationRequest(f"{text} {n}", tiny_model.encode(text), 0, edits[: n + 1]) for text in WORDS for n in range(2)]
    texts = by_id(generate(engine, workers, requests, SAMPLED))
    assert (tmp_path / "killed").exists()
    assert texts == by_id(generate(engine, LocalExecutor(), requests, SAMPLED))
    facts = workers.facts()
    assert (facts["executor"], facts["workers"], facts["repeated"], facts["replaced"]) == ("ray", 2, 1, 1)
    with pytest.raises(EngineError) as error:
        list(generate(engine, workers, [GenerationRequest("r", [1, 2], 0, (Fatal("refuse"),))], SAMPLED))
    assert error.value.hint == "take another"
