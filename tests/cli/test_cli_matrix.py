"""A task with a matrix: every cell a run of its own, one table of all, gone on with, and made again from the stored runs alone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from harness.leaderboard.files import load_entries

MATRIX = """
[[methods]]
labeler = "calibf1"
steerer = "sae-clamp"

[[matrix]]
name = "score"
key = "labelers.calibf1.score"
values = ["calibrated-f1", "f1"]

[[matrix]]
name = "texts"
values = [
  {name = "all", sets = {"corpus.source" = "corpus.jsonl"}},
  {name = "few", sets = {"corpus.source" = "few.jsonl"}},
]
"""
LESS = ("--concepts", "girl,big", "--strengths", "0.5")


@pytest.fixture
def task(variant: Callable[..., Path]) -> Path:
    """The tiny task with a matrix whose second corpus is not there."""
    folder = variant(("schema = 1", "schema = 3"))
    (folder / "task.toml").write_text((folder / "task.toml").read_text(encoding="utf-8") + MATRIX, encoding="utf-8")
    return folder


def test_a_matrix_is_run_gone_on_with_and_made_again(harness: Callable[..., Any], task: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ("eval", "--task", task, "--out", out, *LESS)
    first = harness(*command, "--cell", "score=f1,texts=all", "--json").json
    assert (first["cells"], first["of"]) == (1, 4)

    failed = harness(*command)
    assert "2 of 4 cells of tiny failed" in failed.error
    assert "few.jsonl does not exist" in failed.error
    assert "2 of 4 cells" in failed.out, "the others have run"

    shutil.copy(task / "corpus.jsonl", task / "few.jsonl")
    found = harness(*command, "--json").json
    assert (found["cells"], found["of"], found["problems"]) == (4, 4, [])
    assert found["axes"] == {"score": ["calibrated-f1", "f1"], "texts": ["all", "few"]}
    assert {(row["name"], row["role"]) for row in found["rows"]} == {
        ("calibf1 × sae-clamp", "method"), ("random × sae-clamp", "control"), ("prompt", "control"),
    }  # fmt: skip
    runs = sorted(path.name for path in (out / "runs").iterdir())
    assert len(runs) == 4, "nothing was run twice"
    planned = harness(*command, "--dry-run", "--json").json["cells"]
    assert sorted(cell["stored"]["run"] for cell in planned) == runs
    assert not any(cell["stored"]["left"] for cell in planned)
    assert "4 of these 4 cells, 4 of them finished" in harness(*command, "--dry-run").out
    entries, problems = load_entries(out / "leaderboard" / "entries")
    assert not problems
    assert sorted(entry.id for entry in entries) == sorted(found["entries"])
    cell = next(entry.task.cell for entry in entries if entry.task.name == "tiny@score=f1,texts=few")
    assert cell is not None
    assert (cell.matrix, cell.place, cell.of, dict(cell.values)) == ("tiny", 3, 4, {"score": "f1", "texts": "few"})
    first_row = first["rows"][0]
    assert first_row in found["rows"], "the cell that was run alone is the same run"

    page = Path(found["page"])
    assert ElementTree.parse(page.with_name("steering.svg")).getroot().tag.endswith("svg")
    assert "calibf1 × sae-clamp" in page.read_text(encoding="utf-8")
    stored = json.loads(page.with_name("matrix.json").read_bytes())
    assert stored == {name: value for name, value in found.items() if name != "page"}

    shutil.rmtree(task)
    shutil.rmtree(out / "matrices")
    assert harness("runs", "matrix", "--out", out, "--json").json == found
    shown = harness("runs", "matrix", "tiny", "--out", out)
    assert "4 of 4 cells" in shown.out
    assert "matrix" in harness("runs", "matrix", "other", "--out", out).error


def test_a_dry_run_sums_the_cells(harness: Callable[..., Any], task: Path) -> None:
    (task / "few.jsonl").write_bytes((task / "corpus.jsonl").read_bytes())
    found = harness("eval", "--task", task, "--dry-run", "--json", *LESS).json
    assert len(found["cells"]) == 4
    assert found["total"]["generations"] == sum(cell["estimate"]["generations"] for cell in found["cells"]) > 0
    assert found["problems"] == []
    shown = harness("eval", "--task", task, "--dry-run", "--cell", "texts=few", *LESS)
    assert "2 of 4 cells" in shown.out
    (task / "few.jsonl").unlink()
    assert "few.jsonl does not exist" in " ".join(harness("eval", "--task", task, "--dry-run", "--json").json["problems"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--cell", "score=f2"), "did you mean 'f1'"),
        (("--cell", "scores=f1"), "did you mean 'score'"),
        (("-L", "calibf1:score=auroc"), "axis 'score'"),
        (("-L", "score=auroc"), "axis 'score'"),
        (("--corpus", "corpus.jsonl"), "axis 'texts'"),
        (("--seeds", "0,1"), "--seeds"),
    ],
)
def test_what_is_refused(harness: Callable[..., Any], task: Path, tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    assert said in harness("eval", "--task", task, "--out", tmp_path / "out", *arguments).error
    assert not (tmp_path / "out").exists()


def test_a_task_without_a_matrix_has_no_cells(harness: Callable[..., Any], tiny_task: Path) -> None:
    assert "has no matrix" in harness("eval", "--task", tiny_task, "--cell", "a=b").error


def test_each_cell_is_validated(harness: Callable[..., Any], task: Path) -> None:
    assert "cells of" not in harness("tasks", "validate", task).out
    done = harness("tasks", "validate", task, "--json")
    assert done.code == 2
    report = json.loads(done.out)[0]
    assert [problem.split(": ")[0] for problem in report["problems"]] == [f"cell score={score},texts=few" for score in ("calibrated-f1", "f1")]
    assert "a matrix of 4 cells, each a run of its own; the estimates are of one" in report["notes"]
