"""The vectors that are kept: those of the bench, no digit lost, read once."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from helpers.benches import MetricBench

from harness.interventions import Site
from harness.measuring import vectors as module
from harness.measuring.texts import sample_texts
from harness.measuring.vectors import kept_vectors


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_kept_vectors_are_the_benchs_own_to_the_bit(
    metric_bench: Callable[..., MetricBench], dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TOKENS_AT_ONCE", 64)
    bench = metric_bench(dtype=dtype)
    texts = sample_texts(bench, 500, 0)
    expected = torch.cat([x for _, x in bench.activations(Site(2), texts)])
    n = bench.n_read
    found = kept_vectors(bench, 2, texts)
    assert (found.n, found.width, found.dtype) == (len(expected), 64, dtype)
    assert torch.equal(found.all(), expected)
    parts = list(found)
    assert [len(part) for part in parts[:-1]] == [64] * (len(parts) - 1)
    assert torch.equal(torch.cat(parts), expected)
    assert found.all().dtype == torch.float32
    assert found.path.stat().st_size == expected.numel() * (4 if dtype == "float32" else 2)
    kept_vectors(bench, 2, texts)
    assert bench.n_read == 2 * n
    kept_vectors(bench, 1, texts)
    assert bench.n_read == 3 * n
