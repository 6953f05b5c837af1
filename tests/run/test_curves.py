"""How the training of a method went is kept in the run that used it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.run.prepare import CURVES
from harness.store.run import RunStore
from harness.testing.toy import toy_task


def test_a_run_keeps_the_curves_of_what_it_has_trained(harness: Callable[..., Any], tmp_path: Path) -> None:
    task = toy_task(tmp_path / "task", conversations=True)
    command = ("eval", "--task", task, "--detector", "ssv", "-D", "ssv:epochs=1", "--device", "cpu", "--dtype", "float32", "--out", tmp_path / "runs")
    for _ in range(2):  # the second time all is there already, and nothing is noted twice
        assert harness(*command, "--json", env={"HARNESS_CACHE": str(tmp_path / "cache")}).json
    (file,) = (tmp_path / "runs").rglob("*.sqlite")
    with RunStore.open(file.parent, read_only=True) as store:
        notes = list(store.notes(f"{CURVES}: detector ssv"))
    (note,) = notes
    assert set(note.value) == {"music", "water", "bread"}
    for curve in note.value.values():
        assert curve["step"][0] == 0
        assert len(curve["step"]) == len(curve["loss"]) == len(curve["held_out"]) > 1
        assert curve["norm"] > 0
