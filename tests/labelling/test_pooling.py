"""Pooled features and residuals: of the corpus' own texts from the one pass, of others from a pass of their own, and the same numbers."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from harness.data.texts import TextSet
from harness.errors import DataError, OptionError
from harness.evaluations.detection.texts import changed_texts, corpus_texts, text_set
from harness.labelling.pooling import learnable_labels, mean_residuals, pooled_features, texts_read
from harness.run.bench import TaskBench
from harness.tasks.schema import TaskFile
from harness.testing import toy_bench
from harness.types import Concept, Labeling


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> TaskBench:
    return toy_bench(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="module")
def report(bench: TaskBench) -> TextSet:
    return corpus_texts(bench, "report")


def unplaced(texts: TextSet) -> TextSet:
    return text_set("copy", list(texts.texts), list(texts.tokens))


def reference(bench: TaskBench, text: TextSet, place: int) -> torch.Tensor:
    """Feature activations ``[tokens, features]`` of one text by a plain forward pass of the whole model, first token and outliers left out."""
    with torch.no_grad():
        hidden = bench.model.hf(input_ids=torch.tensor(text.tokens[place])[None], output_hidden_states=True).hidden_states
    x = hidden[bench.site.layer + 1][0, 1:]
    norms = x.norm(dim=-1)
    return bench.dictionaries["sae"].encode(x[norms <= 10 * norms.median()])


@pytest.mark.parametrize("pool", ["frequency", "max", "mean"])
def test_both_ways_give_what_the_definition_says(bench: TaskBench, report: TextSet, pool: str) -> None:
    features = [int(feature) for feature in np.argsort(-bench.statistics().fired)[:12]]
    pooled = pooled_features(bench, "sae", features, report, pool)
    again = pooled_features(bench, "sae", features, unplaced(report), pool)
    assert pooled.shape == (12, len(report))
    np.testing.assert_allclose(again, pooled, rtol=1e-4, atol=1e-5)
    assert (pooled > 0).any()
    for place in range(len(report)):
        f = reference(bench, report, place)[:, features]
        expected = {"frequency": (f > 0).double().mean(dim=0), "max": f.max(dim=0).values, "mean": f.mean(dim=0)}[pool]
        np.testing.assert_allclose(pooled[:, place], expected.numpy(), rtol=1e-4, atol=1e-5)


def test_mean_residuals_both_ways_and_without_a_dictionary(bench: TaskBench, report: TextSet) -> None:
    means = mean_residuals(bench, report)
    np.testing.assert_allclose(mean_residuals(bench, unplaced(report)), means, rtol=1e-4, atol=1e-5)
    steering = bench.task.file.steering.model_copy(update={"layer": 1})
    without: TaskFile = bench.task.file.model_copy(update={"dictionaries": (), "steering": steering})
    bare = replace(bench, task=replace(bench.task, file=without))
    np.testing.assert_allclose(mean_residuals(bare, unplaced(report)), means, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(mean_residuals(bare, report), means, rtol=1e-4, atol=1e-5)


def test_a_pass_over_other_texts_is_made_once(bench: TaskBench, report: TextSet) -> None:
    texts = changed_texts(bench, "changed", ["A piano.", "No river, no lake."])
    before = {path.name for path in bench.artifacts.root.iterdir()}
    first = pooled_features(bench, "sae", [1, 2], texts, "max")
    made = {path.name for path in bench.artifacts.root.iterdir()} - before
    assert len([name for name in made if not name.endswith(".lock")]) == 1
    renamed = replace(texts, name="another name")
    assert (pooled_features(bench, "sae", [2, 1], renamed, "max") == first[::-1]).all()
    assert {path.name for path in bench.artifacts.root.iterdir()} - before == made
    assert texts.digest != changed_texts(bench, "changed", ["A piano.", "No river, no lake!"]).digest


def test_an_unknown_pool_is_refused(bench: TaskBench, report: TextSet) -> None:
    with pytest.raises(OptionError):
        pooled_features(bench, "sae", [1], report, "median")  # type: ignore[arg-type]


def test_texts_are_read_as_far_as_the_model_reads_them(variant: Callable[..., Path], cache_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.run.bench import Choices, open_bench
    from harness.tasks.find import load_task

    monkeypatch.setenv("HARNESS_CACHE", str(cache_folder))
    folder = variant(('source = "corpus.jsonl"', 'source = "corpus.jsonl"\nmax_tokens = 20'))
    short = open_bench(load_task(folder), Choices(device="cpu", dtype="float32"), quiet=True)
    places = np.arange(len(short.corpus))
    for place, text in enumerate(texts_read(short, places)):
        whole = short.corpus[place].text
        assert whole.strip().startswith(text.strip())
        assert len(short.model.encode(text)) <= 21
        assert (len(text.strip()) < len(whole.strip())) == (len(short.model.encode(whole)) > 20)


def test_what_cannot_be_learned_is_said(bench: TaskBench, tmp_path: Path) -> None:
    labelings = [Labeling(concept) for concept in bench.concepts]
    assert learnable_labels(bench, [*labelings, *labelings], "it") == ["bread", "music", "water"]
    with pytest.raises(DataError):
        learnable_labels(bench, [Labeling(Concept("bare", "a bare name"))], "it")
    with pytest.raises(DataError):
        learnable_labels(bench, [Labeling(Concept("gone", "gone", "gone"))], "it")
    folder = toy_bench(tmp_path).task.folder
    rows = [json.loads(line) for line in (folder / "corpus.jsonl").read_text(encoding="utf-8").splitlines()]
    (folder / "corpus.jsonl").write_text("".join(json.dumps({**row, "labels": ["all"]}) + "\n" for row in rows), encoding="utf-8")
    with pytest.raises(DataError):
        learnable_labels(toy_bench(tmp_path), [Labeling(Concept("all", "all", "all"))], "it")
