"""Recovery of true features: the truth scores 1, half of it a half, random directions nothing; SAELens' MCC as oracle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.synthetic import DIMS, FEATURES, by_hand, open_known

from harness.errors import OptionError
from harness.evaluations.dictionary.subjects import list_subjects, open_subject
from harness.plugin.host import PluginHost
from harness.run.bench import TaskBench
from harness.sae.dictionary import Dictionary
from harness.sae.subject import DictionarySubject
from harness.testing import check_metric
from harness.types import Measurement


def measure(bench: TaskBench, dictionary: Dictionary, **options: Any) -> Measurement:
    metric = PluginHost.load().get("metric", "recovery").create({"samples": 2048, **options})
    assert bench.synthetic is not None
    found: Measurement = metric.measure(bench, DictionarySubject("sae", dictionary, truth=bench.synthetic.truth), 0)
    return found


@pytest.fixture
def bench(tmp_path: Path) -> TaskBench:
    return open_known(tmp_path)


def test_the_truth_scores_one(bench: TaskBench) -> None:
    assert bench.synthetic is not None
    truth = bench.synthetic.truth
    found = measure(bench, by_hand(truth[torch.randperm(FEATURES)] * 3))  # order and length of rows mean nothing
    assert found.value == 1
    assert [found.parts["max_cosine"], found.parts["mcc"]] == pytest.approx([1, 1], abs=1e-5)
    assert set(found.per_item.values()) == {1.0}
    assert found.details["recovered"] == FEATURES


def test_it_keeps_the_contract(bench: TaskBench) -> None:
    refs = list_subjects(bench, ["mini"], control_seeds=1)
    metric = PluginHost.load().get("metric", "recovery")
    found = check_metric(lambda: metric.create({"samples": "2048"}), bench, open_subject(bench, refs[0], refs))
    assert found.value is not None


def test_half_of_the_truth_scores_a_half_where_it_lies(bench: TaskBench) -> None:
    assert bench.synthetic is not None
    source = bench.synthetic
    often = source.probabilities.argsort(descending=True)[: FEATURES // 2]
    rows = torch.cat([source.truth[often], -source.truth[often]])  # the opposite of a feature is none
    found = measure(bench, by_hand(rows), cosine=0.95)
    assert found.value == 0.5
    assert len(found.per_item) == 10
    shares = list(found.per_item.values())
    assert (shares[0], shares[-1]) == (0, 1)


def test_saelens_finds_the_same(bench: TaskBench) -> None:
    from sae_lens.synthetic import FeatureDictionary, mean_correlation_coefficient
    from sae_lens.synthetic.evals import eval_sae_on_synthetic_data

    assert bench.synthetic is not None
    source = bench.synthetic
    random = torch.randn(FEATURES + 5, DIMS, generator=torch.Generator().manual_seed(1))
    dictionary = by_hand(random / random.norm(dim=-1, keepdim=True))
    found = measure(bench, dictionary)
    assert found.parts["mcc"] == pytest.approx(mean_correlation_coefficient(source.truth, dictionary.sae.W_dec), abs=1e-5)
    assert float(found.parts["mcc"] or 0) < 0.8
    features = FeatureDictionary(FEATURES, DIMS, initializer=None)
    features.feature_vectors.data = source.truth
    torch.manual_seed(0)
    theirs = eval_sae_on_synthetic_data(dictionary.sae, features, source._model.activation_generator, num_samples=8192)
    assert found.parts["ev"] == pytest.approx(theirs.explained_variance, abs=0.05)  # other draws of the same source
    assert found.parts["l0"] == pytest.approx(theirs.sae_l0, rel=0.05)
    assert found.details["true_l0"] == pytest.approx(theirs.true_l0, rel=0.05)


def test_a_dictionary_that_never_fires(bench: TaskBench) -> None:
    found = measure(bench, by_hand(torch.eye(DIMS), threshold=1e9))
    assert (found.parts["l0"], found.parts["dead"]) == (0, 1)
    assert found.parts["ev"] == pytest.approx(0, abs=0.5)  # its bias is 0, not the mean


@pytest.mark.parametrize("wrong", [{"cosine": "1"}, {"cosine": "0"}, {"samples": "1"}])
def test_options_out_of_bounds_are_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(OptionError):
        PluginHost.load().get("metric", "recovery").create(wrong)
