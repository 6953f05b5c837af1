"""Stability over seeds: the same directions in another order score 1, others what their cosines are; nulls beside."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.synthetic import DIMS, FEATURES, by_hand, open_known

from harness.evaluations.dictionary.subjects import list_subjects, open_subject
from harness.plugin.host import PluginHost
from harness.run.bench import TaskBench
from harness.sae.dictionary import Dictionary
from harness.sae.subject import DictionarySubject
from harness.testing import check_metric
from harness.types import Measurement


def measure(bench: TaskBench, own: Dictionary, *siblings: Dictionary, **options: Any) -> Measurement:
    metric = PluginHost.load().get("metric", "stability").create(options)
    found: Measurement = metric.measure(bench, DictionarySubject("sae", own, training_seed=9, siblings=siblings), 0)
    return found


@pytest.fixture
def bench(tmp_path: Path) -> TaskBench:
    return open_known(tmp_path)


def test_known_answers(bench: TaskBench) -> None:
    eye = torch.eye(DIMS)
    angle = math.acos(0.6)
    turned = eye.clone()
    turned[:2, :2] = torch.tensor([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    own, same, other = by_hand(eye), by_hand(2 * eye[torch.randperm(DIMS)]), by_hand(turned)
    found = measure(bench, own, same)
    assert (found.value, found.parts["max_cosine"], found.parts["shared"]) == (pytest.approx(1), pytest.approx(1), 1)
    found = measure(bench, own, other)
    assert found.value == pytest.approx((DIMS - 2 + 2 * 0.6) / DIMS, abs=1e-5)  # crosswise would be .8 − .8
    assert found.parts["max_cosine"] == pytest.approx((DIMS - 2 + 0.6 + 0.8) / DIMS, abs=1e-5)
    both = measure(bench, own, same, other)
    assert both.value == pytest.approx((1 + float(found.value)) / 2, abs=1e-5)
    assert len(both.per_item) == 2
    assert measure(bench, other, own).value == pytest.approx(found.value)  # from either side
    assert measure(bench, own, by_hand(-eye)).value == pytest.approx(0, abs=1e-6)  # the opposite of a direction is another one


def test_the_null_is_that_of_random_rows(bench: TaskBench) -> None:
    random = [torch.randn(FEATURES, DIMS, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2)]
    found = measure(bench, by_hand(random[0]), by_hand(random[1]))
    assert found.value == pytest.approx(found.trivial["value"], abs=0.08)
    assert found.trivial["value"] > 0.2  # far from 0: many directions, few dimensions
    assert (found.parts["untrained"], found.part_reasons) == (None, {"untrained": "how it was trained is not known"})


def test_wide_dictionaries_are_matched_in_part(bench: TaskBench) -> None:
    eye = torch.eye(DIMS)
    found = measure(bench, by_hand(eye), by_hand(eye.flip(0)), max_features=5)
    assert (found.value, found.details["matched"]) == (pytest.approx(1), 5)


def test_trained_seeds_keep_the_contract(bench: TaskBench) -> None:
    refs = list_subjects(bench, ["mini"], control_seeds=2)
    subject = open_subject(bench, refs[0], refs)
    found = check_metric(PluginHost.load().get("metric", "stability"), bench, subject)
    assert list(found.per_item) == ["seed 0 and seed 1"]
    assert found.parts["untrained"] == pytest.approx(found.trivial["value"], abs=0.08)
    control = measure(bench, open_subject(bench, refs[2], refs).dictionary, open_subject(bench, refs[3], refs).dictionary)
    assert control.value == pytest.approx(control.trivial["value"], abs=0.08)
