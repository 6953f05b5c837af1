"""Named protocols on the command line: a run is scored by any of them, generates nothing again, and is ranked with its like alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.runs import run_of

from harness import load_run
from harness.errors import UnknownNameError
from harness.leaderboard.files import load_entries, load_entry
from harness.scoring import halves, harmonic_mean, score_ratings

OF_MEANS = ("--aggregation", "harmonic-mean-of-means")


def texts_of(run: Path) -> Any:
    return load_run(run).texts().drop(columns=["instruction", "text"])


def test_a_stored_run_is_scored_by_another_protocol(harness: Callable[..., Any], out: Path) -> None:
    run, before = run_of(out), texts_of(run_of(out))
    files = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    ask = ("runs", "score", run.name, "--protocol", "axbench", "--out", out)
    printed = harness(*ask, "--json").json
    assert "--add keeps this entry" in harness(*ask).out
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == files, "nothing is written unasked"
    entry = harness(*ask, "--add", "--json").json
    assert (entry["id"], entry["rows"]) == (printed["id"], printed["rows"])
    assert (entry["protocol"]["name"], entry["protocol"]["aggregation"]) == ("axbench", "mean-of-harmonic-means")
    assert texts_of(run).equals(before)
    assert sorted(path.name for path in run.glob("entry*.json")) == ["entry-axbench-mean-of-harmonic-means.json", "entry.json"]
    entries, problems = load_entries(out / "leaderboard" / "entries")
    assert not problems
    assert {one.protocol.name for one in entries} == {"cv", "axbench"}
    own, other = load_entry(run / "entry.json"), load_entry(run / "entry-axbench-mean-of-harmonic-means.json")
    assert own.file_name != other.file_name
    assert harness("runs", "verify", "--out", out, "--json").json[0]["verdict"] == "intact"
    assert f"entry: {out / 'leaderboard' / 'entries'}" in harness(*ask, "--add").out
    again = harness("runs", "score", run.name, "--protocol", "cv", "--out", out, "--json").json
    assert again["rows"] == own.as_json()["rows"]


def test_the_numbers_are_those_of_the_protocol(harness: Callable[..., Any], out: Path) -> None:
    """From the exported ratings: the first half of a concept's instructions chooses, the second half reports."""
    run = run_of(out)
    frame = load_run(run).texts()
    for aggregation in ("mean-of-harmonic-means", "harmonic-mean-of-means"):
        entry = load_run(run).entry(protocol="axbench", aggregation=aggregation)
        row = next(row for row in entry.rows if row.subject.name == "calibf1 × sae-clamp")
        for item in (item for item in row.items if item.answered):
            own = frame[(frame["method"] == "calibf1 × sae-clamp") & (frame["concept_id"] == item.id)]
            names = load_run(run).manifest.instructions_for(item.id)
            grid = sorted(own["strength"].unique())
            ratings = np.full((len(grid), len(names), 3), np.nan)
            for _, text in own.iterrows():
                place = grid.index(text["strength"]), names.index(text["instruction_id"])
                ratings[place] = [text["concept_rating"], text["instruction_rating"], text["fluency_rating"]]
            expected = score_ratings(ratings, halves(len(names)), aggregation)
            assert item.values["overall"] == pytest.approx(expected.overall)
            chosen, second = expected.chosen_per_fold[0, 0], ratings[:, len(names) // 2 :]
            by_hand = harmonic_mean(second[chosen]).mean() if aggregation.startswith("mean") else harmonic_mean(second[chosen].mean(axis=0))
            assert item.values["overall"] == pytest.approx(float(by_hand))


def test_an_evaluation_is_scored_by_what_it_asks_for(harness: Callable[..., Any], out: Path, tiny_task: Path) -> None:
    command = ("eval", "--labeler", "calibf1", "--steerer", "sae-clamp", "--task", tiny_task, "--out", out, "--json")
    entry = harness(*command, "--protocol", "axbench", *OF_MEANS).json
    run_of(out)  # no run was added: no text depends on the protocol
    assert entry["protocol"]["name"] == "axbench"
    overall = next(row for row in entry["rows"] if row["role"] == "method")["items"][0]["values"]
    assert overall["overall"] == pytest.approx(float(harmonic_mean([overall[name] for name in ("concept", "instruction", "fluency")])))
    assert harness(*command).json["protocol"]["name"] == "cv"


def test_protocols_are_never_ranked_together(harness: Callable[..., Any], out: Path) -> None:
    for more in ((), OF_MEANS):
        assert harness("runs", "score", run_of(out).name, "--protocol", "axbench", *more, "--add", "--out", out).code == 0
    groups = harness("leaderboard", "--out", out, "--json").json["groups"]
    assert len(groups) == 3
    shown = harness("leaderboard", "--out", out).out
    assert "protocol axbench, harmonic mean of means" in " ".join(shown.split())


def test_a_task_file_names_its_protocol(harness: Callable[..., Any], variant: Callable[..., Path], tmp_path: Path) -> None:
    folder = variant(("[evaluation]\n", '[evaluation]\nprotocol = "axbench"\naggregation = "harmonic-mean-of-means"\n'))
    command = ("eval", "--labeler", "calibf1", "--steerer", "sae-clamp", "--no-controls", "--limit", "1", "--task", folder, "--out", tmp_path)
    entry = harness(*command, "--json").json
    assert (entry["protocol"]["name"], entry["protocol"]["aggregation"]) == ("axbench", "harmonic-mean-of-means")
    assert "protocol axbench, harmonic mean of means" in " ".join(harness(*command).out.split())
    (run,) = (tmp_path / "runs").iterdir()
    assert [path.name for path in run.glob("entry*.json")] == ["entry.json"]
    assert harness(*command, "--protocol", "cv", "--json").json["protocol"]["name"] == "cv"
    bad = variant(("[evaluation]\n", '[evaluation]\nprotocol = "axbnch"\n'), name="bad")
    assert "evaluation.protocol" in harness("tasks", "validate", bad).out


def test_an_unknown_protocol_names_those_that_exist(harness: Callable[..., Any], out: Path, tiny_task: Path) -> None:
    assert "axbench" in harness("runs", "score", run_of(out), "--protocol", "axbnch").error
    for wrong in ({"protocol": "axbnch"}, {"aggregation": "mean"}):
        with pytest.raises(UnknownNameError) as error:
            load_run(run_of(out)).entry(**wrong)
        assert error.value.given in wrong.values()


def test_what_has_no_ratings_is_not_scored_by_a_protocol(harness: Callable[..., Any], tiny_task: Path, tmp_path: Path) -> None:
    command = ("eval", "--labeler", "most-frequent", "--detector", "bow", "--no-controls", "--task", tiny_task, "--out", tmp_path)
    assert harness(*command).code == 0
    for more in ((), ("--add",)):
        done = harness("runs", "score", run_of(tmp_path).name, "--protocol", "axbench", "--out", tmp_path, *more)
        assert (done.code, "no texts" in done.error) == (2, True)
    assert harness("runs", "score", "nothing", "--protocol", "axbench", "--out", tmp_path).code == 2
