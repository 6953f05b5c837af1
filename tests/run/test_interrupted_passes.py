"""Passes of the model over texts are stopped in the middle, and go on: what they keep is that of an undisturbed pass, byte for byte."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.data.examples import corpus_texts
from harness.data.texts import TextSet
from harness.files.artifacts import ArtifactCache
from harness.files.progress import Progress
from harness.files.shards import ShardedFiles
from harness.interventions import Site
from harness.measuring import passes, vectors
from harness.run.bench import Choices, TaskBench
from harness.sae.corpus import sweep
from harness.sae.corpus.collect import measure
from harness.sae.training.activations import harvest
from harness.tasks.find import load_task

Make = Callable[[TaskBench, Path], object]


def means(bench: TaskBench, folder: Path) -> None:
    bench.services.write_means(bench.site, bench.corpus_tokens, folder, bench.progress)


def kept(bench: TaskBench, folder: Path) -> None:
    vectors.kept_vectors(_Into(bench, folder), 2, whole_corpus(bench))  # type: ignore[arg-type]


def training(bench: TaskBench, folder: Path) -> None:
    harvest(bench.model, bench.corpus_tokens, Site(2), folder)


def statistics(bench: TaskBench, folder: Path) -> None:
    measure(bench.model, bench.dictionaries["sae"], bench.corpus_tokens, folder)


class _Into:
    """A bench whose artifacts of one kind are made in a folder."""

    def __init__(self, bench: TaskBench, folder: Path) -> None:
        self._bench, self._folder = bench, folder

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bench, name)

    def artifact(self, key: Any, compute: Callable[[Path], None]) -> Path:
        compute(self._folder)
        return self._folder


def whole_corpus(bench: TaskBench) -> TextSet:
    places = bench.split.train
    return TextSet("train", bench.split.digest, corpus_texts(bench.corpus, places), [bench.corpus_tokens[int(place)] for place in places], places)


@pytest.fixture
def bench(tiny_task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TaskBench:
    """With shards of one forward pass, so that the tiny corpus has some."""
    monkeypatch.setattr(sweep, "SHARD_TOKENS", 1)
    monkeypatch.setattr("harness.sae.corpus.collect.SHARD_PASSES", 1)
    cache = ArtifactCache(tmp_path / "artifacts")
    return TaskBench(load_task(tiny_task), Choices(device="cpu", dtype="float32"), cache, Progress(quiet=True))


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def forward_passes(bench: TaskBench, work: Callable[[], object]) -> int:
    calls: list[int] = []
    handle = bench.model.layers[0].register_forward_pre_hook(lambda *_: calls.append(1))
    try:
        work()
    finally:
        handle.remove()
    return len(calls)


@pytest.mark.parametrize("make", [means, kept, training, statistics], ids=lambda make: make.__name__)
def test_an_interrupted_pass_goes_on(make: Make, bench: TaskBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir(), parts.mkdir()
    assert len(bench.split.train)  # what all of them need is there
    in_all = forward_passes(bench, lambda: make(bench, whole))
    append, commits = ShardedFiles.append, [0]

    def interrupted(self: ShardedFiles, *arguments: Any) -> None:
        append(self, *arguments)
        commits[0] += 1
        raise KeyboardInterrupt

    def stopped() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(ShardedFiles, "append", interrupted)
            with pytest.raises(KeyboardInterrupt):
                make(bench, parts)

    first = forward_passes(bench, stopped)
    assert commits == [1]
    assert 0 < first < in_all
    assert forward_passes(bench, lambda: make(bench, parts)) == in_all - first
    assert content(parts) == content(whole)


def test_counting_goes_on(bench: TaskBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass over kept vectors reads none of the model; a wide dictionary takes its time all the same."""
    monkeypatch.setattr(vectors, "TOKENS_AT_ONCE", 100)
    texts, dictionary = whole_corpus(bench), bench.dictionaries["sae"]
    whole = passes.reading_pass(_Into(bench, _made(tmp_path / "whole")), dictionary, texts)  # type: ignore[arg-type]
    keep, parts = passes._keep_counts, _Into(bench, _made(tmp_path / "parts"))

    def interrupted(*arguments: Any, **more: Any) -> None:
        keep(*arguments, **more)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(passes, "_keep_counts", interrupted)
        with pytest.raises(KeyboardInterrupt):
            passes.reading_pass(parts, dictionary, texts)  # type: ignore[arg-type]
    tokens: list[int] = []
    counted = vectors.KeptVectors.following
    monkeypatch.setattr(vectors.KeptVectors, "following", lambda self, n: (tokens.append(n), counted(self, n))[1])
    found = passes.reading_pass(parts, dictionary, texts)  # type: ignore[arg-type]
    assert tokens == [400, 0]  # what is left, and all once more: their spread about the mean, which nobody knows before
    assert (found.l0, found.explained_variance, found.mean.tolist()) == (whole.l0, whole.explained_variance, whole.mean.tolist())
    assert found.fired.tolist() == whole.fired.tolist()
    assert (found.errors.tolist(), found.variances.tolist()) == (whole.errors.tolist(), whole.variances.tolist())
    assert found.errors.sum() / found.variances.sum() == pytest.approx(1 - found.explained_variance)
    assert not (tmp_path / "parts" / "so-far.npz").exists()


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
