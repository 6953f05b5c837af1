"""Reading by workers: what is made of each text is what one process makes, to the last bit, in as many pieces as there are forward passes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.spreading import Loopback, SpreadBench

import harness.sae.corpus.sweep as sweep_module
from harness.data.texts import TextSet
from harness.errors import ModelError
from harness.evaluations.detection.texts import corpus_texts
from harness.fitting.directions import Fit, scores
from harness.fitting.reading import reduced
from harness.fitting.texts import concept_texts
from harness.fitting.tokens import token_activations
from harness.interventions import Site
from harness.model.loading import load_model
from harness.run.bench import TaskBench
from harness.testing import toy_bench
from harness.types import Labeling, rng

Benches = Callable[[bool], SpreadBench]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> TaskBench:
    return toy_bench(tmp_path_factory.mktemp("toy"))


@pytest.fixture
def benches(shared: TaskBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Benches:
    """A bench with workers or without, each with a cache of its own, empty but for tokens and split of the corpus; forward passes are small."""
    monkeypatch.setattr(sweep_module, "BUDGET", 200)
    for function in (sweep_module.sweep, sweep_module.sweep_shards):
        monkeypatch.setattr(function, "__kwdefaults__", {**(function.__kwdefaults__ or {}), "token_budget": 200})

    def make(spread: bool) -> SpreadBench:
        made = SpreadBench(shared.task, shared.choices, type(shared.artifacts)(tmp_path / str(spread)), shared.progress)
        made.model, made.corpus_tokens, made.split = shared.model, shared.corpus_tokens, shared.split  # type: ignore[misc, assignment]
        if spread:
            made.workers = Loopback(shared.model, load_model(shared.model.source, device="cpu", dtype="float32"))
        return made

    return make


def directions(bench: TaskBench) -> Fit:
    drawn = rng(0, "directions").standard_normal((3, bench.model.d_model))
    return Fit(("a", "b", "c"), drawn / np.linalg.norm(drawn, axis=1, keepdims=True), np.arange(3.0), np.ones(3))


@pytest.mark.parametrize(("pool", "relu"), [("max", True), ("mean", False)])
def test_scores_are_those_of_one_process(benches: Benches, pool: str, relu: bool) -> None:
    alone, spread = benches(False), benches(True)
    texts = corpus_texts(alone, "report")
    found, expected = (scores(bench, Site(1), directions(bench), texts, pool, relu=relu) for bench in (spread, alone))  # type: ignore[arg-type]
    assert np.array_equal(found, expected)
    assert spread.workers.given > 2
    assert len(np.unique(expected)) > len(texts)


def test_a_text_without_a_token_that_counts_is_said(benches: Benches) -> None:
    spread = benches(True)
    whole = corpus_texts(spread, "report")
    texts = TextSet("some", "some", ["", *whole.texts], [whole.tokens[0][:1], *whole.tokens])
    found = scores(spread, Site(1), directions(spread), texts, "max")
    assert found[:, 0].tolist() == [0.0, 1.0, 2.0]
    assert "1 of" in spread.warnings.messages[-1]


def test_vectors_of_tokens_are_those_of_one_process(benches: Benches) -> None:
    found = []
    for spread in (False, True):
        bench = benches(spread)
        texts = concept_texts(bench, [Labeling(concept) for concept in bench.concepts], "a test")
        kept = token_activations(bench, Site(1), texts)
        found.append((kept.places.tobytes(), kept.offsets.tobytes(), kept._bits.tobytes()))
    assert found[0] == found[1]
    assert bench.workers.given > 2


def test_what_cannot_be_sent_is_read_here_and_said(benches: Benches, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from harness.files.progress import Progress

    monkeypatch.setattr("harness.fitting.reading.current_progress", lambda: Progress())
    bench, lock = benches(True), threading.Lock()

    def length(x: torch.Tensor) -> Any:
        with lock:
            return np.array(len(x))

    texts = corpus_texts(bench, "report")
    found = dict(reduced(bench, Site(1), texts, length))
    assert [int(found[place]) for place in range(len(texts))] == [len(ids) - bench.skip for ids in texts.tokens]
    assert bench.workers.given == 0
    assert "report are read in this process" in capsys.readouterr().err


def test_an_error_names_the_text_that_it_is_about(benches: Benches) -> None:
    """The same one, whoever reads it: the place in the set, not the one in a worker's piece."""
    said = []
    for spread in (False, True):
        bench = benches(spread)
        texts = corpus_texts(bench, "report")
        model = bench.workers.engine.model if spread else bench.model
        longest = max(len(ids) for ids in texts.tokens)

        def spoil(module: Any, arguments: Any, output: Any, longest: int = longest) -> Any:
            hidden = output[0] if isinstance(output, tuple) else output
            if hidden.shape[1] == longest:
                hidden[:] = float("nan")
            return output

        handle = model.layers[1].register_forward_hook(spoil)
        try:
            with pytest.raises(ModelError) as error:
                scores(bench, Site(1), directions(bench), texts, "max")
        finally:
            handle.remove()
        said.append(str(error.value))
    assert said[0] == said[1]
