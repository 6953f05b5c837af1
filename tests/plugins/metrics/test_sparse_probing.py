"""The sparse-probing metric: a latent that is the label scores 1, a coin's label its null, vectors are read once, protocols differ as they say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from harness_plugins.metrics.sparse_probing import SparseProbing, SparseProbingOptions, sets
from harness_plugins.metrics.sparse_probing.rows import draw_rows
from harness_plugins.metrics.sparse_probing.sets import HubSet, LabelledSet
from helpers.benches import MetricBench
from helpers.probe_data import probe_folder

import harness.model.activations
from harness.errors import DataError, OptionError, UnknownNameError
from harness.evaluations.dictionary.subjects import list_subjects, open_subject
from harness.plugin.host import PluginHost
from harness.sae.subject import DictionarySubject
from harness.types import Measurement


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return probe_folder(tmp_path / "data")


@pytest.fixture
def bench(metric_bench: Callable[..., MetricBench]) -> MetricBench:
    return metric_bench()


def metric(data: Path | str, **options: Any) -> SparseProbing:
    own = {"data": "corpus"} if data == "corpus" else {"source": str(data)}
    return SparseProbing(SparseProbingOptions(**{**own, "train_rows": 60, "test_rows": 40, "ks": (1, 2), **options}))


def measure(bench: MetricBench, made: SparseProbing, seed: int = 0) -> Measurement:
    return made.measure(bench, DictionarySubject("sae", bench.dictionaries["sae"]), seed)  # type: ignore[arg-type]


def only_latent(bench: MetricBench, w: torch.Tensor, border: float) -> None:
    """Leave the dictionary one latent: w·x − border where that is positive."""
    sae = bench.dictionaries["sae"].sae
    with torch.no_grad():
        for parameter in (sae.W_enc, sae.b_enc, sae.threshold, sae.b_dec):
            parameter.zero_()
        sae.W_enc[:, 5] = w
        sae.b_enc[5] = -border
    bench.guard.accept()


def test_a_latent_that_is_the_label_scores_one_and_none_scores_the_trivial_value(bench: MetricBench, data: Path) -> None:
    made = metric(data, sets=["person"])
    first = made._prepared(bench, 2, 0)[0][0]  # type: ignore[arg-type]
    x = torch.cat([part for part, _ in first.readings.parts()])[np.argsort(first.readings.owners)].double()
    y = torch.from_numpy(first.target).double() * 2 - 1
    w = torch.linalg.lstsq(torch.cat([x, torch.ones(len(x), 1)], dim=1), y).solution
    only_latent(bench, w[:-1].float(), -float(w[-1]))
    found = measure(bench, made)
    assert (found.value, found.parts["accuracy"], found.parts["k2"]) == (1, 1, 1)
    assert found.details["sets"]["1_person"]["k1"]["latents"] == [5]  # type: ignore[index, call-overload]
    only_latent(bench, w[:-1].float() * 0, 1.0)
    found = measure(bench, made)
    assert (found.value, found.parts["k2"], made.traits.trivial) == (0.5, 0.5, 0.5)
    assert found.parts["accuracy"] == found.trivial["accuracy"] == 0.5


def test_a_coin_is_not_found(bench: MetricBench, data: Path) -> None:
    refs = list_subjects(bench.bench, control_seeds=1)
    made = metric(data, sets=["coin"])
    for ref in refs:
        found = made.measure(bench, open_subject(bench.bench, ref, refs), 0)  # type: ignore[arg-type]
        assert 0.2 < found.value < 0.8  # type: ignore[operator]
        assert 0.2 < found.parts["channels"] < 0.8  # type: ignore[operator]


def test_sets_are_items_and_the_value_is_their_mean(bench: MetricBench, data: Path) -> None:
    warned: list[str] = []
    bench.bench.warnings = warned.append  # type: ignore[assignment]
    found = measure(bench, metric(data))
    assert set(found.per_item) == {"1_person", "2_coin"}
    assert found.value == pytest.approx(np.mean(list(found.per_item.values())))  # type: ignore[arg-type]
    assert list(found.details["left_out"]) == ["3_tiny"]  # type: ignore[arg-type]
    assert ["3_tiny" in line for line in warned] == [True]
    assert set(found.parts) == {"k2", "accuracy", "channels", "channels_k2"}
    assert found.parts["channels"] == measure(bench, metric(data, k=2)).parts["channels_k1"]


def test_vectors_are_read_once_for_all_dictionaries(bench: MetricBench, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    own = harness.model.activations.residuals

    def counting(model: Any, rows: Any, *arguments: Any, **named: Any) -> Any:
        read.append(len(rows))
        return own(model, rows, *arguments, **named)

    monkeypatch.setattr(harness.model.activations, "residuals", counting)
    refs = list_subjects(bench.bench, control_seeds=1)
    made = metric(data, sets=["person"])
    for ref in refs:
        made.measure(bench, open_subject(bench.bench, ref, refs), 0)  # type: ignore[arg-type]
    measure(bench, metric(data, sets=["person"], ks=(1,)))
    assert read == [100]


@pytest.mark.parametrize(
    "options", [{"protocol": "saebench"}, {"penalty": "l1"}, {"number": "accuracy"}, {"protocol": "saebench", "number": "auroc"}]
)
def test_protocols(bench: MetricBench, data: Path, options: dict[str, Any]) -> None:
    made = metric(data, sets=["person"], **options)
    found = measure(bench, made)
    saebench = options.get("protocol") == "saebench"
    accuracy = options.get("number", "accuracy" if saebench else "auroc") == "accuracy"
    assert made.traits.title == f"sparse probing, {'accuracy' if accuracy else 'AUROC'}, 1 latent"
    one: Any = found.details["sets"]
    assert found.value == pytest.approx(one["1_person"]["k1"]["accuracy" if accuracy else "auc"], abs=1e-6)
    assert (one["1_person"]["k1"]["c"] == 1) == saebench
    assert (found.trivial["value"] if accuracy else made.traits.trivial) == 0.5


def test_settings(bench: MetricBench, data: Path) -> None:
    found: Any = measure(bench, metric(data, sets=["person"], setting="scarcity", sizes=(4, 12), train_rows=None))
    assert [row["of"] for row in found.details["sets"]["1_person"]["k1"]] == ["4 rows", "12 rows"]
    found = measure(bench, metric(data, sets=["person"], setting="imbalance", shares=(0.2, 0.5)))
    assert [row["of"] for row in found.details["sets"]["1_person"]["k1"]] == ["0.20 positive", "0.50 positive"]
    assert found.trivial["accuracy"] == pytest.approx((0.8 + 0.5) / 2)
    found = measure(bench, metric(data, setting="ood"))
    assert list(found.per_item) == ["1_person"]
    assert found.details["sets"]["1_person"]["rows"] == [60, 20]


def test_labels_of_the_corpus(bench: MetricBench) -> None:
    found = measure(bench, metric("corpus", sets=["girl", "mom"], protocol="saebench", number="auroc"))
    assert set(found.per_item) == {"girl", "mom"}
    first = metric("corpus", sets=["girl"])._prepared(bench, 2, 0)[0][0]  # type: ignore[arg-type]
    assert first.target.mean() == pytest.approx(0.5, abs=0.02)


def test_labels_of_another_file(bench: MetricBench, tmp_path: Path) -> None:
    rows = [f"the {('big', 'red')[i % 2]} dog,{('yes', 'no')[i // 2 % 2]}" for i in range(60)]
    (tmp_path / "mine.csv").write_text("\n".join(["text,label", *rows]) + "\n", encoding="utf-8")
    made = SparseProbing(SparseProbingOptions(data="corpus", source=str(tmp_path / "mine.csv"), train_rows=30, test_rows=20, ks=(1,)))
    assert "corpus" not in made.traits.needs
    assert set(measure(bench, made).per_item) == {"yes", "no"}


def test_a_data_set_of_the_hub(bench: MetricBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder in its place: each class is held against the other listed ones, and the rest is left out."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    (tmp_path / "ds").mkdir()
    rows = [f"the {('big', 'red', 'sad')[i % 3]} dog,{(5.0, 1.0, 3.0)[i % 3]}" for i in range(90)]
    (tmp_path / "ds" / "train.csv").write_text("\n".join(["text,stars", *rows]) + "\n", encoding="utf-8")
    monkeypatch.setattr(sets, "HUB_SETS", {"stars": HubSet(f"hf:{tmp_path / 'ds'}", "text", "stars", ("1.0", "5.0"))})
    made = SparseProbing(SparseProbingOptions(data="saebench", protocol="saebench", train_rows=30, test_rows=20, ks=(1,)))
    assert set(measure(bench, made).per_item) == {"stars: 1", "stars: 5"}
    prepared = made._prepared(bench, 2, 0)[0]  # type: ignore[arg-type]
    assert [len(one.target) for one in prepared] == [50, 50]
    monkeypatch.setitem(sets.HUB_SETS, "stars", HubSet(f"hf:{tmp_path / 'ds'}", "text", "stars", ("4", "5")))
    with pytest.raises(DataError):
        measure(bench, SparseProbing(made.options))


def test_rows_are_disjoint_balanced_and_the_seeds() -> None:
    y = np.arange(500) % 5 == 0
    everything = np.arange(500)
    labelled = LabelledSet("a", [""] * 500, y, everything, everything)
    options = SparseProbingOptions(train_rows=100, test_rows=60)
    (drawn,), _ = draw_rows(labelled, options, 0)
    assert (len(drawn.train), len(drawn.test)) == (100, 60)
    assert y[drawn.train].sum() == 50
    assert y[drawn.test].sum() == 30
    assert not set(drawn.train) & set(drawn.test)
    (again,), _ = draw_rows(labelled, options, 0)
    (other,), _ = draw_rows(labelled, options, 1)
    assert (again.train == drawn.train).all()
    assert set(other.train) != set(drawn.train)
    (short,), _ = draw_rows(labelled, SparseProbingOptions(train_rows=4000, test_rows=1000), 0)
    assert (len(short.train), len(short.test)) == (160, 40)
    (default,), _ = draw_rows(labelled, SparseProbingOptions(), 0)
    assert (len(default.train), len(default.test)) == (100, 100)


def test_mistakes_are_said(bench: MetricBench, data: Path) -> None:
    with pytest.raises(UnknownNameError):
        measure(bench, metric(data, sets=["persom"]))
    with pytest.raises(DataError):
        measure(bench, metric(data / "nowhere"))
    corpus, hub = {"data": "corpus"}, {"data": "saebench"}
    for wrong in ({"k": 3, "ks": [1, 2]}, {"ks": [1, 1]}, {**corpus, "shortest": 2}, {**corpus, "setting": "ood"}, {**hub, "source": "x"}):
        with pytest.raises(OptionError):
            PluginHost.load().get("metric", "sparse-probing").create(wrong)
    found = measure(bench, metric(data, sets=["tiny"]))
    assert found.value is None
    assert "3 texts" in found.reason
    assert set(found.part_reasons) == set(found.parts)
