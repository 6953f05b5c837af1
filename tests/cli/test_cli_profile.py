"""``harness profile``: what a run noted of its own time, and the bound that stands beside it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.engine.timing import EDITS, PROMPTS, SAMPLING, STEPS, TOKENIZER
from harness.files.timing import ENCODING, READING
from harness.run.profile import PROFILE
from harness.store import RunStore


@pytest.fixture
def run(evaluation: tuple[Path, Any]) -> Path:
    (found,) = (evaluation[0] / "runs").iterdir()
    return found


def test_parts_add_up_and_every_token_was_decoded_in_a_step(harness: Callable[..., Any], run: Path) -> None:
    found = harness("profile", run, "--json").json
    stages = {stage["stage"]: stage for stage in found["stages"]}
    assert list(stages) == ["label", "steering: generate", "steering: rate"]
    for stage in stages.values():
        assert sum(stage["seconds"].values()) == pytest.approx(stage["wall"], rel=0.01, abs=1e-3)
        assert min(stage["seconds"].values()) >= 0
    generate = stages["steering: generate"]
    assert {PROMPTS, STEPS, EDITS, SAMPLING, TOKENIZER, "store", "steerers", "other"} <= generate["seconds"].keys()
    with RunStore.open(run, read_only=True) as store:
        texts, dtype = list(store.generations().values()), store.manifest.model.dtype
    assert generate["rows"][PROMPTS] == len(texts)
    assert generate["rows"][PROMPTS] + generate["rows"][STEPS] == sum(text.n_tokens + (text.finish == "eos") for text in texts)
    decoding = found["decoding"]
    assert decoding["reached"]["steps"] == generate["calls"][STEPS]
    assert decoding["reached"]["tokens_per_second"] == pytest.approx(generate["rows"][STEPS] / generate["seconds"][STEPS])
    assert decoding["model"]["dtype"] == dtype
    assert decoding["share"] == pytest.approx(decoding["machine"]["seconds"] / decoding["reached"]["seconds"])
    assert {"this machine", "NVIDIA H100 SXM 80GB"} <= decoding["devices"].keys()


def test_what_detectors_and_metrics_do_is_told_apart(harness: Callable[..., Any], tiny_task: Path, tmp_path: Path) -> None:
    env = {"HARNESS_CACHE": str(tmp_path / "cache")}
    plugins = ("--labeler", "calibf1", "--detector", "sae:pool=mean", "--detector", "diff-mean", "--detector", "prompt", "--metric", "reconstruction")
    command = ("eval", *plugins, "--no-controls", "--limit", "1", "--task", tiny_task, "--out", tmp_path, "--quiet")
    assert harness(*command, env=env).code == 0
    stages = {stage["stage"]: stage for stage in harness("profile", "last", "--out", tmp_path, "--no-limits", "--json").json["stages"]}
    assert list(stages) == ["label", "detection: detect", "dictionary: measure"]
    for stage in stages.values():
        assert sum(stage["seconds"].values()) == pytest.approx(stage["wall"], rel=0.01, abs=1e-3)
    assert {READING, ENCODING, TOKENIZER, "corpus", "labelers"} <= stages["label"]["seconds"].keys()
    detect, measure = stages["detection: detect"], stages["dictionary: measure"]
    assert {READING, TOKENIZER, ENCODING, "detectors", "store"} <= detect["seconds"].keys()
    assert {READING, EDITS, "opening dictionaries", "metrics", "store"} <= measure["seconds"].keys()
    assert stages["label"]["rows"][READING] >= 160, "the corpus was read"
    assert detect["rows"][READING] >= 2 * detect["calls"]["detectors"]


def test_the_screen_has_a_table_for_each_question(harness: Callable[..., Any], run: Path) -> None:
    out = harness("profile", run, "--no-limits").out
    for word in ("steering: generate", SAMPLING, "not measured (--no-limits)", "H200", "512"):
        assert word in out


def test_what_the_times_do_not_hold_is_said(harness: Callable[..., Any], run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert harness("profile", run, "--no-limits", "--json").json["missing"] == []
    notes, items = RunStore.notes, 60

    def noted(store: RunStore, kind: str | None = None) -> list[Any]:
        """As a command leaves them that was killed while texts came, and another one with workers."""
        found = [note for note in notes(store, kind) if items or "steering: generate" not in str(note.value)]
        found = [replace(note, value={**note.value, "items": min(items, note.value["items"])}) if note.kind == PROFILE and "items" in note.value
                 else note for note in found]  # fmt: skip
        return [*found, replace(notes(store)[0], kind="executor", value={"executor": "ray", "workers": 3})] if kind == "executor" else found

    monkeypatch.setattr(RunStore, "notes", noted)
    monkeypatch.setattr(RunStore, "status", "interrupted")
    text = " ".join(harness("profile", run, "--no-limits").out.split())
    assert "until now: the run is interrupted; left of it: scores and entry" in text
    assert "steering: 12 of 72 items were done by commands that were killed" in text
    assert "of what 3 workers (executor ray) did only the time until it came is seen" in text
    items = 0
    assert "steering: 72 of 72 items" in harness("profile", run, "--no-limits").out


def test_a_run_from_elsewhere_is_not_held_against_this_machine(
    harness: Callable[..., Any], run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.run.provenance.hardware", lambda: {"system": "Linux", "machine": "other", "cores": "1000"})
    decoding = harness("profile", run, "--json").json["decoding"]
    assert (decoding["machine"], decoding["share"]) == (None, None)
    assert "another machine" in decoding["reason"]
    assert "this machine" not in decoding["devices"]


def test_a_run_without_times_is_refused(
    harness: Callable[..., Any], run: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "runs" / run.name
    shutil.copytree(run, copy)
    with RunStore.open(copy, read_only=True) as store:
        before = [note.kind for note in store.notes()]
    assert before.count("profile") == 3
    with RunStore.open(copy) as store, store._database.transaction("forget the times"):
        store._database.execute("DELETE FROM notes WHERE kind = 'profile'")
    assert "holds no times" in harness("profile", copy).error
