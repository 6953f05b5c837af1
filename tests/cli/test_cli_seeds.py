"""``--seeds``: a run for each seed, kept as any other, and one pooled table."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

COMMAND = ("eval", "--labeler", "calibf1", "--steerer", "sae-clamp", "--concepts", "girl,big", "--strengths", "0.5")


def test_each_seed_is_a_run_and_all_are_pooled(harness: Callable[..., Any], tiny_task: Path, tmp_path: Path) -> None:
    there = ("--task", tiny_task, "--out", tmp_path)
    found = harness(*COMMAND, *there, "--seeds", "0,3", "--json").json
    assert found["seeds"] == [entry["seed"] for entry in found["entries"]] == [0, 3]
    assert len(list((tmp_path / "runs").iterdir())) == len(list((tmp_path / "leaderboard" / "entries").iterdir())) == 2
    rows = {(row["name"], row["role"]): row for row in found["rows"]}
    assert set(rows) == {("calibf1 × sae-clamp", "method"), ("random × sae-clamp", "control"), ("prompt", "control")}
    for place, row in enumerate(found["rows"]):
        own = [entry["rows"][place] for entry in found["entries"]]
        scores = [(one["ranked"] or one["metrics"]["overall"])["value"] for one in own]
        assert [seed["value"] for seed in row["seeds"]] == scores
        assert row["score"]["value"] == pytest.approx(statistics.fmean(scores))  # every seed has every concept here
        assert row["spread"] == pytest.approx(statistics.stdev(scores))
        assert (row["lowest"], row["highest"], row["n_items"]) == (min(scores), max(scores), 2)

    alone = harness(*COMMAND, *there, "--seed", "3", "--json").json  # the run of that seed, which is there already
    assert (alone["id"], alone["run_digest"]) == (found["entries"][1]["id"], found["entries"][1]["run_digest"])
    shown = harness(*COMMAND, *there, "--seeds", "0,3", env={"COLUMNS": "100"})
    assert shown.code == 0, shown.err
    assert "pooled over the seeds 0, 3" in shown.out
    assert shown.out.count("entry ") == 2
    plan = harness(*COMMAND, *there, "--seeds", "0,3", "--dry-run")
    assert "2 runs, one for each seed" in plan.out


@pytest.mark.parametrize("arguments", [("0",), ("0,0",), ("0,x",), ("",), ("0,1", "--seed", "0")], ids=" ".join)
def test_what_is_refused(harness: Callable[..., Any], tiny_task: Path, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    assert "--seeds" in harness(*COMMAND, "--task", tiny_task, "--out", tmp_path, "--seeds", *arguments).error
    assert not (tmp_path / "runs").exists()
