"""Interaction sparsity: attributions are derivatives of the model, all edges change nothing, and ranked edges beat random ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from harness_plugins.metrics.interaction_sparsity import SHARES, Edges, _area, _edges, _ranked, _ranks, _shift, _streams
from helpers.benches import MetricBench
from helpers.synthetic import by_hand

from harness.plugin.host import PluginHost
from harness.sae.dictionary import Dictionary
from harness.sae.subject import DictionarySubject
from harness.testing import check_metric

LAYERS = (1, 2)


def directions(layer: int, n: int = 40) -> Dictionary:
    """A dictionary of random directions for the tiny model."""
    rows = torch.randn(n, 64, generator=torch.Generator().manual_seed(layer))
    return by_hand(rows / rows.norm(dim=-1, keepdim=True), threshold=0.5, layer=layer)


def subject() -> DictionarySubject:
    return DictionarySubject("sae", directions(LAYERS[0]), neighbours={LAYERS[1]: directions(LAYERS[1])})


def test_attributions_are_derivatives(metric_bench: Callable[..., MetricBench]) -> None:
    bench = metric_bench()
    ids = bench.corpus_tokens[0][:9].tolist()
    first, second = directions(LAYERS[0]), directions(LAYERS[1])
    found = _edges(bench, ids, first, second)  # type: ignore[arg-type]
    assert found.targets > 5
    x, _ = _streams(bench.model, ids, *LAYERS)
    f = first.encode(x.detach())
    f[:1] = 0
    target, source = np.unravel_index(np.abs(found.values).argmax(), found.values.shape)
    feature = int(found.keys[target, source] // second.d_sae)
    step = 1e-3
    moved = []
    for sign in (1, -1):
        change = sign * step * f[:, feature, None] * first.decoder_row(feature)
        handle = bench.model.layers[LAYERS[0]].register_forward_hook(
            lambda _, __, out, change=change: out + change if isinstance(out, torch.Tensor) else (out[0] + change, *out[1:])
        )
        try:
            _, y = _streams(bench.model, ids, 0, LAYERS[1])
        finally:
            handle.remove()
        moved.append(float(second.encode(y.detach())[found.tokens[target], found.features[target]]))
    assert (moved[0] - moved[1]) / (2 * step) == pytest.approx(found.values[target, source], rel=0.02)
    assert not bench.model.layers[LAYERS[0]]._forward_hooks


def test_edges_are_ranked_by_size_and_taken_away() -> None:
    tokens, features = np.array([0, 1]), np.array([3, 4])
    found = Edges(np.array([[13, 23], [14, 24]]), np.array([[2.0, -1.0], [0.5, 4.0]]), tokens, features, np.array([1.0, 2.0]))
    keys, sizes = _ranked([found, found])
    assert (keys.tolist(), sizes.tolist()) == ([13, 14, 23, 24], [4, 1, 2, 8])
    known = np.array([7, 13, 14, 23, 24])
    assert _ranks(known, keys, sizes).tolist() == [4, 1, 3, 2, 0]
    dictionary = by_hand(torch.eye(10))
    shift = _shift(dictionary, 3, found, np.array([0.25, 4.0]))  # the second loses more than it has, and ends at 0
    expected = torch.zeros(3, 10)
    expected[0, 3], expected[1, 4] = -0.25, -2.0
    assert torch.allclose(shift, expected)
    assert _area(np.ones(len(SHARES))) == pytest.approx(1)


def test_a_measurement(metric_bench: Callable[..., MetricBench]) -> None:
    bench = metric_bench()
    metric = PluginHost.load().get("metric", "interaction-sparsity")
    found = check_metric(lambda: metric.create({"max_tokens": "30", "tokens_per_text": "12"}), bench.bench, subject())
    kl: Any = found.details["kl"]
    assert kl[-1] == 0
    assert kl[0] == max(kl) > 0
    assert found.value is not None
    assert found.value < found.trivial["value"]  # ranked before random order
    assert found.parts["relative"] == pytest.approx(found.value / kl[0])
    first, second = directions(LAYERS[0]), directions(LAYERS[1])
    last = metric.create({}).measure(bench, DictionarySubject("sae", second, neighbours={LAYERS[0]: first}), 0)
    assert (last.value, last.reason) == (None, "the task has no dictionary of a later layer")


def test_nothing_to_take_away(metric_bench: Callable[..., MetricBench], tmp_path: Path) -> None:
    silent = by_hand(torch.eye(64), threshold=1e9, layer=LAYERS[1])
    bench = metric_bench()
    metric = PluginHost.load().get("metric", "interaction-sparsity").create({"max_tokens": "10"})
    found = metric.measure(bench, DictionarySubject("sae", directions(LAYERS[0]), neighbours={LAYERS[1]: silent}), 0)
    assert (found.value, "no feature" in found.reason) == (None, True)
