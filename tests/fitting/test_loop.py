"""Training at a bench: all concepts, in chunks that are kept; interruptions, full disks and divergence lose nothing and say what happened."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.learners import Adding, Breaking, trained

import harness.fitting.checkpoint as checkpoint_module
import harness.fitting.loop as loop_module
from harness.errors import DataError, HarnessError, ModelError, StoreError
from harness.files.shards import ShardedFiles
from harness.fitting.learner import Parameters
from harness.fitting.loop import Trained, chunked, train_concepts
from harness.fitting.schedule import Schedule
from harness.fitting.texts import concept_texts
from harness.fitting.training_set import ConceptExamples, TrainingExample, TrainingSet, TrainingText, answers_of
from harness.fitting.vectors import VECTOR
from harness.interventions import Site
from harness.run.bench import TaskBench
from harness.testing import toy_bench
from harness.types import Labeling

SCHEDULE = Schedule(epochs=3, batch=4, lr=0.05, clip=1.0, held_out=0.2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("toy")


@pytest.fixture(scope="module")
def shared(folder: Path) -> TaskBench:
    return toy_bench(folder, conversations=True)


@pytest.fixture
def bench(shared: TaskBench, folder: Path, tmp_path: Path) -> TaskBench:
    """A bench with an empty cache, but for the tokens and the split of the corpus."""
    made = TaskBench(shared.task, shared.choices, type(shared.artifacts)(tmp_path), shared.progress)
    made.model, made.corpus_tokens, made.split = shared.model, shared.corpus_tokens, shared.split  # type: ignore[misc, assignment]
    return made


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """One concept a chunk, and a checkpoint at every point of a curve."""
    monkeypatch.setattr(loop_module, "PASSES", 0)
    monkeypatch.setattr(checkpoint_module, "SECONDS", 0)


def training_set(bench: TaskBench) -> TrainingSet:
    return answers_of(bench, concept_texts(bench, [Labeling(concept) for concept in bench.concepts], "a test", answers=True))


def learner_of(bench: TaskBench) -> Adding:
    return Adding(bench.model, Site(1), drop=0.1)


def fit(bench: TaskBench, training: TrainingSet | None = None, learner: Adding | None = None, schedule: Schedule = SCHEDULE) -> Trained:
    return train_concepts(bench, learner or learner_of(bench), training or training_set(bench), schedule, who="adding", options={"layer": 1})


def same(found: Trained, other: Trained) -> bool:
    parts = [(found.parameter(VECTOR), other.parameter(VECTOR)), *((found.losses(name), other.losses(name)) for name in found.concepts)]
    return found.curves == other.curves and all(np.array_equal(one, another) for one, another in parts)


@pytest.fixture(scope="module")
def undisturbed(shared: TaskBench) -> Trained:
    return fit(shared)


def test_all_concepts_get_what_training_gives(shared: TaskBench, undisturbed: Trained) -> None:
    training = training_set(shared)
    pupils = trained(shared.model, learner_of(shared), training, SCHEDULE)
    assert undisturbed.concepts == tuple(concept.id for concept in shared.concepts)
    for place, pupil in enumerate(pupils):
        assert undisturbed.losses(pupil.one.concept) == pytest.approx(pupil.curve.losses, rel=1e-6)
        np.testing.assert_allclose(undisturbed.parameter(VECTOR)[place], pupil.parameters[VECTOR].detach(), rtol=1e-4, atol=1e-6)
        curve = undisturbed.curves[pupil.one.concept]
        assert curve == json.loads(json.dumps(pupil.curve.as_json()))
        assert len(curve["step"]) == len(curve["loss"]) == len(curve["held_out"]) == len(pupil.curve.points)
        assert None not in curve["held_out"]


def test_it_is_made_once(bench: TaskBench, undisturbed: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    assert same(fit(bench), undisturbed)
    monkeypatch.setattr(loop_module, "_train", lambda *arguments: pytest.fail("it is trained again"))
    assert same(fit(bench), undisturbed)


@pytest.mark.parametrize(
    "other", [{"schedule": Schedule(epochs=3, batch=4, lr=0.06)}, {"options": {"layer": 2}}, {"who": "another"}], ids=lambda one: next(iter(one))
)
def test_what_it_depends_on_makes_another(bench: TaskBench, other: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    monkeypatch.setattr(bench.artifacts, "get", lambda key, compute, *rest: made.append(key["key"]) or (_ for _ in ()).throw(StoreError("enough")))
    for change in ({}, other):
        given = {"who": "adding", "options": {"layer": 1}, "schedule": SCHEDULE, **change}
        with pytest.raises(StoreError):
            train_concepts(bench, learner_of(bench), training_set(bench), given["schedule"], who=given["who"], options=given["options"])
    assert made[0] != made[1]


def test_chunks_give_what_one_gives(bench: TaskBench, undisturbed: Trained, few: None) -> None:
    found = fit(bench)
    for place, concept in enumerate(found.concepts):
        assert found.losses(concept) == pytest.approx(undisturbed.losses(concept), rel=1e-5)
        np.testing.assert_allclose(found.parameter(VECTOR)[place], undisturbed.parameter(VECTOR)[place], rtol=1e-3, atol=1e-5)


class Interrupted(Adding):
    """Breaks off after so many steps."""

    left = 0

    def settle(self, parameters: Parameters) -> None:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize("steps", [2, 9, 20, 29])
def test_an_interrupted_training_goes_on(bench: TaskBench, few: None, tmp_path: Path, steps: int) -> None:
    whole = fit(bench)
    again = TaskBench(bench.task, bench.choices, type(bench.artifacts)(tmp_path / "again"), bench.progress)
    again.model, again.corpus_tokens, again.split = bench.model, bench.corpus_tokens, bench.split  # type: ignore[misc, assignment]
    interrupted = Interrupted(bench.model, Site(1), drop=0.1)
    interrupted.left = steps
    with pytest.raises(KeyboardInterrupt):
        fit(again, learner=interrupted)
    counted = Interrupted(bench.model, Site(1), drop=0.1)
    counted.left = 10**6
    found = fit(again, learner=counted)
    assert same(found, whole)
    total = sum(len(whole.losses(name)) for name in whole.concepts)
    assert total - steps <= 10**6 - counted.left <= total - steps + 5, "steps since the last point are all that is done twice"


def test_a_full_disk_loses_nothing(bench: TaskBench, few: None, undisturbed: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    append, kept = ShardedFiles.append, []

    def full(self: ShardedFiles, parts: Any, note: Any) -> None:
        if "losses.f32" in parts and len(kept) == 1:
            raise StoreError("cannot write: the disk is full", given=errno.ENOSPC)
        kept.append(note)
        append(self, parts, note)

    monkeypatch.setattr(ShardedFiles, "append", full)
    with pytest.raises(StoreError) as error:
        fit(bench)
    assert error.value.given == errno.ENOSPC
    assert "\n" not in str(error.value)
    monkeypatch.setattr(ShardedFiles, "append", append)
    counted = Interrupted(bench.model, Site(1), drop=0.1)
    counted.left = 10**6
    found = fit(bench, learner=counted)
    assert 10**6 - counted.left < sum(len(found.losses(name)) for name in found.concepts[1:])
    assert found.losses(found.concepts[1]) == pytest.approx(undisturbed.losses(found.concepts[1]), rel=1e-5)


def test_a_checkpoint_that_cannot_be_written_is_one_line(bench: TaskBench, few: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(StoreError) as error:
        fit(bench)
    assert error.value.given == errno.ENOSPC


def test_divergence_is_said_and_leaves_numbers(bench: TaskBench) -> None:
    learner = Breaking(bench.model, Site(1), "water")
    found = fit(bench, learner=learner, schedule=Schedule(epochs=4, batch=4, lr=0.05))
    assert np.isfinite(found.parameter(VECTOR)).all()
    assert [name for name, curve in found.curves.items() if "stopped" in curve] == ["water"]
    assert len(found.losses("water")) == found.curves["water"]["stopped"] == 5
    (said,) = (line for line in bench.warnings.messages if "diverged" in line)
    assert all(part in said for part in ("adding", "'water'", "after 5 of 12 steps", "after 3 steps is kept", "learning rate below 0.05"))
    bench.warnings.messages.clear()
    fit(bench, learner=learner, schedule=Schedule(epochs=4, batch=4, lr=0.05))
    assert bench.warnings.messages == [said]  # also where it is only read


def test_one_example_is_trained_on_and_said(bench: TaskBench) -> None:
    whole = training_set(bench)
    one = TrainingSet(whole.texts, [ConceptExamples("one", whole.concepts[0].examples[:1])])
    found = fit(bench, one)
    assert found.curves["one"]["held_out"] == [None] * 4
    assert found.curves["one"]["examples"] == [1, 0]
    assert [line for line in bench.warnings.messages if "too few examples" in line]


def test_bad_input_is_one_line(bench: TaskBench) -> None:
    whole = training_set(bench)
    long = TrainingText(np.arange(300) % 200, 3)
    cases: list[tuple[type[HarnessError], Callable[[], Any]]] = [
        (DataError, lambda: fit(bench, TrainingSet(whole.texts, []))),
        (DataError, lambda: fit(bench, TrainingSet([long], [ConceptExamples("c", (TrainingExample((0,)),))]))),
        (ModelError, lambda: Adding(bench.model, Site(7))),
        (DataError, lambda: concept_texts(toy_bench_without(bench), [Labeling(bench.concepts[0])], "a test", answers=True)),
    ]
    for kind, call in cases:
        with pytest.raises(kind) as error:
            call()
        assert "\n" not in str(error.value)


def toy_bench_without(bench: TaskBench) -> TaskBench:
    """A bench whose corpus is cut so short that no answer is left."""
    made = TaskBench(bench.task, bench.choices, bench.artifacts, bench.progress)
    made.model, made.split = bench.model, bench.split  # type: ignore[misc, assignment]
    made.corpus_tokens = [ids[: bench.answer_start(place)] for place, ids in enumerate(bench.corpus_tokens)]  # type: ignore[misc, assignment]
    return made


def test_chunks_are_as_large_as_memory_allows(bench: TaskBench, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.fitting.frozen import FrozenModel

    training = training_set(bench)
    learner = learner_of(bench)
    frozen = FrozenModel(bench.model, training.texts, learner.after, 1)

    def sizes(parameters: int = 10, tokens: int = 1024) -> list[int]:
        return [len(chunk) for chunk in chunked(training, SCHEDULE, learner, frozen, tokens, parameters)]

    assert sizes() == [3]
    assert sizes(tokens=20) == [1, 1, 1]
    assert sizes(parameters=1 << 26) == [2, 1]
    monkeypatch.setattr(loop_module, "STREAMS", 1)
    assert sizes() == [1, 1, 1]
    learner.most = 2
    monkeypatch.undo()
    assert sizes() == [2, 1]


def test_progress_says_how_far_it_is(bench: TaskBench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from harness.files.progress import Progress, set_current_progress

    before = loop_module.current_progress()
    set_current_progress(Progress())
    try:
        fit(bench)
    finally:
        set_current_progress(before)
    said = capsys.readouterr().err
    assert "training adding, 3 concepts" in said
    assert "held out" in said


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
