"""Dictionaries of [[train]]: trained when they are first used, once, on their own texts, and found again by later runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.benches import MetricBench

from harness.errors import DataError, ModelError, UnknownNameError
from harness.files.progress import Progress
from harness.model.token_file import write_token_file
from harness.run import trained as module
from harness.run.trained import trained
from harness.run.training_data import training_texts
from harness.sae.corpus.counts import Meter
from harness.sae.training.config import TrainConfig
from harness.sae.training.frozen import random_part
from harness.tasks.dictionaries import TrainTable

SETTINGS: dict[str, Any] = {"layer": 1, "width": 96, "k": 8, "batch_size": 256, "epochs": 8.0, "fast": False}
TOML = "".join(f"{name} = {str(value).lower()}\n" for name, value in SETTINGS.items())


@pytest.fixture
def trains(variant: Callable[..., Path]) -> Path:
    table = f'\n[[train]]\nname = "mini"\nseeds = [0, 1]\n{TOML}\n[corpus]'
    return variant(("schema = 1\n", "schema = 2\n"), ("\n[corpus]", table))


def counting(monkeypatch: pytest.MonkeyPatch, name: str) -> list[Any]:
    """What the training module's helper is called with from now on."""
    calls: list[Any] = []
    real = getattr(module, name)

    def counted(*arguments: Any) -> Any:
        calls.append(arguments)
        return real(*arguments)

    monkeypatch.setattr(module, name, counted)
    return calls


def test_a_task_trains_what_is_used_and_nothing_else(
    metric_bench: Callable[..., MetricBench], trains: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fits = counting(monkeypatch, "fitted")
    bench = metric_bench(trains).bench
    assert list(bench.dictionaries) == ["sae", "mini", "mini@1"]
    assert len(bench.dictionaries) == 3
    assert "mini@1" in bench.dictionaries
    assert "mini@2" not in bench.dictionaries
    assert bench.dictionaries["sae"].d_sae == 512
    assert fits == []
    mini = bench.dictionaries["mini"]
    assert (mini.d_in, mini.d_sae, mini.layer, len(fits)) == (64, 96, 1, 1)
    assert bench.dictionaries["mini"] is mini
    assert mini.cfg["metadata"]["harness_training"]["seed"] == 0
    assert "mini" in mini.source
    again = metric_bench(trains).bench  # another run with the same cache
    assert again.dictionaries["mini"] == mini
    assert len(fits) == 1
    assert again.dictionaries["mini@1"] != mini
    assert len(fits) == 2
    with pytest.raises(KeyError):
        bench.dictionaries["mini@2"]


def test_a_trained_dictionary_does_what_it_was_trained_for(metric_bench: Callable[..., MetricBench], trains: Path) -> None:
    from harness.interventions import Site

    bench = metric_bench(trains)
    meter = Meter(bench.dictionaries["mini"])
    for _, x in bench.activations(Site(1)):
        meter.count(x)
    assert meter.l0 == pytest.approx(8, rel=0.15)
    assert meter.explained_variance > 0.5
    assert bench.statistics("mini").l0 == pytest.approx(meter.l0)


def test_names_reach_methods(metric_bench: Callable[..., MetricBench], trains: Path, variant: Callable[..., Path]) -> None:
    bench = metric_bench(trains).bench
    assert bench.dictionary_name() == "sae"
    assert bench.dictionary_name("mini@1") == "mini@1"
    with pytest.raises(UnknownNameError) as error:
        bench.dictionary_name("mini@3")
    assert error.value.known == ("sae", "mini", "mini@1")
    alone = variant(
        ("schema = 1\n", "schema = 2\n"), ("[[dictionaries]]\n", ""), ("layer = 2\n", ""),
        ("source = \"" + str(bench.task.file.dictionaries[0].source) + "\"\n", f'[[train]]\nname = "mini"\n{TOML}'), name="alone",
    )  # fmt: skip
    only = metric_bench(alone).bench
    assert (only.site.layer, only.dictionary_name()) == (1, "mini")


def test_all_seeds_share_one_pass_of_the_model(metric_bench: Callable[..., MetricBench], monkeypatch: pytest.MonkeyPatch) -> None:
    bench = metric_bench()
    forwards: list[int] = []
    handle = bench.model.layers[0].register_forward_pre_hook(lambda *_: forwards.append(1))
    try:
        table = TrainTable(name="mini", seeds=(0, 1), **SETTINGS)
        progress = Progress(quiet=True)
        one = trained(bench, table, "mini", 0, progress)
        n = len(forwards)
        other = trained(bench, table, "mini@1", 1, progress)
        topk = trained(bench, table.model_copy(update={"architecture": "topk"}), "mini", 0, progress)
    finally:
        handle.remove()
    assert n > 0
    assert len(forwards) == n
    assert len({one.digest, other.digest, topk.digest}) == 3
    assert topk.architecture == "topk"


def test_texts_are_those_of_the_train_part_within_the_limit(metric_bench: Callable[..., MetricBench]) -> None:
    bench = metric_bench()
    lengths = np.array([len(row) for row in bench.corpus_tokens])
    table = TrainTable(name="mini", layer=1)
    assert training_texts(bench, table).tolist() == [place for place in bench.split.train if lengths[place] > 1]
    everything = training_texts(bench, table.model_copy(update={"texts": "all"}))
    assert everything.tolist() == np.flatnonzero(lengths > 1).tolist()
    some = training_texts(bench, table.model_copy(update={"max_tokens": 1000}))
    assert set(some.tolist()) < set(bench.split.train.tolist())
    assert 900 < int((lengths[some] - 1).sum()) <= 1000
    assert training_texts(bench, table.model_copy(update={"max_tokens": 1000, "seeds": (1,)})).tolist() != some.tolist()
    with pytest.raises(DataError) as error:
        training_texts(bench, table.model_copy(update={"max_tokens": 1}))
    assert error.value.given == "mini"
    assert "max_tokens" in error.value.hint


def test_the_split_is_part_of_what_was_trained(metric_bench: Callable[..., MetricBench], monkeypatch: pytest.MonkeyPatch) -> None:
    fits = counting(monkeypatch, "fitted")
    bench = metric_bench()
    table, progress = TrainTable(name="mini", architecture="topk", **SETTINGS), Progress(quiet=True)
    trained(bench, table, "mini", 0, progress)
    trained(bench, table, "mini", 0, progress)
    assert len(fits) == 1
    bench.split = type(bench.split)(bench.split.train[:-5], bench.split.threshold, bench.split.report)
    trained(bench, table, "mini", 0, progress)
    assert len(fits) == 2


def test_a_training_that_was_stopped_is_done_again(metric_bench: Callable[..., MetricBench], monkeypatch: pytest.MonkeyPatch) -> None:
    bench = metric_bench()
    table, progress = TrainTable(name="mini", **SETTINGS), Progress(quiet=True)
    real = module.fitted

    def stopped(*arguments: Any) -> None:
        real(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "fitted", stopped)
        with pytest.raises(KeyboardInterrupt):
            trained(bench, table, "mini", 0, progress)
    assert trained(bench, table, "mini", 0, progress).d_sae == 96


def test_a_control_is_trained_on_the_same_activations(metric_bench: Callable[..., MetricBench], monkeypatch: pytest.MonkeyPatch) -> None:
    bench = metric_bench()
    harvests: list[Any] = []
    real = module.fitted
    monkeypatch.setattr(module, "fitted", lambda *arguments: harvests.append(arguments[3]) or real(*arguments))
    table, progress = TrainTable(name="mini", controls=("frozen-decoder",), **SETTINGS), Progress(quiet=True)
    plain, frozen = (trained(bench, table, "mini", 0, progress, control=control) for control in ("none", "frozen-decoder"))
    assert harvests[0] == harvests[1]
    rows = frozen.sae.W_dec / frozen.sae.W_dec.norm(dim=-1, keepdim=True)
    config = TrainConfig(**table.settings, control="frozen-decoder")
    torch.testing.assert_close(rows, random_part(config, 64, None), rtol=1e-5, atol=1e-6)
    assert frozen.digest != plain.digest
    assert trained(bench, table, "mini", 0, progress, control="frozen-decoder") == frozen
    assert len(harvests) == 2


def test_a_file_of_token_ids_takes_the_place_of_the_corpus(
    metric_bench: Callable[..., MetricBench], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = metric_bench()
    rows = [list(bench.corpus_tokens[place]) for place in range(40)]
    path = tmp_path / "tokens.npz"
    write_token_file(path, bench.model, rows, 1, "forty texts")
    fits = counting(monkeypatch, "fitted")
    table, progress = TrainTable(name="mini", tokens=str(path), architecture="topk", **{**SETTINGS, "epochs": 2.0}), Progress(quiet=True)
    made = trained(bench, table, "mini", 0, progress)
    metadata = made.cfg["metadata"]
    assert metadata["dataset_path"] == "forty texts"
    assert metadata["harness_training"]["texts"] == 40
    bench.split = type(bench.split)(bench.split.train[:-5], bench.split.threshold, bench.split.report)
    assert trained(bench, table, "mini", 0, progress) == made
    assert len(fits) == 1, "the corpus is no part of it"
    some = trained(bench, table.model_copy(update={"max_tokens": 800}), "mini", 0, progress)
    assert 0 < some.cfg["metadata"]["harness_training"]["distinct_tokens"] <= 800
    write_token_file(path, bench.model, rows[:-1], 1)
    assert trained(bench, table, "mini", 0, progress) != made
    path.unlink()
    with pytest.raises(DataError) as error:
        trained(bench, table, "mini", 0, progress)
    assert str(path) in str(error.value)


def test_a_layer_that_the_model_lacks_is_refused_before_anything_is_read(metric_bench: Callable[..., MetricBench]) -> None:
    with pytest.raises(ModelError) as error:
        trained(metric_bench(), TrainTable(name="mini", **{**SETTINGS, "layer": 9}), "mini", 0, Progress(quiet=True))
    assert "layer 9" in str(error.value)
