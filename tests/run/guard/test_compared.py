"""When values are compared: where the plugin was handed them, or torch knows them to be written, and not more often."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers.guarded import first, plugin

from harness.interventions import Intervention
from harness.run.bench import TaskBench
from harness.run.guard import ChangedModelError


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many tensors were read as a whole, at each comparison."""
    from harness.model import fingerprint

    counts: list[int] = []
    whole = fingerprint._checksums
    monkeypatch.setattr(fingerprint, "_checksums", lambda tensors: counts.append(len(tensors)) or whole(tensors))
    return counts


def test_values_are_compared_where_the_plugin_was_handed_them(bench: TaskBench, compared: list[int]) -> None:
    _ = bench.model, bench.dictionaries
    compared.clear()
    idle = plugin("steerer", prepare=lambda b, labelings: b.rng("x"), intervene=lambda labeling, strength: Intervention())
    idle.prepare(bench, [])
    bench.statistics()
    assert sum(compared) == 0
    of_dictionary = plugin("detector", prepare=lambda b, labelings: b.dictionaries["sae"], scores=lambda labelings, texts: [])
    of_dictionary.prepare(bench, [])
    first_time = sum(compared)
    assert 0 < first_time < 20, "those of the dictionary alone"
    compared.clear()
    of_dictionary.scores([], None)
    assert sum(compared) == first_time, "it may have kept it"


@pytest.mark.parametrize("asked", ["model", "services", "engine"])
def test_a_plugin_that_keeps_the_model_is_found_out_later(bench: TaskBench, asked: str) -> None:
    kept: list[Any] = []

    def score(labelings: Any, texts: Any) -> list[Any]:
        model = kept[0] if asked == "model" else kept[0].model
        model.hf.model.layers[0].mlp.up_proj.weight.data.mul_(0.5)
        return []

    detector = plugin("detector", prepare=lambda b, labelings: kept.append(getattr(b, asked)), scores=score)
    detector.prepare(bench, [])
    with pytest.raises(ChangedModelError) as error:
        detector.scores([], None)
    assert "up_proj.weight have changed" in error.value.message


def test_what_torch_knows_to_be_written_is_compared_in_any_case(bench: TaskBench, compared: list[int]) -> None:
    weight = first(bench)
    compared.clear()

    def write(b: Any, labelings: Any) -> None:
        with torch.no_grad():
            weight.mul_(0.5)

    with pytest.raises(ChangedModelError) as error:
        plugin("steerer", prepare=write).prepare(bench, [])
    assert "up_proj.weight have changed" in error.value.message
    assert sum(compared) == 1, "and nothing else is read"


def test_weights_written_and_put_back_are_read_once(bench: TaskBench, compared: list[int]) -> None:
    weight = first(bench)
    compared.clear()

    def write(b: Any, labelings: Any) -> None:
        before = weight.clone()
        with torch.no_grad():
            weight.mul_(0.5).copy_(before)

    plugin("steerer", prepare=write).prepare(bench, [])
    plugin("steerer", prepare=lambda b, labelings: None).prepare(bench, [])
    assert [count for count in compared if count] == [1]


def test_what_is_measured_is_handed_along(bench: TaskBench) -> None:
    subject = bench.dictionaries["sae"]
    metric = plugin("metric", measure=lambda b, subject, seed: subject.sae.W_dec.data.mul_(2))
    with pytest.raises(ChangedModelError, match="has changed dictionary sae"):
        metric.measure(bench, subject, 0)
