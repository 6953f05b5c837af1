"""The shared passes: the numbers of a plain float64 computation, made once, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from helpers.benches import MetricBench

from harness.interventions import Intervention, Site
from harness.measuring import vectors as kept
from harness.measuring.passes import cross_entropy, reading_pass
from harness.measuring.texts import sample_texts
from harness.sae.splicing import Ablate


def vectors(bench: MetricBench, rows: list[np.ndarray], layer: int = 2) -> torch.Tensor:
    """Counted tokens by transformers, float64, in the order of the texts."""
    found = []
    with torch.no_grad():
        for row in rows:
            output = bench.model.hf(input_ids=torch.as_tensor(row)[None], output_hidden_states=True)
            found.append(output.hidden_states[layer + 1][0, 1:].double())
    return torch.cat(found)


@pytest.mark.parametrize("at_once", [4096, 100, 1])
def test_a_reading_pass_is_the_plain_computation(
    metric_bench: Callable[..., MetricBench], at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "TOKENS_AT_ONCE", at_once)
    bench = metric_bench()
    dictionary, texts = bench.dictionaries["sae"], sample_texts(bench, 700, 0)
    found = reading_pass(bench, dictionary, texts)
    x = vectors(bench, list(texts.tokens))
    sae = dictionary.sae
    hidden = (x - sae.b_dec) @ sae.W_enc.double() + sae.b_enc
    f = torch.where(hidden > sae.threshold, hidden.relu(), 0)
    rebuilt = f @ sae.W_dec.double() + sae.b_dec
    assert found.n_tokens == len(x)
    assert found.l0 == pytest.approx(float((f > 0).sum() / len(x)), rel=1e-3)
    variance = float((x - x.mean(dim=0)).square().sum())
    assert found.explained_variance == pytest.approx(1 - float((x - rebuilt).square().sum()) / variance, abs=1e-5)
    np.testing.assert_allclose(found.mean, x.mean(dim=0).numpy(), rtol=1e-5, atol=1e-6)
    assert np.abs(found.fired - (f > 0).sum(dim=0).numpy()).sum() <= 3  # at the threshold, rounding decides


def test_a_pass_is_made_once_for_all_who_ask(metric_bench: Callable[..., MetricBench]) -> None:
    bench = metric_bench()
    dictionary, texts = bench.dictionaries["sae"], sample_texts(bench, 300, 0)
    first, n = reading_pass(bench, dictionary, texts), bench.n_read
    again = reading_pass(bench, dictionary, texts)
    assert n == len(texts) == bench.n_read
    assert (again.l0, again.explained_variance, again.fired.tolist()) == (first.l0, first.explained_variance, first.fired.tolist())
    reading_pass(bench, dictionary, sample_texts(bench, 300, 1))
    assert bench.n_read > n


def test_cross_entropy_is_transformers_own_past_the_first_token(metric_bench: Callable[..., MetricBench]) -> None:
    bench = metric_bench()
    texts = sample_texts(bench, 400, 0)
    total, n = 0.0, 0
    with torch.no_grad():
        for row in texts.tokens:
            ids = torch.as_tensor(row)[None]
            labels = ids.clone()
            labels[0, 1] = -100  # what the first token predicts
            loss = bench.model.hf(input_ids=ids, labels=labels).loss
            total, n = total + float(loss) * (len(row) - 2), n + len(row) - 2
    found = cross_entropy(bench, texts)
    assert found.n_tokens == n
    assert found.mean == pytest.approx(total / n, rel=1e-5)


def test_cross_entropy_is_kept_by_its_key(metric_bench: Callable[..., MetricBench]) -> None:
    bench = metric_bench()
    texts = sample_texts(bench, 200, 0)
    ablated = Intervention(edits=(Ablate(Site(2), torch.zeros(64)),))
    plain, edited = cross_entropy(bench, texts, key="plain"), cross_entropy(bench, texts, ablated, key="zero")
    assert edited.mean > plain.mean
    n = bench.n_read
    assert cross_entropy(bench, texts, key="plain") == plain
    assert cross_entropy(bench, texts, ablated, key="zero") == edited
    assert bench.n_read == n
    assert cross_entropy(bench, texts, ablated) == edited
    assert bench.n_read > n


def test_broken_logits_leave_no_number_and_short_texts_none(metric_bench: Callable[..., MetricBench]) -> None:
    bench = metric_bench()
    texts = sample_texts(bench, 60, 0)
    broken = Intervention(edits=(Ablate(Site(2), torch.full((64,), float("nan")), outlier=0),))
    for key in (None, "broken"):
        found = cross_entropy(bench, texts, broken, key=key)
        assert np.isnan(found.mean)
        assert found.n_tokens > 0
    short = type(texts)("short", "short", ["a"], [np.array([1, 30])])
    assert cross_entropy(bench, short).n_tokens == 0
    assert np.isnan(cross_entropy(bench, short).mean)
