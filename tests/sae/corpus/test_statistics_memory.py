"""Memory of a pass over a corpus with a dictionary that fires often: bounded by a shard, whatever the corpus' length and the dictionary's width."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness.files.shards import ShardedFiles
from harness.sae.corpus import collect
from harness.sae.corpus.counts import Meter, TextMeter
from harness.sae.corpus.shard import Shard
from harness.sae.corpus.statistics import BY_TEXT
from harness.sae.dictionary import Dictionary

D_IN, D_SAE, TEXTS, TOKENS = 16, 4096, 96, 24
LEAST = 16
"""Bytes that a pair of text and feature takes: collected (feature, count, maximum) as 12, of which a batch at a time becomes 12 others."""


@pytest.fixture(scope="module")
def dense() -> Dictionary:
    """A random dictionary of which about 7 % of the features are active on a random token."""
    from sae_lens.saes.jumprelu_sae import JumpReLUSAE, JumpReLUSAEConfig

    random = torch.Generator().manual_seed(0)
    sae: Any = JumpReLUSAE(JumpReLUSAEConfig(d_in=D_IN, d_sae=D_SAE))
    sae.W_enc.data = torch.randn(D_IN, D_SAE, generator=random) / D_IN**0.5
    sae.W_dec.data = torch.randn(D_SAE, D_IN, generator=random) / D_SAE**0.5
    sae.threshold.data.fill_(1.48)
    return Dictionary(sae, 0, "dense")


def shard(meter: Meter, random: torch.Generator) -> TextMeter:
    """What a shard of random vectors holds."""
    meter.clear()
    found = TextMeter(meter, TEXTS, D_IN)
    for start in range(0, TEXTS, 8):
        found.add(range(start, start + 8), torch.randn(8, TOKENS, D_IN, generator=random), torch.ones(8, TOKENS, dtype=torch.bool))
    return found


def peaks(dictionary: Dictionary, folder: Path, shards: int) -> list[float]:
    """The most bytes per pair that are in use while each shard is committed, and what it left."""
    names = [f"{name}.bin" for name in (*BY_TEXT, "sums")]
    corpus, meter, random = collect._Pass(ShardedFiles(folder, names, {}), dictionary), Meter(dictionary), torch.Generator().manual_seed(1)
    found: list[float] = []
    tracemalloc.start()
    try:
        for number in range(shards):
            content = shard(meter, random)
            tracemalloc.reset_peak()
            corpus.append(Shard(*content.rows(), content.n_tokens, content.means, np.concatenate([[0], meter.sums])), number)
            corpus.account()
            found.append(tracemalloc.get_traced_memory()[1] / len(corpus._read("indices", number)))
            del content
    finally:
        tracemalloc.stop()
    return found


def test_a_longer_corpus_takes_no_more(dense: Dictionary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collect, "ACCOUNT_PAIRS", 1 << 12)
    found = peaks(dense, tmp_path, 4)
    assert found[0] < 1.6 * LEAST
    assert max(found) < 1.05 * found[0]


def test_a_shard_of_a_wide_dictionary_has_fewer_texts(
    dense: Dictionary, tiny_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def borders(lengths: Any, shard_texts: int, shard_tokens: int) -> Any:
        seen.append(shard_texts)
        raise InterruptedError

    monkeypatch.setattr(collect, "_borders", borders)
    monkeypatch.setattr(collect, "_check", lambda *_: None)
    for pairs in (D_SAE * 10, D_SAE - 1, D_SAE * collect.SHARD_TEXTS * 2):
        monkeypatch.setattr(collect, "SHARD_PAIRS", pairs)
        with pytest.raises(InterruptedError):
            collect.measure(tiny_model, dense, [[1, 2, 3]], tmp_path)
    assert seen == [10, 1, collect.SHARD_TEXTS]
