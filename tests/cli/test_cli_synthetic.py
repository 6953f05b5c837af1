"""A task of synthetic activations on the command line: one table of all cells with every number, published figures below, no model anywhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.synthetic import METRICS, TASK, TRAIN, write_task

from harness.plugin.host import PluginHost
from harness.run.check_task import check_task
from harness.tasks.find import find_task, load_task

MATRIX = """
[[matrix]]
name = "firing"

[[matrix.values]]
name = "variable"

[[matrix.values]]
name = "constant"
sets = {"synthetic.firing" = {kind = "constant", probability = 0.1}}
"""
PUBLISHED = TASK.replace("version = 1\n", 'version = 1\npublished = ["random-controls-synthetic"]\n')


def test_one_table_of_all_cells(harness: Callable[..., Any], tmp_path: Path) -> None:
    folder = write_task(tmp_path / "task", PUBLISHED + TRAIN + METRICS + MATRIX)
    done = harness("eval", "--task", folder, "--out", tmp_path, "--quiet")
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    head = next(line for line in lines if "dictionary" in line and "recovered" in line)
    assert all(word in done.out for word in ("firing", "seeds", "cosine", "MCC", "variance", "L0", "dead"))  # long headings take two lines
    table = [line.split() for line in lines[lines.index(head) :]]
    names = [row[1] for row in table if row and row[0] in ("variable", "constant")]
    assert names == ["mini~1024", "random", "mini", "random"] * 2
    assert "Recovering known features" in done.out  # the published table
    held = harness("eval", "--task", folder, "--dry-run", "--json").json  # the cache holds what is trained, and measuring has a pace by now
    assert [(cell["trainings_and_measurements"]["trainings"][0]["cached"], cell["seconds"] > 0) for cell in held["cells"]] == [(2, True)] * 2
    again = harness("eval", "--task", folder, "--out", tmp_path)
    assert again.code == 0
    assert "training" not in again.err
    one = harness("eval", "--task", f"{folder}@firing=constant", "--out", tmp_path, "--json").json
    assert one["model"]["name"].startswith("synthetic")


def test_a_plan_learns_from_runs(harness: Callable[..., Any], tmp_path: Path) -> None:
    """Before the first training a plan says what it knows; after it, how long another takes; the cache's dictionaries are not trained again."""
    env = {"HARNESS_CACHE": str(tmp_path / "cache")}
    folder = write_task(tmp_path / "task", PUBLISHED + TRAIN + METRICS)
    first = harness("eval", "--task", folder, "--dry-run", env=env).out
    assert "2 of width 24, each 1 passes over at most 4,096 tokens" in " ".join(first.split())
    assert "unknown" in first
    assert harness("eval", "--task", folder, "--out", tmp_path, "--quiet", env=env).code == 0
    known = harness("eval", "--task", folder, "--dry-run", "--json", env=env).json["trainings_and_measurements"]
    assert (known["trainings"][0]["cached"], known["trainings"][0]["seconds"]) == (2, 0)
    assert [one["n"] for one in known["measurements"]] == [6]  # two snapshots and two trainings, and a random dictionary beside each row
    assert known["seconds"] > 0
    another = write_task(tmp_path / "another", (PUBLISHED + TRAIN + METRICS).replace("samples = 4096", "samples = 8192"))
    foreseen = harness("eval", "--task", another, "--dry-run", "--json", env=env).json["trainings_and_measurements"]["trainings"][0]
    assert foreseen["cached"] == 0
    assert foreseen["tokens"] == 8192
    assert foreseen["seconds"] > 0
    wider = write_task(tmp_path / "wider", (PUBLISHED + TRAIN + METRICS).replace("width = 24", "width = 48"))
    plan = harness("eval", "--task", wider, "--dry-run", "--json", env=env).json["trainings_and_measurements"]
    assert plan["seconds"] is None
    assert plan["unknown"] == ["training mini"]


def test_plans_and_wrong_wishes(harness: Callable[..., Any], tmp_path: Path) -> None:
    folder = write_task(tmp_path / "task", PUBLISHED + TRAIN + METRICS)
    plan = harness("eval", "--task", folder, "--dry-run")
    assert plan.code == 0, plan.err
    assert "synthetic" in plan.out
    refused = harness("eval", "--task", folder, "--steerer", "none", "--judge", "offline", "--out", tmp_path)
    assert "none" in refused.error


@pytest.mark.parametrize("name", ["synthetic", "synthetic-mini"])
def test_shipped_tasks_hold(name: str) -> None:
    host = PluginHost.load()
    report = check_task(host, name)
    assert report["problems"] == []
    assert not any("needs --" in note or "no estimate" in note for note in report["notes"]), "nothing is to be brought, and no text generated"
    cells = find_task(host, name).file.cells
    assert [cell.name for cell in cells] == ["firing=constant", "firing=variable"]
    for cell in cells:
        synthetic = find_task(host, name).file.at(cell).synthetic
        assert synthetic is not None
        probabilities = synthetic.config
        assert probabilities.firing["kind"] == {"firing=constant": "constant", "firing=variable": "log_uniform"}[cell.name]


def test_settings_that_do_not_exist_are_named_by_validation(tmp_path: Path) -> None:
    text = PUBLISHED.replace("random-controls-synthetic", "nothing").replace("log_uniform", "loguniform")
    problems = check_task(PluginHost.load(), str(write_task(tmp_path / "task", text)))["problems"]
    assert [word for word in ("nothing", "loguniform") if any(word in problem for problem in problems)] == ["nothing", "loguniform"]


def test_a_field_that_came_later_leaves_tasks_what_they_were(tmp_path: Path) -> None:
    """The digest is that of before ``decoder_init_norm`` was there: stored runs and entries of a task with trainings are still of it."""
    written = TASK + TRAIN + METRICS
    assert load_task(write_task(tmp_path / "task", written)).digest() == "1b21c7450374dffb"
    other = written.replace("epochs = 1\n", "epochs = 1\ndecoder_init_norm = 1\n")
    assert load_task(write_task(tmp_path / "other", other)).digest() != "1b21c7450374dffb"
