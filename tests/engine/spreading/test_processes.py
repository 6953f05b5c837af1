"""Workers that are processes: the texts of the single process, whatever happens to a worker, and nobody left behind."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.copied_workers import copied_workers
from helpers.edits import vector
from helpers.spreading import Endless, Fatal, by_id, gone, no_engine, requests_of, two_workers

from harness.engine.base import Generated, GenerationRequest
from harness.engine.executors import LocalExecutor, generate
from harness.engine.reference import ReferenceEngine
from harness.engine.spreading.choice import Place, Spread
from harness.engine.spreading.executor import SpreadExecutor
from harness.engine.spreading.opening import open_executor
from harness.engine.spreading.processes import ProcessPool
from harness.engine.spreading.recipe import recipe_of
from harness.engine.spreading.schedule import QuarantinedError
from harness.engine.torch_loop import TorchEngine
from harness.errors import EngineError
from harness.interventions import Site
from harness.model.loading import SubjectModel
from harness.steering.add_vector import AddVector
from harness.types import Decoding

SAMPLED = Decoding(max_new_tokens=10, temperature=0.9)

pytestmark = pytest.mark.usefixtures("small_chunks")


@pytest.fixture(scope="module", autouse=True)
def _copies() -> Iterator[None]:
    """Workers begin at once, and not after seconds."""
    with pytest.MonkeyPatch.context() as patch:
        copied_workers(patch)
        yield


@pytest.fixture(scope="module")
def workers(_copies: None) -> Iterator[SpreadExecutor]:
    yield from two_workers("processes")


def pids(executor: SpreadExecutor) -> list[int]:
    return [facts.pid for facts in executor._pool.facts.values()]


def test_texts_are_those_of_the_single_process(tiny_model: SubjectModel, workers: SpreadExecutor) -> None:
    engine, requests = TorchEngine(tiny_model, batch_size=3), requests_of(tiny_model, [AddVector(Site(2), vector(tiny_model, "v", 0.4))])
    single = by_id(generate(engine, LocalExecutor(), requests, SAMPLED))
    assert by_id(generate(engine, workers, requests, SAMPLED)) == single
    only = {requests[0].id, requests[7].id}
    assert by_id(generate(engine, workers, requests, SAMPLED, only)) == {name: single[name] for name in only}
    facts = workers.facts()
    assert (facts["executor"], facts["workers"], facts["devices"], facts["threads"]) == ("processes", 2, ["cpu"], [1])
    assert not set(pids(workers)) & {os.getpid()}
    assert list(workers.map(engine, [], SAMPLED)) == []


def test_a_worker_that_is_killed_in_the_middle_costs_no_text(tiny_model: SubjectModel, workers: SpreadExecutor, tmp_path: Path) -> None:
    engine = TorchEngine(tiny_model, batch_size=3)
    requests = requests_of(tiny_model, [Fatal("kill", tmp_path / "killed")])
    texts = by_id(generate(engine, workers, requests, SAMPLED))
    assert (tmp_path / "killed").exists()
    assert texts == by_id(generate(engine, LocalExecutor(), requests, SAMPLED))
    assert workers.facts()["repeated"] == workers.facts()["replaced"] == 1


def test_what_kills_three_workers_is_set_aside_and_the_rest_is_there(tiny_model: SubjectModel, workers: SpreadExecutor) -> None:
    """Of requests whose edit raises, since each death costs seconds; what is done about it is the same (test_schedule)."""
    engine, requests = TorchEngine(tiny_model, batch_size=3), requests_of(tiny_model)
    poisoned = {requests[4].id}
    mixed = [replace(request, edits=(Fatal("raise"),)) if request.id in poisoned else request for request in requests]
    came: list[Generated] = []
    with pytest.raises(QuarantinedError) as error:
        came.extend(generate(engine, workers, mixed, SAMPLED))
    found = by_id(iter(came))
    lost = {request.id for chunk in engine.chunks(mixed) if any(r.id in poisoned for r in chunk) for request in chunk}
    assert set(error.value.given) == lost  # type: ignore[call-overload]
    assert found == {name: text for name, text in by_id(generate(engine, LocalExecutor(), requests, SAMPLED)).items() if name not in lost}
    assert "ZeroDivisionError: a defect of the edit" in str(error.value)
    assert "\n" not in str(error.value)


def test_ctrl_c_and_an_error_of_the_users_end_the_workers(tiny_model: SubjectModel, workers: SpreadExecutor) -> None:
    engine = TorchEngine(tiny_model, batch_size=12)
    texts = workers.map(engine, engine.chunks(requests_of(tiny_model)), SAMPLED)
    next(texts)
    there = pids(workers)
    with pytest.raises(KeyboardInterrupt):
        texts.throw(KeyboardInterrupt)  # type: ignore[attr-defined]
    assert there
    assert gone(there, 10)
    alone = open_executor(Spread("processes", 1))
    with pytest.raises(EngineError) as error:
        by_id(generate(engine, alone, requests_of(tiny_model, [Fatal("refuse")]), SAMPLED))
    assert type(error.value) is EngineError
    assert (error.value.given, error.value.hint) == ((1, "cpu"), "take another")


def test_workers_of_a_driver_that_is_killed_end_by_themselves(tiny_model: SubjectModel) -> None:
    """The driver is a copy of this process, since it would take seconds to begin another."""
    ours, theirs = os.pipe()
    driver = os.fork()
    if not driver:
        try:
            pool = ProcessPool(recipe_of(TorchEngine(tiny_model)), no_engine, [Place("cpu", 1)])
            pool.begin(0)
            assert pool.wait(None)[0].kind == "ready"
            pool.send(0, 7, Endless())
            os.write(theirs, f"{pool.wait(None)[0].value[1]} {pool._state.folder}".encode())
            signal.pause()
        finally:
            os._exit(1)
    os.close(theirs)
    worker, folder = os.read(ours, 1000).decode().split()
    assert Path(folder).is_dir()
    os.kill(driver, signal.SIGKILL)
    os.waitpid(driver, 0)
    assert gone([int(worker)], 20)
    assert not Path(folder).exists()
    os.close(ours)


def test_what_no_worker_can_open_is_refused_before_any_begins(tiny_model: SubjectModel, random_model: SubjectModel) -> None:
    executor = open_executor(Spread("processes", 1))
    for engine in (ReferenceEngine(tiny_model), TorchEngine(random_model)):
        with pytest.raises(EngineError, match="worker"):
            executor.map(engine, engine.chunks([GenerationRequest("r", [1, 2], 0)]), SAMPLED)
    with pytest.raises(EngineError, match="prompt"):
        executor.map(TorchEngine(tiny_model), [[GenerationRequest("r", [], 0)]], SAMPLED)
    assert executor.facts() == {}
