"""The dense metric: made-up latents that follow the position, the main direction or the text's start are told apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from harness_plugins.metrics.dense import Dense, DenseOptions, _correlations
from helpers.benches import MetricBench

from harness.measuring.readings import every_token
from harness.measuring.texts import sample_texts
from harness.sae.subject import DictionarySubject
from harness.types import Measurement


def measure(bench: MetricBench, seed: int = 0, **options: Any) -> Measurement:
    made = Dense(DenseOptions(**{"max_tokens": 900, "entropy_tokens": 300, **options}))
    return made.measure(bench, DictionarySubject("sae", bench.dictionaries["sae"]), seed)  # type: ignore[arg-type]


def test_correlations_are_numpys(metric_bench: Callable[..., MetricBench]) -> None:
    bench = metric_bench()
    texts = sample_texts(bench, 900, 0)  # type: ignore[arg-type]
    readings = every_token(bench, 2, texts.tokens)  # type: ignore[arg-type]
    n, dictionary = readings.vectors.n, bench.dictionaries["sae"]
    draw = np.random.default_rng(0)
    targets = draw.normal(size=(2, n)) + 100
    targets[1, : n // 2] = np.nan
    found = _correlations(dictionary, readings, np.array([0, 3, 9]), targets)
    f = dictionary.encode(torch.cat([x for x, _ in readings.parts()])).numpy()[:, [0, 3, 9]]
    for row, latent in enumerate(f.T):
        if latent[n // 2 :].std() > 0:
            assert found[row, 0] == pytest.approx(np.corrcoef(latent, targets[0])[0, 1], abs=1e-4)
            assert found[row, 1] == pytest.approx(np.corrcoef(latent[n // 2 :], targets[1, n // 2 :])[0, 1], abs=1e-4)


def test_what_follows_the_main_direction_is_found(metric_bench: Callable[..., MetricBench]) -> None:
    bench = metric_bench()
    texts = sample_texts(bench, 900, 0)  # type: ignore[arg-type]
    x = torch.cat([vectors for _, vectors in bench.activations(texts=texts)])
    first = torch.linalg.svd(x - x.mean(dim=0), full_matrices=False).Vh[0]
    sae = bench.dictionaries["sae"].sae
    with torch.no_grad():
        for parameter in (sae.W_enc, sae.b_enc, sae.b_dec):
            parameter.zero_()
        sae.threshold.fill_(1e-6)
        sae.W_enc[:, 7] = first
        sae.b_enc[7] = 1000.0  # fires everywhere, and rises along the direction
        sae.b_enc[8] = 1.0  # fires everywhere, the same
    bench.guard.accept()
    found = measure(bench)
    latents: Any = found.details["latents"]
    assert found.value == 2
    assert set(latents) == {"7", "8"}
    assert abs(latents["7"]["component"]) == pytest.approx(1, abs=1e-3)
    assert latents["8"] == {"frequency": 1.0, **dict.fromkeys(("position", "component", "start", "end", "entropy"), 0.0)}
    assert found.parts["component"] == 0.5
    assert found.parts["unexplained"] == 0.5


def test_counts_are_those_of_plain_arithmetic(metric_bench: Callable[..., MetricBench]) -> None:
    bench = metric_bench()
    x = torch.cat([vectors for _, vectors in bench.activations(texts=sample_texts(bench, 900, 0))])  # type: ignore[arg-type]
    frequency = (bench.dictionaries["sae"].encode(x) > 0).double().mean(dim=0).numpy()
    found = measure(bench, frequency=0.05)
    assert found.value == pytest.approx((frequency > 0.05).sum(), abs=1)
    shares = [found.parts[name] for name in ("position", "component", "start", "end", "entropy", "unexplained")]
    assert all(share is not None and 0 <= share <= 1 for share in shares)
    assert set(measure(bench, entropy_tokens=0).parts) == {"position", "component", "start", "end", "unexplained"}


def test_none_is_dense(metric_bench: Callable[..., MetricBench]) -> None:
    bench = metric_bench()
    bench.dictionaries["sae"].sae.threshold.data.fill_(1e9)
    bench.guard.accept()
    found = measure(bench)
    assert found.value == 0
    assert set(found.part_reasons) == set(found.parts)
