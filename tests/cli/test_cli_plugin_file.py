"""``--plugin FILE``: a method in one file, in every command that works with plugins; what a run keeps of it."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

from harness.cli.proposals import stored_runs
from harness.leaderboard.files import load_entry
from harness.leaderboard.next_step import eval_command as proposed_command
from harness.store import RunStore
from harness.store.command import eval_command
from harness.testing import toy_task

METHODS = """import numpy as np

from harness import hookimpl
from harness.contracts import DetectorTraits, LabelerTraits, SteererTraits
from harness.interventions import Intervention
from harness.options import Options
from harness.types import FeatureRef, Labeling


class ShiftOptions(Options):
    side: float = 1.0
    \"\"\"Which way it goes.\"\"\"


class Shift:
    traits = SteererTraits(unit="residual-norm", grid=(0.5,), neutral=0.0, needs_features=False)

    def __init__(self, options):
        self.options = options

    def prepare(self, bench, labelings):
        self.bench = bench

    def intervene(self, labeling, strength):
        import torch

        from harness.steering.add_vector import AddVector

        return Intervention(edits=(AddVector(self.bench.site, strength * torch.ones(self.bench.model.d_model), self.bench.positions),))


class First:
    traits = LabelerTraits(selects_on="nothing")

    def __init__(self, options):
        pass

    def label(self, bench, concepts):
        return [Labeling(concept, (FeatureRef(bench.dictionary_name(), place),)) for place, concept in enumerate(concepts)]


class Length:
    traits = DetectorTraits()

    def __init__(self, options):
        pass

    def prepare(self, bench, labelings):
        pass

    def scores(self, labelings, texts):
        return np.array([[float(len(text)) for text in texts.texts] for _ in labelings]).reshape(len(labelings), len(texts))


@hookimpl
def harness_register_steerers(registry):
    registry.add("shift", Shift, options=ShiftOptions, summary="add ones")


@hookimpl
def harness_register_labelers(registry):
    registry.add("first", First, summary="the first features")


@hookimpl
def harness_register_detectors(registry):
    registry.add("length", Length, summary="the length of a text")
"""


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_task(tmp_path_factory.mktemp("toy") / "task")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "my_methods.py"
    path.write_text(METHODS, encoding="utf-8")
    return path


def sha(path: Path) -> str:
    return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


def test_a_run_is_known_by_the_files_content(harness: Callable[..., Any], toy: Path, file: Path, tmp_path: Path) -> None:
    there = ("--task", toy, "--out", tmp_path, "--judge", "words", "--steerer", "shift", "-S", "side=2")
    command = ("eval", "--plugin", file, *there, "--labeler", "first", "--detector", "length")
    entry = harness(*command, "--json").json
    assert entry["plugins"]["my_methods.py"] == sha(file)
    assert {row["subject"].get("steerer") or row["subject"].get("detector") for row in entry["rows"]} >= {"shift", "length"}
    (folder,) = (tmp_path / "runs").iterdir()
    with RunStore.open(folder, read_only=True) as store:
        manifest = store.manifest
    assert manifest.identity["code"]["steerer shift"] == [sha(file), sha(file)[7:23]]  # type: ignore[index,call-overload]
    assert manifest.identity["code"]["detector length"][0] == sha(file)  # type: ignore[index,call-overload]
    (shift,) = manifest.methods_of("steering")
    assert (shift.plugin.distribution, shift.plugin.version, shift.plugin.file) == ("my_methods.py", sha(file), str(file))
    assert manifest.command["plugins"] == [str(file)]

    moved = tmp_path / "elsewhere" / file.name  # the same content at another place is the same run, which is there already
    moved.parent.mkdir()
    moved.write_text(METHODS, encoding="utf-8")
    assert harness(*(moved if part == file else part for part in command), "--json").json["id"] == entry["id"]
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [folder.name]

    (kept,) = (tmp_path / "leaderboard" / "entries").iterdir()
    proposed = shlex.split(proposed_command(load_entry(kept), load_entry(kept).rows[:1], stored_runs(tmp_path)))
    assert Path(proposed[proposed.index("--plugin") + 1]).resolve() == file  # the entry has its name alone, the run where it lies

    words = eval_command(manifest.command)
    assert words[words.index("--plugin") + 1] == str(file)
    assert harness(*words[1:], "--out", tmp_path, "--json").json["id"] == entry["id"]

    file.write_text(METHODS.replace("torch.ones", "2 * torch.ones"), encoding="utf-8")
    edited = harness(*command)
    assert edited.code == 0, edited.err
    assert "steerer shift" in edited.err  # the code of which has changed
    assert len(list((tmp_path / "runs").iterdir())) == 2


def test_seeds_share_the_file(harness: Callable[..., Any], toy: Path, file: Path, tmp_path: Path) -> None:
    asked = ("--judge", "words", "--steerer", "shift", "--limit", "1")
    found = harness("eval", "--plugin", file, "--task", toy, "--out", tmp_path, *asked, "--seeds", "0,1", "--json").json
    assert [entry["plugins"]["my_methods.py"] for entry in found["entries"]] == [sha(file)] * 2


def test_a_judge_from_a_file_rates_a_stored_run(
    harness: Callable[..., Any], toy: Path, file: Path, tmp_path: Path, judge: Callable[..., str]
) -> None:
    rater = tmp_path / "my_judge.py"
    rater.write_text(judge("return [rated(item) for item in items]"), encoding="utf-8")
    there = ("--out", tmp_path, "--json")
    harness("eval", "--plugin", file, "--task", toy, "--judge", "words", "--steerer", "shift", "--limit", "1", *there)
    (run,) = [path.name for path in (tmp_path / "runs").iterdir()]
    assert "unknown judge 'mine'" in harness("judge", run, "--judge", "mine", "--out", tmp_path).error
    entry = harness("judge", run, "--plugin", rater, "--judge", "mine", *there).json
    assert entry["plugins"]["my_judge.py"] == sha(rater)
    assert entry["plugins"]["my_methods.py"] == sha(file)
    before = entry["judge"]["code"]
    rater.write_text(judge("return [rated(item) for item in list(items)]"), encoding="utf-8")
    assert harness("judge", run, "--plugin", rater, "--judge", "mine", *there).json["judge"]["code"] != before
    assert harness("judge", "selftest", "mine", "--plugin", rater, "--json").code == 1
    compared = harness("judge", "compare", run, "words", "mine", "--plugin", rater, "--out", tmp_path, "--json")
    assert compared.code == 0, compared.err


def test_the_judge_that_a_run_was_made_with_is_asked_for_with_its_file(
    harness: Callable[..., Any], toy: Path, tmp_path: Path, judge: Callable[..., str]
) -> None:
    rater = tmp_path / "my_judge.py"
    rater.write_text(judge("return [rated(item) for item in items]"), encoding="utf-8")
    harness("eval", "--plugin", rater, "--task", toy, "--judge", "mine", "--steerer", "none", "--limit", "1", "--out", tmp_path, "--json")
    (run,) = [path.name for path in (tmp_path / "runs").iterdir()]
    assert f"--plugin {rater}" in harness("judge", run, "--judge", "mine", "--out", tmp_path).error


def test_other_commands_take_it(harness: Callable[..., Any], toy: Path, file: Path, tmp_path: Path) -> None:
    labels = harness("label", "--plugin", file, "--labeler", "first", "--task", toy, "--json").json
    assert [row["features"] for row in labels["labels"]] == [["sae/0"], ["sae/1"], ["sae/2"]]
    texts = harness("steer", "Hello", "--plugin", file, "--steerer", "shift", "--concept", "music", "--task", toy, "--json").json["texts"]
    assert [text["strength"] for text in texts] == [None, 0.5]
    for shown in (("plugins", "show", "shift", "--plugin", file), ("plugins", "--plugin", file, "show", "shift")):
        found = harness(*shown)
        assert "Which way it goes." in found.out
        assert str(file) in found.out
    listed = {row["name"]: row for row in harness("plugins", "--plugin", file, "--json").json["plugins"]}
    assert (listed["shift"]["distribution"], listed["shift"]["version"], listed["shift"]["source"]) == (file.name, sha(file), str(file))
    task = tmp_path / "task"
    task.mkdir()
    text = (toy / "task.toml").read_text().replace('"./model"', json.dumps(str(toy / "model"))).replace('"./sae"', json.dumps(str(toy / "sae")))
    (task / "task.toml").write_text(f"{text}\n[steering.grids]\nshift = [0.1, 0.2]\n")
    for name in ("corpus.jsonl", "concepts.jsonl", "instructions.jsonl"):
        (task / name).write_bytes((toy / name).read_bytes())
    assert "shift" in harness("tasks", "validate", task).out
    assert harness("tasks", "validate", task, "--plugin", file).code == 0


def test_a_broken_file_is_one_line_and_computes_nothing(harness: Callable[..., Any], toy: Path, file: Path, tmp_path: Path) -> None:
    file.write_text(f"{METHODS}\nimport nothing_of_the_kind\n")
    error = harness("eval", "--plugin", file, "--task", toy, "--out", tmp_path, "--judge", "words", "--steerer", "shift").error
    assert f"{file}, line {METHODS.count(chr(10)) + 2}" in error
    assert not (tmp_path / "runs").exists()


def test_the_repeated_command_is_the_command() -> None:
    """Whatever stands in it comes out as it went in."""
    from harness.cli import cli

    command = {
        "task": "my task",
        "plugins": ["/a b/c.py"],
        "choices": {"corpus": "x.jsonl", "text_field": None, "seed": 4, "limit": 3, "concepts": ["a,b"]},
        "asked": {
            "labelers": ["calibf1:pi0=0.1"], "steerers": ["shift", "sae-clamp"], "judge": "words", "labeler_options": {"held_out": 0.5},
            "steerer_options": {"sae-clamp:unit": "residual-norm"}, "judge_options": {"mailbox": None}, "controls": False, "detectors": ["length"],
            "metrics": [], "detector_options": {}, "metric_options": {}, "strengths": {"": [0.5, 1.0], "shift": [0.25]},
        },
    }  # fmt: skip
    words = eval_command(command)
    inner = cli.get_command(click.Context(cli), "eval")
    assert inner is not None
    given = inner.make_context("eval", words[2:], parent=click.Context(cli)).params
    assert (given["plugin_files"], given["task_name"], given["no_controls"]) == ((Path("/a b/c.py"),), "my task", True)
    assert (given["labelers"], given["steerers"], given["detectors"], given["judge"]) == (
        ("calibf1:pi0=0.1",), ("shift", "sae-clamp"), ("length",), "words",
    )  # fmt: skip
    assert (given["labeler_options"], given["judge_options"]) == (("held_out=0.5",), ("mailbox=none",))
    assert given["steerer_options"] == ("sae-clamp:unit=residual-norm",)
    assert given["strengths"] == ("0.5,1.0", "shift=0.25")
    assert (given["corpus"], given["seed"], given["limit"], given["concepts"]) == ("x.jsonl", 4, 3, ("a,b",))
    full = eval_command({"task": "t", "asked": {"controls": True, "full_controls": True}})
    assert full == ["harness", "eval", "--task", "t", "--controls", "full"]
