"""One plugin with other options is another method, and is called so wherever a method is named; what is not used is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any


def test_variants_of_a_steerer_are_told_apart_everywhere(harness: Callable[..., Any], tiny_task: Path, tmp_path: Path) -> None:
    common = ("--no-controls", "--limit", "1", "--task", tiny_task, "--out", tmp_path)
    command = ("eval", "--labeler", "calibf1", "-L", "top_k=7", "--steerer", "diff-mean", "--steerer", "sae-add", "--steerer", "sae-add:quantile=0.5")
    done = harness(*command, "--metric", "overlap:features=8", "--metric", "overlap", *common, "--json")
    rows = done.json["rows"]
    steered = [row["subject"] for row in rows if row["kind"] == "steering"]
    assert [subject.get("label") for subject in steered] == [None, "calibf1:top_k=7 × sae-add", "calibf1:top_k=7 × sae-add:quantile=0.5"]
    assert [row["subject"].get("label") for row in rows if row["kind"] == "dictionary" and row["role"] == "method"] == ["overlap:features=8", None]
    shown = " ".join(harness(*command, "--metric", "overlap:features=8", "--metric", "overlap", *common).out.split())
    assert "calibf1:top_k=7 × sae-add:quantile=0.5" in shown
    assert "mean overlap (features=8)" in shown
    (run,) = (tmp_path / "runs").iterdir()
    assert harness("runs", "export", run.name, tmp_path / "texts.jsonl", "--out", tmp_path).code == 0
    exported = {json.loads(line)["method"] for line in (tmp_path / "texts.jsonl").read_text(encoding="utf-8").splitlines()}
    assert exported == {"diff-mean", "calibf1:top_k=7 × sae-add", "calibf1:top_k=7 × sae-add:quantile=0.5"}
    assert set(harness("runs", "--out", tmp_path, "--json").json[0]["methods"]) == exported
    board = harness("leaderboard", "--out", tmp_path, "--json").json
    names = {row["name"] for group in board["groups"] for row in group["rows"] if group["kind"] == "steering"}
    assert names == exported


def test_what_is_asked_for_and_not_used_is_in_the_entry(harness: Callable[..., Any], tiny_task: Path, tmp_path: Path) -> None:
    command = ("eval", "--labeler", "calibf1", "-L", "pi0=0.5", "--steerer", "none", "--steerer", "none", "--no-controls", "--limit", "1")
    done = harness(*command, "--task", tiny_task, "--out", tmp_path)
    assert done.code == 0, done.err
    told = " ".join(done.out.split())
    assert "labeler calibf1:pi0=0.5 was asked for and is not used: none needs no features" in told
    assert "steerer none was asked for twice with the same options; it is run once" in told
    dry = harness(*command, "--task", tiny_task, "--out", tmp_path, "--dry-run", "--json").json
    assert len(dry["notices"]) == 2
    assert [row["method"] for row in dry["methods"]] == ["none"]


def test_what_follows_no_grammar_is_one_line(harness: Callable[..., Any], tiny_task: Path, tmp_path: Path) -> None:
    for text, why in (("none+", "a plugin is missing beside a +"), ("prompt:words=a,b", "is not option=value"), ("nne", "did you mean 'none'?")):
        assert why in harness("eval", "--steerer", text, "--task", tiny_task, "--out", tmp_path).error
    assert "unknown option of steerer diff-mean" in harness("eval", "--steerer", "diff-mean:x=1", "--task", tiny_task, "--out", tmp_path).error
    assert not (tmp_path / "runs").exists()
