"""Training by workers: what one process trains, to the last bit, whatever happens to a worker, and whoever is ready first."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from harness_plugins.methods.lora import Lora, LoraOptions
from harness_plugins.methods.reft_r1 import ReftSteerer, ReftSteerOptions
from harness_plugins.methods.reps import RepsFit, RepsLearner
from harness_plugins.methods.sft import Sft, SftOptions
from helpers.copied_workers import copied_workers
from helpers.learners import Adding, Breaking, Deadly, Holding, Littering, Poisoned
from helpers.spreading import Loopback, SpreadBench

import harness.fitting.loop as loop_module
from harness.engine.spreading.packing import Packer
from harness.engine.spreading.schedule import QuarantinedError
from harness.engine.spreading.work import Underway, Work
from harness.engine.torch_loop import TorchEngine
from harness.fitting.adapting import LoraLearner
from harness.fitting.fine_tuning import FineTuningLearner
from harness.fitting.layers import attention_outputs
from harness.fitting.learner import Learner
from harness.fitting.loop import Trained, train_concepts
from harness.fitting.rotating import LoreftLearner
from harness.fitting.schedule import Schedule
from harness.fitting.spread import SharedTexts, TrainWork
from harness.fitting.texts import concept_texts
from harness.fitting.training_set import ConceptExamples, TrainingExample, TrainingSet, answers_of
from harness.fitting.vectors import VECTOR
from harness.interventions import Site
from harness.model.loading import SubjectModel, load_model
from harness.model.weights import TENSORS
from harness.run.bench import Choices, TaskBench
from harness.run.guard import ChangedModelError, Guard
from harness.run.spread_engine import GuardedEngine
from harness.tasks.find import load_task
from harness.testing import toy_bench, toy_task
from harness.types import Labeling

CPU = torch.device("cpu")
SCHEDULE = Schedule(epochs=2, batch=4, lr=0.05, clip=1.0, held_out=0.2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("toy")


@pytest.fixture(scope="module")
def shared(folder: Path) -> TaskBench:
    return toy_bench(folder, conversations=True)


@pytest.fixture(scope="module")
def other(shared: TaskBench) -> SubjectModel:
    return load_model(shared.model.source, device="cpu", dtype="float32")


@pytest.fixture(autouse=True)
def one_concept_a_chunk(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(loop_module, "PASSES", 0)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


Benches = Callable[[str], SpreadBench]


@pytest.fixture
def benches(shared: TaskBench, other: SubjectModel, tmp_path: Path) -> Benches:
    """Benches by the name of their cache, empty but for tokens and split of the corpus; all but the one called ``alone`` have workers."""

    def make(name: str) -> SpreadBench:
        made = SpreadBench(shared.task, shared.choices, type(shared.artifacts)(tmp_path / name), shared.progress)
        made.model, made.corpus_tokens, made.split = shared.model, shared.corpus_tokens, shared.split  # type: ignore[misc, assignment]
        made.workers = None if name == "alone" else Loopback(shared.model, other)
        return made

    return make


def training_set(bench: TaskBench) -> TrainingSet:
    return answers_of(bench, concept_texts(bench, [Labeling(concept) for concept in bench.concepts], "a test", answers=True))


def fit(bench: TaskBench, learner: Learner, training: TrainingSet | None = None, schedule: Schedule = SCHEDULE) -> Trained:
    return train_concepts(bench, learner, training or training_set(bench), schedule, who="adding", options={})


def adding(bench: TaskBench) -> Adding:
    return Adding(bench.model, Site(1), drop=0.1)


def contents(trained: Trained) -> dict[str, bytes]:
    """All files of a training by their names."""
    return {path.relative_to(trained.folder).as_posix(): path.read_bytes() for path in sorted(trained.folder.rglob("*")) if path.is_file()}


def pairs_of(bench: TaskBench) -> TrainingSet:
    """Examples of two texts, as RePS has them."""
    whole = training_set(bench)
    return TrainingSet(
        whole.texts,
        [
            ConceptExamples(
                one.concept, tuple(TrainingExample((a.texts[0], b.texts[0])) for a, b in zip(one.examples, one.examples[1:6], strict=False))
            )
            for one in whole.concepts
        ],
    )


LEARNERS: dict[str, Callable[[TaskBench], tuple[Learner, TrainingSet | None]]] = {
    "a vector": lambda bench: (adding(bench), None),
    "what holds a part of the model": lambda bench: (Holding(bench.model, Site(1)), None),
    "pairs with a reference": lambda bench: (RepsLearner(bench.model, Site(1), RepsFit(both_ways=False)), pairs_of(bench)),
    "lora": lambda bench: (LoraLearner(bench.model, attention_outputs(bench.model, (0, 1)), 2, 8.0, True, 0.1), None),
    "loreft": lambda bench: (LoreftLearner(bench.model, (0, 1), 2, 2, 2), None),
    "all weights": lambda bench: (FineTuningLearner(bench.model), None),
}


@pytest.mark.parametrize("which", LEARNERS)
def test_what_workers_train_is_what_one_process_trains(benches: Benches, which: str) -> None:
    found = []
    for name in ("alone", "spread"):
        bench = benches(name)
        found.append(fit(bench, *LEARNERS[which](bench)))
    assert bench.workers.given == 3
    assert contents(found[0]) == contents(found[1])
    assert any(len(content) > 100 for content in contents(found[0]).values())


def test_the_model_is_not_sent_with_what_is_made_of_it(shared: TaskBench) -> None:
    training = training_set(shared)
    texts = SharedTexts.of(training.texts)
    work = TrainWork("all", FineTuningLearner(shared.model), texts, training.concepts[:1], SCHEDULE, 0, 1, 1024)
    sent = Packer(CPU, lambda data: pytest.fail("a large tensor is sent"), shared.model).pack(work)
    assert len(sent.data) < 20_000 + 8 * len(texts.ids)
    assert [(text.ids.tolist(), text.start) for text in texts.texts()] == [(text.ids.tolist(), text.start) for text in training.texts]


def test_what_was_ready_is_found_by_the_next_call_whoever_trains(benches: Benches) -> None:
    class Interrupted(Loopback):
        """Is broken off before the first piece, when the others are ready."""

        def do(self, works: Sequence[Work]) -> Iterator[tuple[str, Any]]:
            yield from super().do(works[1:])
            raise KeyboardInterrupt

    whole, bench = fit(benches("alone"), adding(benches("alone"))), benches("broken")
    bench.workers = Interrupted(bench.model, bench.workers.engine.model)
    with pytest.raises(KeyboardInterrupt):
        fit(bench, adding(bench))
    assert bench.workers.given == 2
    again = benches("broken")
    trained_here: list[str] = []
    real = loop_module._train_chunk

    def noted(bench: Any, learner: Any, frozen: Any, chunk: Any, *rest: Any) -> Any:
        trained_here.extend(one.concept for one in chunk)
        return real(bench, learner, frozen, chunk, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop_module, "_train_chunk", noted)
        found = fit(again, adding(again))
    assert trained_here == [whole.concepts[0]]
    assert again.workers.given == 0, "one chunk is left, for which nobody else is asked"
    assert contents(found) == contents(whole)


def test_files_of_another_training_are_not_taken(benches: Benches) -> None:
    bench = benches("spread")
    whole = fit(benches("alone"), adding(bench))
    get = bench.artifacts.get

    def littered(key: Any, compute: Callable[[Path], None], *rest: Any) -> Any:
        def with_litter(folder: Path) -> None:
            (folder / "chunk-1.safetensors").write_bytes(b"torn")
            compute(folder)

        return get(key, with_litter, *rest)

    bench.artifacts.get = littered  # type: ignore[method-assign]
    found = contents(fit(bench, adding(bench)))
    assert found == contents(whole)
    assert not any("chunk" in name for name in found)


def test_divergence_is_said(benches: Benches) -> None:
    bench = benches("spread")
    found = fit(bench, Breaking(bench.model, Site(1), "water"), schedule=Schedule(epochs=4, batch=4, lr=0.05))
    assert bench.workers.given == 3
    assert [name for name, curve in found.curves.items() if "stopped" in curve] == ["water"]
    assert "'water' diverged" in " ".join(bench.warnings.messages)


def test_progress_says_how_workers_get_on(benches: Benches, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from harness.files.progress import Progress

    for module in ("loop", "spread"):
        monkeypatch.setattr(f"harness.fitting.{module}.current_progress", lambda: Progress())
    bench = benches("spread")
    fit(bench, adding(bench))
    said = capsys.readouterr().err
    assert "training adding, 3 concepts by workers" in said
    assert "training adding, concepts 2 to 2 of 3: step" in said
    assert "held out" in said


def test_what_cannot_be_sent_is_trained_here_and_said(
    benches: Benches, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from harness.files.progress import Progress

    monkeypatch.setattr("harness.fitting.loop.current_progress", lambda: Progress())
    bench = benches("spread")
    learner = adding(bench)
    learner.lock = threading.Lock()  # type: ignore[attr-defined]
    found = fit(bench, learner)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "in this process" in line]
    assert "adding" in line
    assert "lock" in line
    assert bench.workers.given == 0
    assert np.array_equal(found.parameter(VECTOR), fit(benches("alone"), adding(bench)).parameter(VECTOR))


def test_a_learner_that_changes_a_workers_model_is_found(shared: TaskBench) -> None:
    model, training = load_model(shared.model.source, device="cpu", dtype="float32"), training_set(shared)
    guard = Guard()
    guard.watch("the subject model of a worker", model.hf, lambda: None, [model.tokenizer])
    engine = GuardedEngine(TorchEngine(model), guard)
    for learner, sound in ((Adding(model, Site(1)), True), (Littering(model, Site(1)), False)):
        work = TrainWork("mine", learner, SharedTexts.of(training.texts), training.concepts[:1], SCHEDULE, 0, 1, 1024)
        if sound:
            parts = list(work.do(engine))  # type: ignore[arg-type]
            assert [isinstance(part, Underway) for _, part in parts][-1] is False
            continue
        with pytest.raises(ChangedModelError, match="the training of mine has changed the subject model of a worker"):
            list(work.do(engine))  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------------------ with processes

PLUGIN = '''
from harness.fitting.vectors import VECTOR, VectorLearner

SCALE = 2.0

class Doubling(VectorLearner):
    """Adds twice the vector."""

    def edited(self, x, rows, batch, seen):
        return x + SCALE * rows[VECTOR][:, None]
'''


def test_processes_train_what_one_process_trains(
    tiny_model_path: Path, tiny_sae_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one pool of two workers: real methods, a plugin's single file, a worker that dies, one that fails."""
    copied_workers(monkeypatch)
    from harness.files.artifacts import ArtifactCache
    from harness.files.progress import Progress
    from harness.plugin.files import import_file
    from harness.plugin.imports import ImportWatch

    task = toy_task(tmp_path / "task", conversations=True)
    text = (task / "task.toml").read_text(encoding="utf-8")
    for old, new in (("./model", tiny_model_path.as_posix()), ("./sae", tiny_sae_path.as_posix()), ("layer = 1", "layer = 2")):
        text = text.replace(old, new)
    (task / "task.toml").write_text(text, encoding="utf-8")
    plugin = tmp_path / "doubling.py"
    plugin.write_text(PLUGIN, encoding="utf-8")
    module: Any = import_file(plugin, ImportWatch())[1]

    def bench_of(cache: str, **how: Any) -> TaskBench:
        choices = Choices(device="cpu", dtype="float32", **how)
        return TaskBench(load_task(task), choices, ArtifactCache(tmp_path / cache), Progress(quiet=True))

    alone, spread = bench_of("alone"), bench_of("spread", executor="processes", workers=2)
    labelings = [Labeling(concept) for concept in alone.concepts]
    once = tmp_path / "killed"
    reft = {bench: ReftSteerer(ReftSteerOptions(epochs=2)) for bench in ("alone", "spread")}
    lora = {bench: Lora(LoraOptions(epochs=2, lr=0.01)) for bench in ("alone", "spread")}
    sft = {bench: Sft(SftOptions(epochs=1)) for bench in ("alone", "spread")}
    own, died = {}, {}
    for name, bench in (("alone", alone), ("spread", spread)):
        for method in (reft, lora, sft):
            method[name].prepare(bench, labelings)  # type: ignore[attr-defined]
        own[name] = fit(bench, module.Doubling(bench.model, Site(2)))
        if name == "alone":
            once.touch()
        died[name] = fit(bench, Deadly(bench.model, Site(2), once), schedule=Schedule(epochs=1, batch=4, lr=0.05))
        once.unlink(missing_ok=True)
    assert np.array_equal(reft["alone"]._fit.directions, reft["spread"]._fit.directions)
    assert reft["alone"].curves == reft["spread"].curves
    for one, two, file in ((lora["alone"], lora["spread"], "adapter_model.safetensors"), (sft["alone"], sft["spread"], TENSORS)):
        for concept in one._folders:
            assert (Path(one._folders[concept]) / file).read_bytes() == (Path(two._folders[concept]) / file).read_bytes()
    for fits in (own, died):
        assert contents(fits["alone"]) == contents(fits["spread"])
    executor = spread.services.executor
    facts = executor.facts()
    assert (facts["executor"], facts["workers"], facts["repeated"], facts["replaced"]) == ("processes", 2, 1, 1)
    with pytest.raises(QuarantinedError) as error:
        train_concepts(spread, Poisoned(spread.model, Site(2), "water"), training_set(spread), SCHEDULE, who="poisoned", options={})
    assert error.value.missing == ("water",)
    assert "ZeroDivisionError: a defect of the learner" in str(error.value)
    found = train_concepts(spread, Poisoned(spread.model, Site(2), "water"), training_set(spread), SCHEDULE, who="poisoned", options={})
    assert np.array_equal(found.parameter(VECTOR), fit(bench_of("again"), Adding(alone.model, Site(2))).parameter(VECTOR))
    executor.close()
