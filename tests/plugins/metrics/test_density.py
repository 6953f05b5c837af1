"""The density metric: a plain count of how often features fire."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from helpers.benches import MetricBench

from harness.errors import OptionError
from harness.measuring.texts import sample_texts
from harness.plugin.host import PluginHost
from harness.sae.subject import DictionarySubject
from harness.types import Measurement


def measure(bench: MetricBench, seed: int = 0, **options: Any) -> Measurement:
    metric = PluginHost.load().get("metric", "density").create({"max_tokens": 900, **options})
    found: Measurement = metric.measure(bench, DictionarySubject("sae", bench.dictionaries["sae"]), seed)
    return found


@pytest.mark.parametrize("dense", [0.1, 0.02])
def test_frequencies_are_counted(metric_bench: Callable[..., MetricBench], dense: float) -> None:
    bench = metric_bench()
    x = torch.cat([vectors for _, vectors in bench.activations(texts=sample_texts(bench, 900, 0))])
    frequency = (bench.dictionaries["sae"].encode(x) > 0).double().mean(dim=0).numpy()
    live = frequency[frequency > 0]
    found = measure(bench, dense=dense, quantiles=[0.5, 0.9])
    assert found.value == pytest.approx((frequency > dense).mean(), abs=1 / 512)
    assert found.parts["dead"] == pytest.approx((frequency == 0).mean(), abs=1 / 512)
    assert found.parts["median"] == pytest.approx(np.median(live), abs=2 / len(x))
    assert found.details["quantiles"] == pytest.approx({"0.5": np.quantile(live, 0.5), "0.9": np.quantile(live, 0.9)}, abs=2 / len(x))
    listed = found.details["densest"]
    assert len(listed) == min(20, found.details["n_dense"])
    assert all(value == pytest.approx(frequency[feature], abs=2 / len(x)) for feature, value in listed)
    assert [value for _, value in listed] == sorted((value for _, value in listed), reverse=True)


def test_two_metrics_share_one_pass(metric_bench: Callable[..., MetricBench]) -> None:
    bench = metric_bench()
    measure(bench)
    n = bench.n_read
    PluginHost.load().get("metric", "reconstruction").create({"max_tokens": 900, "spliced_tokens": 0}).measure(
        bench, DictionarySubject("sae", bench.dictionaries["sae"]), 0
    )
    assert bench.n_read == n


def test_a_dictionary_that_never_fires(metric_bench: Callable[..., MetricBench]) -> None:
    bench = metric_bench()
    bench.dictionaries["sae"].sae.threshold.data.fill_(1e9)
    bench.guard.accept()
    found = measure(bench)
    assert (found.value, found.parts["dead"], found.parts["median"]) == (0, 1, None)
    assert found.part_reasons["median"]
    assert found.details["quantiles"] == {}


@pytest.mark.parametrize("wrong", [{"dense": "0"}, {"dense": "1"}, {"max_tokens": "0"}, {"quantiles": "0.5,1.5"}])
def test_options_out_of_bounds_are_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(OptionError) as error:
        PluginHost.load().get("metric", "density").create(wrong)
    assert all(name in str(error.value) for name in wrong)
