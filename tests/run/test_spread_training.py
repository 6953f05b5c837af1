"""Dictionaries that workers train: those of one process, whoever is ready first, and whatever happens on the way."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.spreading import Loopback, SpreadBench

from harness.engine.spreading.work import Underway, Work
from harness.errors import DictionaryError, StoreError
from harness.files.artifacts import KEY, MANIFEST, ArtifactCache
from harness.files.progress import Progress
from harness.interventions import Site
from harness.model.loading import SubjectModel, load_model
from harness.run import spread_training as module
from harness.run.bench import Choices
from harness.run.spread_training import DictionaryWork, train_ahead
from harness.sae.training import checkpoint
from harness.sae.training.activations import harvest
from harness.tasks.find import load_task

TABLES = """
[[train]]
name = "mini"
layer = 1
seeds = [0, 1]
snapshots = [1024]
controls = ["frozen-decoder"]
width = 48
k = 4
batch_size = 256
epochs = 2.0
fast = false
architecture = "topk"

[[ensembles]]
name = "both"
kind = "bagging"
of = "mini"

[corpus]"""
NAMES = ("sae", "both", "mini~1024", "mini@frozen-decoder")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def models(tiny_model_path: Path) -> tuple[SubjectModel, SubjectModel]:
    first, second = (load_model(tiny_model_path, device="cpu", dtype="float32") for _ in range(2))
    return first, second


@pytest.fixture
def benches(variant: Callable[..., Path], tmp_path: Path, models: tuple[SubjectModel, SubjectModel]) -> Callable[[str], SpreadBench]:
    """Benches by the name of their cache."""
    task = load_task(variant(("schema = 1\n", "schema = 3\n"), ("\n[corpus]", TABLES)))

    def make(name: str) -> SpreadBench:
        made = SpreadBench(task, Choices(device="cpu", dtype="float32"), ArtifactCache(tmp_path / name), Progress(quiet=True))
        made.model, made.workers = models[0], Loopback(*models)  # type: ignore[misc]
        return made

    return make


def trained(cache: Path) -> dict[str, Any]:
    """What lies in the artifacts of trainings; of the log what does not tell the time."""
    found: dict[str, Any] = {}
    for key in cache.glob(f"*/{KEY}"):
        for path in key.parent.rglob("*") if "trained-dictionary" in key.read_text() else ():
            name = path.relative_to(cache).as_posix()
            if path.suffix == ".jsonl":
                found[name] = [{**json.loads(line), "tokens_per_second": 0} for line in path.read_text().splitlines()]
            elif path.is_file() and path.name != MANIFEST:
                found[name] = path.read_bytes()
    return found


def ahead(bench: SpreadBench) -> None:
    train_ahead(bench, NAMES, bench.workers)


def test_what_workers_train_is_what_one_process_trains(benches: Callable[[str], SpreadBench], tmp_path: Path) -> None:
    alone, spread = benches("alone"), benches("spread")
    alone.workers = None
    ahead(alone)
    for name in ("mini", "mini@1", "mini@frozen-decoder"):
        _ = alone.dictionaries[name]
    ahead(spread)
    assert spread.workers.given == 3, "a snapshot, and the members of an ensemble, are of the trainings"
    assert trained(tmp_path / "alone") == trained(tmp_path / "spread")
    assert len([name for name in trained(tmp_path / "spread") if name.endswith("sae_weights.safetensors")]) == 5
    assert not list((tmp_path / "spread").rglob("*.workers"))
    ahead(spread)
    assert spread.workers.given == 3
    assert spread.dictionaries["mini~1024"].digest == alone.dictionaries["mini~1024"].digest


def works_of(bench: SpreadBench) -> list[DictionaryWork]:
    """The pieces of work of a bench; none is done."""
    given: list[DictionaryWork] = []

    class Noting(Loopback):
        def do(self, works: Sequence[Work]) -> Iterator[tuple[str, Any]]:
            given.extend(works)  # type: ignore[arg-type]
            return iter(())

    train_ahead(bench, NAMES, Noting(bench.model, bench.workers.engine.model))
    return given


def test_a_training_goes_on_where_a_worker_has_left_it(
    benches: Callable[[str], SpreadBench], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker has died, and then the driver, when two dictionaries were ready that it had not kept."""
    monkeypatch.setattr(checkpoint, "SECONDS", 0.0)
    monkeypatch.setattr(module, "SECONDS", 0.0)
    whole, bench = benches("whole"), benches("spread")
    ahead(whole)
    first, second, _ = works_of(bench)
    steps = first.do(bench.workers.engine)
    begun = [next(steps)[1].value for _ in range(4)]  # type: ignore[union-attr]
    steps.close()  # type: ignore[attr-defined]
    list(second.do(bench.workers.engine))
    again = [part.value for _, part in first.do(bench.workers.engine) if isinstance(part, Underway)]
    assert again[0] == begun[-1] > begun[0]
    ahead(bench)
    assert bench.workers.given == 1, "the others were ready"
    assert trained(tmp_path / "spread").keys() == trained(tmp_path / "whole").keys()
    weights = [{name: value for name, value in trained(tmp_path / cache).items() if name.endswith(".safetensors")} for cache in ("spread", "whole")]
    assert weights[0] == weights[1]


def test_two_workers_do_not_disturb_each_other(benches: Callable[[str], SpreadBench], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SECONDS", 0.0)
    bench = benches("spread")
    work = works_of(bench)[0]
    slow = work.do(bench.workers.engine)
    next(slow)
    (_, folder) = list(work.do(bench.workers.engine))[-1]
    assert sorted(path.name for path in work.scratch.iterdir() if path.is_dir()) == ["0", folder]
    module.shutil.rmtree(work.scratch)  # the driver has kept it
    assert [part for _, part in slow if not isinstance(part, Underway)] == []


def test_an_error_of_a_training_is_the_users(benches: Callable[[str], SpreadBench], monkeypatch: pytest.MonkeyPatch) -> None:
    bench = benches("spread")
    work = works_of(bench)[0]

    raised: list[Exception] = [DictionaryError("the loss is not finite"), OSError(errno.ENOSPC, "No space left on device")]

    def failing(*given: Any, **named: Any) -> Iterator[Any]:
        raise raised.pop(0)
        yield

    monkeypatch.setattr("harness.sae.training.train.training_on", failing)
    with pytest.raises(DictionaryError, match="not finite"):
        list(work.do(bench.workers.engine))
    with pytest.raises(StoreError, match="cannot train mini"):
        list(work.do(bench.workers.engine))


def test_what_workers_read_is_what_one_process_reads(
    benches: Callable[[str], SpreadBench], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The vectors to train on, and the mean vector of each text, in several shards."""
    monkeypatch.setattr("harness.sae.corpus.sweep.SHARD_TOKENS", 2048)
    monkeypatch.setattr("harness.run.model_services.ModelServices.workers", None)
    bench = benches("any")
    files, given = [], []
    for name, workers in (("here", None), ("spread", bench.workers)):
        harvest(bench.model, bench.corpus_tokens, Site(1), tmp_path / name, spread=None if workers is None else workers.do)
        monkeypatch.setattr("harness.run.model_services.ModelServices.workers", workers)
        bench.services.write_means(Site(1), bench.corpus_tokens, tmp_path / name / "means", bench.progress)
        files.append({path.relative_to(tmp_path / name): path.read_bytes() for path in (tmp_path / name).rglob("*") if path.is_file()})
        given.append(bench.workers.given)
    assert given[1] > given[0] + 5
    assert files[0] == files[1]
    assert any(path.name == "activations.f16" and content for path, content in files[0].items())
