"""A run that goes on decodes as many rows together as it began with, whatever the machine would take now."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from helpers.runs import manifest

from harness.engine.plan import plan_for
from harness.engine.torch_loop import TorchEngine
from harness.evaluations.steering.decoding import note_decoding, settle_rows
from harness.model.loading import SubjectModel
from harness.run.bench import Choices, TaskBench
from harness.run.model_services import ModelServices
from harness.store import RunStore
from harness.types import Decoding


def test_the_rows_of_a_run_are_kept(tiny_model: SubjectModel, tmp_path: Path) -> None:
    plan_for(tiny_model)
    with RunStore.create_or_open(tmp_path / "run", manifest()) as store:

        def run_of(engine: Any) -> Any:
            bench = TaskBench(None, Choices(), None, None)  # type: ignore[arg-type]
            bench.model, bench.services = tiny_model, ModelServices(tiny_model, Decoding())  # type: ignore[misc]
            bench.services.engine = engine
            return SimpleNamespace(store=store, bench=bench)

        first = run_of(TorchEngine(tiny_model, batch_size=48))
        settle_rows(first)  # nothing is kept yet
        for _ in range(2):
            note_decoding(first)
        (note,) = store.notes("decoding")
        assert (note.value["rows"], note.value["joins"], note.value["cache"]) == (48, True, True)
        later = run_of(TorchEngine(tiny_model))
        settle_rows(later)
        assert later.bench.engine.batch_size == 48
        later.bench.engine.batch_size = 24  # memory ran out
        note_decoding(later)
        last = run_of(TorchEngine(tiny_model))
        settle_rows(last)
        assert last.bench.engine.batch_size == 24
        settle_rows(run_of(object()))  # an engine that has no batches
        unopened = run_of(None)
        del vars(unopened.bench)["services"]
        settle_rows(unopened)
        unopened.bench.task = SimpleNamespace(file=SimpleNamespace(decoding=SimpleNamespace(decoding=Decoding)))
        assert unopened.bench.engine.batch_size == 24, "it is opened with them"
