"""Hedging: known movements have known rates, a dictionary is trained on from where it was, and what can't be trained on says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from harness_plugins.metrics.hedging import _hedged
from helpers.synthetic import DIMS, FEATURES, TASK, TRAIN, by_hand, open_known

import harness.sae
from harness.evaluations.dictionary.subjects import list_subjects, open_subject
from harness.plugin.host import PluginHost
from harness.run.bench import TaskBench
from harness.sae.subject import DictionarySubject
from harness.testing import check_metric


@pytest.fixture
def bench(tmp_path: Path) -> TaskBench:
    return open_known(tmp_path)


def test_known_movements() -> None:
    before, new = 2 * torch.eye(8, dtype=torch.float64)[:4], torch.eye(8, dtype=torch.float64)[6:]
    still = _hedged(before, before, new, 0)
    assert (still.value, still.parts["projection"], still.parts["base"]) == (0, 0, 0)
    towards = _hedged(before, before + new[0] + 0.0 * new[1], new, 0)
    p, b = towards.parts["projection"], towards.parts["base"]
    assert p is not None
    assert b is not None
    assert p == pytest.approx(0.5)  # in row norms, which are 2
    assert 0.1 < b < 0.5
    assert towards.value == pytest.approx((p - b) / (1 - b))
    aside = _hedged(before, before + torch.eye(8, dtype=torch.float64)[5], new, 0)
    assert (aside.value, aside.parts["projection"]) == (0, pytest.approx(0, abs=1e-12))
    assert aside.parts["change"] == pytest.approx(0.5)


@pytest.mark.parametrize("architecture", ["topk", "jumprelu", "standard"])
def test_a_finished_dictionary_is_where_training_goes_on(bench: TaskBench, tmp_path: Path, architecture: str) -> None:
    from harness.sae.training.config import TrainConfig
    from harness.sae.training.fit import initial_sae, take_over

    trains = TRAIN.replace('"topk"', f'"{architecture}"').replace("snapshots = [1024]\n", "")
    own = open_known(tmp_path / "own", TASK + trains).dictionaries["mini"]
    config = TrainConfig(width=FEATURES, k=3, architecture=architecture, seed=7)  # type: ignore[arg-type]
    metadata: dict[str, Any] = {"model_name": own.model_name, "hook_name": own.hook_name}
    sae, scale = initial_sae(DIMS, torch.zeros(DIMS), config, metadata, torch.device("cpu")), 0.37
    take_over(own, sae, scale)
    sae.fold_activation_norm_scaling_factor(scale)
    sae.save_inference_model(tmp_path / "again")
    again = harness.sae.load(tmp_path / "again")
    x = torch.randn(50, DIMS)
    np.testing.assert_allclose(again.decode(again.encode(x)).numpy(), own.decode(own.encode(x)).numpy(), atol=1e-4)
    np.testing.assert_allclose(again.sae.W_dec.numpy(), own.sae.W_dec.numpy(), atol=1e-5)


def test_a_trained_dictionary_keeps_the_contract(bench: TaskBench) -> None:
    refs = list_subjects(bench, ["mini"], control_seeds=1)
    metric = PluginHost.load().get("metric", "hedging")
    subject = open_subject(bench, refs[0], refs)
    found = check_metric(lambda: metric.create({"added": "4"}), bench, subject)
    assert found.parts["change"] is not None
    assert 0 < found.parts["change"] < 1  # it went on from where it was: rows of another training lie further apart
    control = metric.create({}).measure(bench, open_subject(bench, refs[2], refs), 0)
    assert (control.value, "not trained by the task" in control.reason) == (None, True)
    wide = metric.create({"added": str(DIMS)}).measure(bench, subject, 0)
    assert (wide.value, "dimensions" in wide.reason) == (None, True)
    alone = metric.create({}).measure(bench, DictionarySubject("sae", by_hand(torch.eye(DIMS)), recipe={"seed": 1}), 0)
    assert alone.value is None
