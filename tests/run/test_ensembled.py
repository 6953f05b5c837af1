"""Ensembles of a task: made when they are first used, each member trained once, and used wherever a dictionary is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.benches import MetricBench

from harness.evaluations.dictionary.subjects import list_subjects, open_subject
from harness.run import ensembled, trained
from harness.sae.ensembles import bagged

TABLES = """
[[train]]
name = "mini"
layer = 1
seeds = [0, 1]
width = 96
k = 8
batch_size = 256
epochs = 6
fast = false

[[ensembles]]
name = "bag"
kind = "bagging"
of = "mini"

[[ensembles]]
name = "boost"
kind = "boosting"
of = "mini"
n = 2

[corpus]"""


def test_bagging_and_boosting_of_a_task(metric_bench: Callable[..., MetricBench], variant: Callable[..., Path]) -> None:
    task = variant(("schema = 1\n", "schema = 3\n"), ("\n[corpus]", TABLES))
    bench, fits = metric_bench(task), []
    with pytest.MonkeyPatch.context() as patch:
        real = trained.fitted

        def counted(*arguments: Any) -> None:
            fits.append(arguments[2])
            real(*arguments)

        patch.setattr(trained, "fitted", counted)
        patch.setattr(ensembled, "fitted", counted)
        assert list(bench.dictionaries) == ["sae", "mini", "mini@1", "bag", "boost"]
        boost = bench.dictionaries["boost"]
        assert len(fits) == 2
        bag = bench.dictionaries["bag"]
        assert len(fits) == 3, "the first member is the table's own dictionary"
        again = metric_bench(task)
        assert again.dictionaries["boost"] == boost
        assert again.dictionaries["bag"] == bag
        assert len(fits) == 3
    assert bag == bagged([bench.dictionaries["mini"], bench.dictionaries["mini@1"]])
    assert (bag.d_sae, boost.d_sae, bag.architecture, boost.architecture) == (192, 192, "jumprelu", "ensemble")
    assert torch.equal(boost.sae.W_dec[:96], bench.dictionaries["mini"].sae.W_dec)
    refs = list_subjects(bench, ["bag", "boost"], control_seeds=1)
    assert [ref.title for ref in refs] == ["bag", "bag: random (seed 0)", "boost", "boost: random (seed 0)"]
    assert open_subject(bench, refs[3], refs).dictionary.d_sae == 192
    assert bench.statistics("boost").l0 == pytest.approx(16, rel=0.2)
