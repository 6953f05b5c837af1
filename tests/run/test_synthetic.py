"""A task of synthetic activations: no model is loaded, dictionaries are trained on samples, and what needs a model says so."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.synthetic import DIMS, FEATURES, METRICS, TASK, TRAIN, open_known, write_task

from harness.contracts import MetricTraits
from harness.errors import DataError, HarnessError, TaskError
from harness.evaluations.dictionary.subjects import list_subjects, open_subject, unmet
from harness.plugin.host import PluginHost
from harness.run.plan import Asked, make_plan
from harness.run.preflight import check_values
from harness.sae.synthetic.source import Samples
from harness.tasks.find import load_task


def test_dictionaries_are_trained_on_samples_and_kept_on_the_way(tmp_path: Path) -> None:
    bench = open_known(tmp_path)
    assert list(bench.dictionaries) == ["mini~1024", "mini~1024@1", "mini", "mini@1"]
    early, late = bench.dictionaries["mini~1024"], bench.dictionaries["mini"]
    assert (late.d_in, late.d_sae, late.architecture) == (DIMS, FEATURES, "topk")
    assert early.digest != late.digest
    recipes = [dictionary.cfg["metadata"]["harness_training"] for dictionary in (early, late)]
    assert (recipes[0]["snapshot"], recipes[1].get("snapshot"), recipes[1]["source"]["features"]) == (1024, None, FEATURES)
    x = torch.cat([x for _, x in bench.activations(texts=Samples("fresh", 0, 1000))])
    errors = [float((dictionary.decode(dictionary.encode(x)) - x).square().sum()) for dictionary in (early, late)]
    assert errors[1] < errors[0]
    again = open_known(tmp_path)
    assert again.dictionaries["mini"] == late
    assert "model" not in bench.__dict__


def test_subjects_know_the_truth_and_controls_are_matched(tmp_path: Path) -> None:
    bench = open_known(tmp_path)
    refs = list_subjects(bench, control_seeds=1)
    assert [ref.title for ref in refs] == [
        "mini~1024 (seed 0)", "mini~1024 (seed 1)", "mini~1024: random (seed 0)", "mini (seed 0)", "mini (seed 1)", "mini: random (seed 0)",
    ]  # fmt: skip
    subject, control = (open_subject(bench, refs[place], refs) for place in (3, 5))
    assert subject.truth is not None
    assert subject.truth.shape == (FEATURES, DIMS)
    x = torch.cat([x for _, x in bench.activations(texts=Samples("fresh", 0, 2000))])
    active = [float((one.dictionary.encode(x) != 0).float().sum(dim=-1).mean()) for one in (subject, control)]
    assert active[1] == pytest.approx(active[0], rel=0.1)
    assert "no language model" in unmet(MetricTraits(), subject, bench)
    assert "no corpus" in unmet(MetricTraits(), subject, bench)
    assert unmet(MetricTraits(needs=("truth", "siblings", "recipe")), subject, bench) == ""


def test_what_needs_a_model_is_refused(tmp_path: Path) -> None:
    bench = open_known(tmp_path)
    with pytest.raises(TaskError) as error:
        _ = bench.model
    assert error.value.given == "known"
    plan = make_plan(PluginHost.load(), bench.task, Asked(steerers=("none",), judge="offline"))
    with pytest.raises(TaskError) as error:
        check_values(plan, bench)
    assert error.value.given == "none"
    check_values(make_plan(PluginHost.load(), bench.task, Asked()), bench)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (TASK + '[model]\nname = "m"\n', "[model]"),
        (TASK.partition("[synthetic]")[0], "[synthetic]"),
        (TASK + '[corpus]\nsource = "c"\n', "corpus"),
        (TASK + '[[methods]]\nsteerer = "none"\n', "[[methods]]"),
        (TASK + TRAIN.replace("layer = 0", "layer = 1"), "mini"),
        (TASK.replace('kind = "log_uniform"', "k = 1"), "kind"),
        (TASK.replace("dims = 16", "dims = 1"), "dims"),
        (TASK + TRAIN.replace("[1024]", "[1024, 512]"), "snapshots"),
    ],
)
def test_a_task_has_one_subject(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(TaskError) as error:
        load_task(write_task(tmp_path, text))
    assert named in str(error.value)


def test_a_snapshot_after_the_end_is_refused(tmp_path: Path) -> None:
    bench = open_known(tmp_path, TASK + TRAIN.replace("[1024]", "[9999]") + METRICS)
    with pytest.raises(DataError) as error:
        _ = bench.dictionaries["mini"]
    assert error.value.given == 9999


def test_the_digest_is_of_what_the_scores_depend_on(tmp_path: Path) -> None:
    def digest(text: str) -> str:
        return load_task(write_task(tmp_path, text)).digest()

    base = digest(TASK + TRAIN)
    assert digest(TASK.replace("samples = 4096", "samples = 5000") + TRAIN) != base
    assert digest(TASK + TRAIN.replace("snapshots = [1024]\n", "")) != base
    assert digest(TASK.replace("version = 1\n", 'version = 1\npublished = ["random-controls-synthetic"]\n') + TRAIN) == base


def test_a_run_needs_no_model(tmp_path: Path) -> None:
    import os
    from unittest import mock

    import harness

    folder = write_task(tmp_path / "task")
    with mock.patch.dict(os.environ, {"HARNESS_CACHE": str(tmp_path / "cache")}):
        entry = harness.evaluate(task=str(folder), out=tmp_path / "out", metrics=["recovery", "density"]).entry()
    assert entry.model.name.startswith("synthetic")
    rows = {(row.subject.metric, row.subject.dictionary, row.subject.arm): row for row in entry.rows}  # type: ignore[union-attr]
    found = rows["recovery", "mini", "trained"].metrics["recovery"]
    assert found.value is not None
    assert found.random is not None
    assert "no language model" in rows["density", "mini", "trained"].metrics["density"].reason
    assert isinstance(entry.model.digest, str)
    with pytest.raises(HarnessError):
        harness.evaluate(task=str(folder), out=tmp_path / "out", steerers=["none"])
