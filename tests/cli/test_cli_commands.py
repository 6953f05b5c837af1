"""The commands beside `eval`: what they print, that JSON stands alone on standard output, and that a plan costs nothing."""

from __future__ import annotations

import csv
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from helpers.runs import run_of

from harness.cli import COMMANDS

CLAMP = ("eval", "--labeler", "calibf1", "--steerer", "sae-clamp")


@pytest.mark.parametrize("command", [(), *((name,) for name in COMMANDS), ("plugins", "show"), ("tasks", "validate"), ("runs", "export")])
def test_every_command_explains_itself(harness: Callable[..., Any], command: tuple[str, ...]) -> None:
    done = harness(*command, "--help")
    assert (done.code, done.err) == (0, "")
    assert "Usage: harness" in done.out
    assert len(done.out.splitlines()) > 4
    assert harness(*command, "-h").out == done.out


def test_version(harness: Callable[..., Any]) -> None:
    from harness import __version__

    assert harness("--version").out == f"harness {__version__}\n"


def test_doctor_tells_which_keys_are_set_and_never_what_they_are(harness: Callable[..., Any]) -> None:
    env = {"OPENAI_API_KEY": "sk-very-secret", "ANTHROPIC_API_KEY": ""}
    report = harness("doctor", "--json", env=env)
    assert (report.json["keys"]["OPENAI_API_KEY"], report.json["keys"]["ANTHROPIC_API_KEY"]) == ("set", "not set")
    assert report.json["cache"]["writable"]
    text = harness("doctor", env=env)
    assert text.code == 0
    assert "torch" in text.out
    assert "secret" not in report.out + text.out


def test_models(harness: Callable[..., Any]) -> None:
    assert "smollm2-135m-instruct" in {row["name"] for row in harness("models", "--json").json}
    assert "smollm2-135m-instruct" in harness("models").out


# ---------------------------------------------------------------------------------------------------------------------------- dry run


def test_a_dry_run_says_what_would_be_done_and_does_nothing(
    harness: Callable[..., Any], tiny_task: Path, evaluation: tuple[Path, Any], tmp_path: Path
) -> None:
    command = (*CLAMP, "--task", tiny_task, "--out", tmp_path / "out", "--dry-run")
    plan = harness(*command, "--json")
    assert plan.err == ""
    estimate = plan.json["estimate"]
    trials = sum(row["n_texts"] for row in evaluation[1]["rows"]) + 8  # of the concept that is abstained from
    assert (estimate["generations"], estimate["ratings"], estimate["new_tokens"]) == (trials, trials, trials * 10)
    assert estimate["exact"]
    assert estimate["disk_bytes"] > 0
    assert estimate["seconds"] > 0
    assert [row["method"] for row in plan.json["methods"]] == ["calibf1 × sae-clamp", "random × sae-clamp", "prompt"]
    text = harness(*command)
    assert text.code == 0
    assert f"{trials} generations" in " ".join(text.out.split())
    assert not (tmp_path / "out").exists()
    assert plan.json["stored"] == []
    assert "stored" not in text.out


def test_a_dry_run_says_what_is_left_of_a_stored_run(
    harness: Callable[..., Any], tiny_task: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.run.bench_model.load_subject", None)  # no weights are read for it
    monkeypatch.setattr("harness.run.bench_dictionaries.open_dictionaries", None)
    command = (*CLAMP, "--task", tiny_task, "--out", out, "--dry-run")
    folder = run_of(out)
    (done,) = harness(*command, "--json").json["stored"]
    assert (done["run"], done["status"], done["left"]) == (folder.name, "finished", [])
    assert f"{folder.name} is stored and finished" in " ".join(harness(*command).out.split())
    assert harness(*command, "--fresh", "--json").json["stored"] == []
    assert harness(*command, "--seed", "9", "--json").json["stored"] == []
    assert len(harness(*command, "--seeds", "9,0", "--json").json["stored"]) == 1
    (further,) = harness(*command, "--side-effects", "--json").json["stored"]
    assert [phrase[:15] for phrase in further["left"]] == ["side effects at"]
    with sqlite3.connect(folder / "run.sqlite") as database:
        database.execute("DELETE FROM outcomes WHERE stage = 'rate' AND item_id IN (SELECT id FROM items LIMIT 5)")
        database.execute("DELETE FROM outcomes WHERE stage = 'generate' AND item_id IN (SELECT id FROM items LIMIT 3)")
        database.execute("DELETE FROM meta WHERE key = 'finished'")
    (begun,) = harness(*command, "--json").json["stored"]
    assert begun["status"] == "interrupted"
    assert begun["left"] == ["3 of 72 texts", "5 of 72 ratings by words"]


def test_a_dry_run_of_chosen_mode_gives_an_upper_bound(harness: Callable[..., Any], variant: Callable[..., Path]) -> None:
    task = variant(('mode = "fixed"\nfile = "concepts.jsonl"', 'mode = "chosen"'))
    plan = harness(*CLAMP, "-L", "top_k=2", "--limit", "3", "--task", task, "--dry-run", "--json").json
    assert not plan["estimate"]["exact"]
    assert plan["estimate"]["concepts"] == 2
    assert "at most" in harness(*CLAMP, "--task", task, "--dry-run").out


# ------------------------------------------------------------------------------------------------------------------------------- label


def test_labels_as_table_json_and_files(harness: Callable[..., Any], tiny_task: Path, evaluation: tuple[Path, Any], tmp_path: Path) -> None:
    command = ("label", "--labeler", "calibf1", "--task", tiny_task)
    found = harness(*command, "--json").json
    answers = {row["concept"]: row for row in found["labels"]}
    assert set(answers) == {"girl", "big", "mom", "zebra"}
    assert answers["zebra"]["abstained"] == "the corpus has no label 'zebra'"
    assert found["options"]["pi0"] == 0.05
    in_entry = {row["id"]: row["features"] for row in evaluation[1]["rows"][0]["items"]}
    assert {name: row["features"] for name, row in answers.items()} == in_entry
    table = harness(*command)
    assert "held out" in table.out
    assert "— (the corpus has no label 'zebra'" in " ".join(table.out.split())
    for suffix in ("jsonl", "csv", "parquet"):
        assert harness(*command, "-o", tmp_path / f"labels.{suffix}", "--quiet").code == 0
    rows = [json.loads(line) for line in (tmp_path / "labels.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["concept"] for row in rows] == [row["concept"] for row in found["labels"]]
    assert [f"{row['dictionary']}/{row['feature']}" for row in rows if row["feature"] is not None] == [
        feature for row in found["labels"] for feature in row["features"]
    ]
    assert {row["sae_d_sae"] for row in rows} == {512, None}
    with (tmp_path / "labels.csv").open(encoding="utf-8", newline="") as file:
        assert [row["feature"] for row in csv.DictReader(file)] == ["" if row["feature"] is None else str(row["feature"]) for row in rows]
    assert pq.read_table(tmp_path / "labels.parquet").num_rows == 4


def test_a_task_without_a_dictionary_has_nothing_to_label(
    harness: Callable[..., Any], tiny_task: Path, tiny_model_path: Path, tiny_sae_path: Path, tmp_path: Path
) -> None:
    text = (tiny_task / "task.toml").read_text()
    start, end = text.index("[[dictionaries]]"), text.index("[corpus]")
    control = '[[controls]]\nlabeler = "random"\nsteerer = "sae-clamp"\n'
    for name in ("corpus.jsonl", "concepts.jsonl", "instructions.jsonl"):
        (tmp_path / name).write_bytes((tiny_task / name).read_bytes())
    text = (text[:start] + text[end:]).replace(control, "").replace("[steering.grids]", "[steering]\nlayer = 2\n[steering.grids]")
    (tmp_path / "task.toml").write_text(text)
    assert "[[dictionaries]]" in harness("label", "--labeler", "calibf1", "--task", tmp_path).error
    # what needs no dictionary works, at the task's own layer, and finds the mean residuals that a dictionary's statistics find
    command = ("eval", "--steerer", "diff-mean", "--limit", "3", "--json", "--out")
    bare = harness(*command, tmp_path / "bare", "--task", tmp_path).json["rows"]
    with_dictionary = harness(*command, tmp_path / "with", "--no-controls", "--task", tiny_task).json["rows"]
    chosen, theirs = ([row["strength"] for row in found[0]["items"]] for found in (bare, with_dictionary))
    assert chosen == theirs
    assert bare[0]["metrics"] == with_dictionary[0]["metrics"]


# ---------------------------------------------------------------------------------------------------------------- runs and leaderboard


def test_runs_are_listed_and_exported(harness: Callable[..., Any], evaluation: tuple[Path, Any], tmp_path: Path) -> None:
    out, _ = evaluation
    (row,) = harness("runs", "--out", out, "--json").json
    assert (row["status"], row["task"], row["trials"], row["generations"]) == ("finished", "tiny 1", 72, 72)
    assert "72/72" in harness("runs", "--out", out).out
    for suffix in ("jsonl", "parquet"):
        done = harness("runs", "export", row["id"][:9], tmp_path / f"rows.{suffix}", "--out", out)
        assert done.out == f"72 rows: {tmp_path / f'rows.{suffix}'}\n"
    first = json.loads((tmp_path / "rows.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert first["method"] == "calibf1 × sae-clamp"
    assert first["features"] == [first["features"][0]]
    last = json.loads((tmp_path / "rows.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    assert (last["method"], last["concept"], last["features"]) == ("prompt", "a zebra", [])
    assert pq.read_table(tmp_path / "rows.parquet").num_rows == 72
    assert "no runs below" in harness("runs", "--out", tmp_path / "nothing").out


def test_the_leaderboard_shows_entries(harness: Callable[..., Any], evaluation: tuple[Path, Any], tmp_path: Path) -> None:
    out, _ = evaluation
    assert "calibf1 × sae-clamp" in harness("leaderboard", "--out", out, "--no-published").out
    assert harness("leaderboard", "--out", out, "--json").json
    assert "make one with `harness eval`" in harness("leaderboard", "--out", tmp_path).out


def test_a_reader_that_goes_away_is_no_error(cache_folder: Path) -> None:
    """`harness plugins --json | head -c1`: no traceback."""
    environment = {**os.environ, "HARNESS_CACHE": str(cache_folder)}
    command = [sys.executable, "-c", "from harness.cli import main; main()", "plugins", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, cwd=Path(__file__).parents[2])
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    assert err == b""
    assert process.wait(timeout=120) in (0, 1)  # click answers 1 where it notices first
