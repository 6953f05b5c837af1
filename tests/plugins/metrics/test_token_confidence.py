"""The token-confidence metric: the mean of what the library function gives for each latent, beside random directions of the same length."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from harness_plugins.metrics.token_confidence import TokenConfidence, TokenConfidenceOptions
from helpers.benches import MetricBench

from harness.sae.causal import confidence_changes
from harness.sae.subject import DictionarySubject
from harness.types import Measurement


def measure(bench: MetricBench, seed: int = 0, **options: Any) -> Measurement:
    made = TokenConfidence(TokenConfidenceOptions(**{"latents": 30, **options}))
    return made.measure(bench, DictionarySubject("sae", bench.dictionaries["sae"]), seed)  # type: ignore[arg-type]


def test_latents_are_items_and_the_value_is_their_mean(metric_bench: Callable[..., MetricBench]) -> None:
    bench = metric_bench()
    found = measure(bench)
    drawn = [int(latent) for latent in found.per_item]
    plain = np.abs(confidence_changes(bench.model, bench.dictionaries["sae"], drawn))
    assert list(found.per_item.values()) == pytest.approx(plain.tolist(), abs=1e-5)
    assert found.value == pytest.approx(plain.mean(), abs=1e-5)
    assert set(measure(bench, 1).per_item) != set(found.per_item)


@pytest.mark.parametrize("others", ["zero", "keep"])
def test_a_dictionary_of_random_directions_is_its_own_null(metric_bench: Callable[..., MetricBench], others: str) -> None:
    bench = metric_bench()
    sae = bench.dictionaries["sae"].sae
    rows = torch.randn(sae.W_dec.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        sae.W_dec.copy_(rows / rows.norm(dim=-1, keepdim=True) * sae.W_dec.norm(dim=-1, keepdim=True))
    bench.guard.accept()
    found = measure(bench, latents=200, others=others)
    assert found.value == pytest.approx(found.parts["random_direction"], rel=0.4)
    assert found.parts["stronger"] == pytest.approx(0.05, abs=0.1)


def test_directions_take_the_place_of_rows(metric_bench: Callable[..., MetricBench]) -> None:
    bench = metric_bench()
    dictionary = bench.dictionaries["sae"]
    rows = dictionary.columns([3, 4]).rows
    same = confidence_changes(bench.model, dictionary, [3, 4], directions=rows * 7)
    assert same == pytest.approx(confidence_changes(bench.model, dictionary, [3, 4]), abs=1e-5)
    swapped = confidence_changes(bench.model, dictionary, [4, 3], directions=rows.flip(0))
    assert swapped[::-1] == pytest.approx(same, abs=1e-5)


def test_a_dictionary_that_never_fires_has_nothing_to_amplify_by(metric_bench: Callable[..., MetricBench]) -> None:
    bench = metric_bench()
    bench.dictionaries["sae"].sae.threshold.data.fill_(1e9)
    bench.guard.accept()
    found = measure(bench)
    assert found.value is None
    assert "no feature" in found.reason
    assert measure(bench, unit="one").value is not None
