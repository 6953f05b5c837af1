"""A signed dictionary in a whole task: metrics and labelers count both sides of a feature, and the run says what a strength means."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from harness_plugins.labelers.max_auc import MaxAuroc, MaxAurocOptions
from harness_plugins.metrics.density import Density, DensityOptions
from harness_plugins.metrics.reconstruction import Reconstruction, ReconstructionOptions
from helpers.benches import MetricBench
from safetensors.torch import load_file, save_file

from harness.sae.subject import DictionarySubject
from harness.types import Labeling

K = 8


@pytest.fixture
def bench(metric_bench: Callable[..., MetricBench], tiny_task: Path, tiny_sae_path: Path, tmp_path: Path) -> MetricBench:
    """The tiny task with the K largest activations by magnitude in place of its dictionary's."""
    task, sae = tmp_path / "task", tmp_path / "signed"
    shutil.copytree(tiny_task, task)
    sae.mkdir()
    tensors = load_file(tiny_sae_path / "sae_weights.safetensors")
    save_file({name: tensors[name] for name in ("W_enc", "W_dec", "b_enc", "b_dec")}, sae / "sae_weights.safetensors")
    cfg = json.loads((tiny_sae_path / "cfg.json").read_text()) | {"architecture": "abstopk", "k": K}
    (sae / "cfg.json").write_text(json.dumps(cfg))
    text = (task / "task.toml").read_text()
    assert str(tiny_sae_path) in text
    (task / "task.toml").write_text(text.replace(str(tiny_sae_path), str(sae)))
    return metric_bench(task)


def test_metrics_and_labelers_count_both_sides(bench: MetricBench, monkeypatch: pytest.MonkeyPatch) -> None:
    warned: list[str] = []
    monkeypatch.setattr(bench.bench, "warn", lambda text, *_: warned.append(text))
    dictionary = bench.dictionaries["sae"]
    assert [text for text in warned if "is signed" in text]
    subject = DictionarySubject("sae", dictionary)
    found: Any = Reconstruction(ReconstructionOptions(max_tokens=2000, spliced_tokens=0)).measure(bench, subject, 0)  # type: ignore[arg-type]
    assert found.parts["l0"] == K
    density: Any = Density(DensityOptions(max_tokens=2000)).measure(bench, subject, 0)  # type: ignore[arg-type]
    assert density.parts["dead"] == found.parts["dead"]
    statistics = bench.statistics("sae")
    assert statistics.l0 == K
    answers = MaxAuroc(MaxAurocOptions()).label(bench, bench.list_concepts())  # type: ignore[arg-type]
    labelled = [answer for answer in answers if isinstance(answer, Labeling)]
    assert labelled
    for answer in labelled:
        feature, row = answer.features[0].index, answer.evidence["features"][0]
        assert row["maximum"] == pytest.approx(float(statistics.maximum[feature]))
        assert 0 <= row["threshold"] <= 1, "a share of the largest magnitude"
        assert row["density"] == pytest.approx(float(statistics.density[feature]))
    assert (np.asarray(statistics.maximum) < 0).any()


def test_a_dictionary_that_names_no_model_is_said(
    metric_bench: Callable[..., MetricBench], tiny_task: Path, tiny_sae_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, sae = tmp_path / "task", tmp_path / "unnamed"
    shutil.copytree(tiny_task, task)
    shutil.copytree(tiny_sae_path, sae)
    cfg = json.loads((sae / "cfg.json").read_text())
    del cfg["metadata"]["model_name"]
    (sae / "cfg.json").write_text(json.dumps(cfg))
    (task / "task.toml").write_text((task / "task.toml").read_text().replace(str(tiny_sae_path), str(sae)))
    bench, warned = metric_bench(task), []
    monkeypatch.setattr(bench.bench, "warn", lambda text, *_: warned.append(text))
    assert bench.dictionaries["sae"].model_name == ""
    assert [text for text in warned if "does not say which model it was made for" in text]
