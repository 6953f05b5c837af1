"""The absorption metric: a latent that takes one word's letter from the letter's own latent is found; a model without words is not measured."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from harness_plugins.metrics.absorption import Absorption, AbsorptionOptions, Words, _absorbed, _fit_probes
from helpers.benches import MetricBench
from scipy.sparse import csr_matrix

from harness.sae.subject import DictionarySubject
from harness.scoring.logistic import fit_logistic

OPTIONS = AbsorptionOptions()


def absorbed(own: list[int], latents: list[int], projections: list[float], total: float, cosine: float = 0.5) -> tuple[float, bool]:
    sizes = np.array(projections)
    return _absorbed(np.array(latents), sizes, np.abs(sizes), np.full(len(latents), cosine), total, own, OPTIONS)


def test_one_word() -> None:
    assert absorbed([1], [1, 2], [4.0, 0.0], 4.0) == (0, False), "the letter's own latent says all of it"
    assert absorbed([1], [2], [3.0], 4.0) == (1, True), "it is silent, and another one says three quarters"
    assert absorbed([1], [2], [1.0], 4.0) == (0, False), "the other one says too little"
    assert absorbed([1], [2], [3.0], 4.0, cosine=0.01) == (0, False), "the other one points elsewhere"
    assert absorbed([1], [2], [3.0], 4.0, cosine=0.05) == (0, True), "enough for one latent alone, not for a share"
    fraction, full = absorbed([1], [1, 2, 3], [1.0, 2.0, 1.0], 4.0)
    assert (fraction, full) == (pytest.approx(3 / 4), False)
    assert absorbed([1], [1, 2], [1.0, 9.0], 4.0)[0] == pytest.approx(3 / 4), "no more is absorbed than is missing"
    assert absorbed([1], [2], [3.0], -1.0) == (0, False)
    assert absorbed([1], [], [], 4.0) == (0, False)
    assert absorbed([1], [2, 3, 4, 5], [0.5] * 4, 4.0)[0] == 0, "three at most absorb together, 1.5 of 4"


def stub(rows: torch.Tensor) -> Any:
    """What the arithmetic of one letter asks of a dictionary."""
    return SimpleNamespace(decoder_norms=lambda: rows.norm(dim=-1), scale=lambda x: torch.ones(len(x), 1))


def test_a_latent_that_takes_one_word() -> None:
    """Eight words, four with the letter: latent 0 is the letter but for one test word, which latent 1 has for itself."""
    probe = np.array([1.0, 0, 0])
    letters = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    train = np.array([True, True, False, False] * 2)
    vectors = np.outer(letters == 0, probe) * 2
    codes = np.zeros((8, 3))
    codes[[0, 1, 2], 0] = 2.0
    codes[3, 1] = 2.0
    rows = torch.tensor([[1.0, 0, 0], [1.0, 0, 0], [0, 1.0, 0]])
    words = Words(None, vectors, letters, train, np.array([probe, -probe]), np.ones(8, dtype=bool), {0: 1.0})  # type: ignore[arg-type]
    found = Absorption(OPTIONS)._letter(stub(rows), words, csr_matrix(codes), rows.double().numpy() @ probe, 0)
    assert found["latents"] == [0]
    assert (found["fraction"], found["full"], found["words"], found["f1"]) == (0.5, 0.5, 2, 1.0)
    codes[3] = [2.0, 0, 0]
    found = Absorption(OPTIONS)._letter(stub(rows), words, csr_matrix(codes), rows.double().numpy() @ probe, 0)
    assert (found["fraction"], found["full"]) == (0, 0)


def test_a_split_letter_has_two_latents() -> None:
    codes = np.zeros((40, 4))
    own = np.arange(40) < 20
    codes[:12, 2], codes[12:20, 0] = 1.0, 0.8
    latents, f1 = Absorption(OPTIONS)._latents(csr_matrix(codes), own)
    assert (latents, f1) == ([2, 0], 1.0)


def test_probes_of_all_letters_are_those_of_each() -> None:
    draw = np.random.default_rng(0)
    letters = draw.integers(0, 3, 90)
    x = draw.normal(size=(90, 5)) + (letters[:, None] == np.arange(5)) * 1.5
    weights, bias, scale, mean = _fit_probes(x, letters, 0.01)
    own = letters == 1
    balance = np.where(own, 0.5 / own.sum(), 0.5 / (~own).sum())[None]
    alone = fit_logistic((x - mean) / scale, own, 1 / 0.01, balance)
    assert weights[1] == pytest.approx(alone.coefficients[0], abs=5e-3)
    assert bias[1] == pytest.approx(alone.intercepts[0], abs=5e-3)
    assert not weights[3:].any()


def test_a_model_with_few_words_is_not_measured_and_one_with_some_is(metric_bench: Callable[..., MetricBench]) -> None:
    bench = metric_bench()
    subject = DictionarySubject("sae", bench.dictionaries["sae"])
    found = Absorption(OPTIONS).measure(bench, subject, 0)  # type: ignore[arg-type]
    assert found.value is None
    assert "not measurable" in found.reason
    easy = AbsorptionOptions(min_words=4, min_characters=1, min_letters=2, probe_f1=0.01)
    found = Absorption(easy).measure(bench, subject, 0)  # type: ignore[arg-type]
    assert found.value is not None
    assert len(found.per_item) >= 2
    assert all(0 <= value <= 1 for value in found.per_item.values() if value is not None)
    every = len(set(Absorption(easy)._choose(bench, 0)[1].tolist()))  # type: ignore[arg-type]
    strict = Absorption(easy.model_copy(update={"min_letters": every, "probe_f1": 0.999})).measure(bench, subject, 0)  # type: ignore[arg-type]
    assert strict.value is None
    assert "F1 of 0.999" in strict.reason
