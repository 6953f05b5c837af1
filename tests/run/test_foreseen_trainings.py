"""What `--dry-run` says of dictionaries that a task trains for its labelers, before and after the first run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

TABLE = """
[[train]]
name = "mini"
seeds = [0, 1]
layer = 1
width = 96
k = 8
batch_size = 256
epochs = 1.0

[corpus]"""


def test_a_steering_task_is_told_what_its_labelers_trainings_take(
    harness: Callable[..., Any], variant: Callable[..., Path], tmp_path: Path
) -> None:
    env = {"HARNESS_CACHE": str(tmp_path / "cache")}
    task = variant(("schema = 1\n", "schema = 2\n"), ("\n[corpus]", TABLE))
    plan = ("eval", "--task", task, "--labeler", "calibf1", "--labeler", "random", "--steerer", "sae-clamp", "--judge", "offline", "--dry-run")

    def foreseen(*more: str) -> Any:
        return harness(*plan, *more, "--json", env=env).json["trainings_and_measurements"]

    assert foreseen() is None, "labelers choose among the features of the task's first dictionary, which is a file"
    first = foreseen("-L", "dictionary=mini@1")
    assert [(one["table"], one["n"], one["cached"], one["seconds"]) for one in first["trainings"]] == [("mini", 1, 0, None)]
    assert (first["measurements"], first["opening"], first["unknown"]) == ([], 0, ["training mini"])
    assert harness("label", "--task", task, "--labeler", "calibf1", "-L", "dictionary=mini@1", "--quiet", env=env).code == 0
    held = foreseen("-L", "dictionary=mini@1")
    assert (held["trainings"][0]["cached"], held["seconds"]) == (1, 0)
    other = foreseen("-L", "dictionary=mini")
    assert (other["trainings"][0]["cached"], other["unknown"]) == (0, [])
    assert other["seconds"] > 0, "at the pace of the other seed"
    text = " ".join(harness(*plan, "-L", "dictionary=mini", env=env).out.split())
    assert "trainings of mini: 1 of width 96, each 1 passes over at most" in text
    assert "generations" in text
    assert "measurements" not in text
    detected = harness("eval", "--task", task, "--labeler", "calibf1", "-L", "dictionary=mini", "--detector", "sae", "--dry-run", env=env).out
    assert "trainings of mini" in detected
    assert "mini@3" in harness(*plan, "-L", "dictionary=mini@3", env=env).err
