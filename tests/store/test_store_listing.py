"""Lists of runs: what is left of one, the command that goes on with it, folders that are no runs, and how a run is found."""

from __future__ import annotations

import shlex
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from helpers.runs import manifest
from helpers.steered import JUDGE, method_record, steered_run
from helpers.stores import add_generations
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import UnknownNameError
from harness.run.bench import Choices
from harness.run.plan import Asked
from harness.store import JudgeRecord, RunStore, list_runs, summarize
from harness.store.command import eval_command, shell_lines
from harness.store.listing import find_run
from harness.store.remaining import remaining
from harness.types import Concept, Generation, Instruction, Labeling, Rating, Trial


def test_what_is_left_follows_what_is_stored(tmp_path: Path) -> None:
    method, record = method_record("clamp")
    facts: dict[str, Any] = {"methods": (record,), "concepts": ("c",), "instructions": ("i",), "per_concept": 1}
    with RunStore.create_or_open(tmp_path / "run", manifest(**facts)) as run:
        assert remaining(run) == ["labels of l-clamp", "all texts", "all ratings"]
        labeling = Labeling(Concept("c", "a concept"))
        run.add_labelings("l-clamp", [labeling])
        run.add_methods([method])
        run.add_instructions([Instruction("i", "Say it.")])
        assert remaining(run) == ["all texts", "all ratings"]
        trials = [Trial(method.id, labeling.id, "c", strength, "i", 0) for strength in record.grid]
        run.add_items(map(_item, trials))
        add_generations(run, [Generation(trials[0].id, "p", "text", 1, "eos")])
        assert remaining(run) == ["1 of 2 texts", "all ratings"]
        add_generations(run, [Generation(trials[1].id, "p", "text", 1, "eos")])
        run.add_judge(JUDGE)
        run.add_ratings(JUDGE.key, [Rating(trials[0].id, "pending", ticket="t", reason="waits")])
        assert remaining(run) == ["2 of 2 ratings by tester, 1 of them pending"]
        run.add_ratings(JUDGE.key, [Rating(trials[1].id, "unrated", reason="refused")])
        run.finish()
        assert remaining(run) == ["1 pending rating by tester"]
        run.add_ratings(JUDGE.key, [Rating(trials[0].id, "rated", 1, 1, 1)])
        assert remaining(run) == []


def _item(trial: Trial) -> Any:
    from harness.store.values import trial_item

    return trial_item(trial)


def test_a_summary_says_what_the_run_is(tmp_path: Path) -> None:
    given = steered_run(tmp_path / "runs" / "one", lambda *_: (1, 1, 1), ("clamp", "prompt!"), n_concepts=2)
    found = summarize(tmp_path / "runs" / "one")
    assert (found.methods, found.seed, found.digest) == (("l-clamp × clamp", "prompt"), 0, given.run_digest)
    assert found.left == ("scores and entry",)
    assert found.command == ("harness", "eval", "--task", "demo", "--steerer", "clamp", "--steerer", "prompt!", "--out", str(tmp_path))


def test_the_command_of_pending_ratings_is_that_of_the_judge_that_owes_them(tmp_path: Path) -> None:
    steered_run(tmp_path / "runs" / "one", lambda *_: (1, 1, 1), n_concepts=1)
    other = JudgeRecord("people", "people/1", {"folder": "my sheets"})
    with RunStore.open(tmp_path / "runs" / "one") as run:
        run.finish()
        run.add_judge(other)
        run.add_ratings(other.key, [Rating(run.trials()[0].id, "pending", ticket="t", reason="waits")])
    found = summarize(tmp_path / "runs" / "one")
    assert found.left == ("1 pending rating by people",)
    assert found.command == ("harness", "judge", "one", "--judge", "people", "-J", "folder=my sheets", "--out", str(tmp_path))


def test_folders_that_are_no_runs_are_listed_where_that_is_asked_for(tmp_path: Path) -> None:
    steered_run(tmp_path / "runs" / "one", lambda *_: (1, 1, 1), n_concepts=1)
    for name in ("notes", ".hidden", ".deleted-two"):
        (tmp_path / "runs" / name).mkdir()
    (tmp_path / "runs" / ".deleted-two" / "run.sqlite").write_bytes(b"")
    (tmp_path / "runs" / "file.txt").touch()
    assert [run.id for run in list_runs(tmp_path / "runs")] == ["one"]
    one, notes = list_runs(tmp_path / "runs", foreign=True)
    assert (one.status, notes.id, notes.status) == ("interrupted", "notes", "broken")
    assert "run.sqlite" in notes.problem


def test_a_run_is_found_by_id_prefix_path_and_as_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = tmp_path / "runs"
    for name in ("demo-ab", "demo-ac", "tiny-1"):
        steered_run(runs / name, lambda *_: (1, 1, 1), n_concepts=1)
    with RunStore.open(runs / "demo-ac") as run:
        run._set_meta("started", '"2999-01-01T00:00:00+00:00"')
    assert find_run("demo-ab", tmp_path) == runs / "demo-ab"
    assert find_run("t", tmp_path) == runs / "tiny-1"
    assert find_run(str(runs / "tiny-1"), tmp_path / "elsewhere") == runs / "tiny-1"
    (runs / "zz-no-run").mkdir()
    assert find_run("last", tmp_path) == runs / "demo-ac"
    for text, known in (("demo", ("demo-ab", "demo-ac")), ("", ("demo-ab", "demo-ac", "tiny-1", "zz-no-run"))):
        with pytest.raises(UnknownNameError) as error:
            find_run(text, tmp_path)
        assert error.value.known == known, "those that are meant"
    monkeypatch.chdir(tmp_path)
    Path("tiny").mkdir()  # a task's folder, say
    assert find_run("tiny", Path(".")) == Path("runs/tiny-1")
    with pytest.raises(UnknownNameError):
        find_run("last", tmp_path / "elsewhere")


# ------------------------------------------------------------------------------------------------------------------- the command


def test_a_command_says_all_that_was_asked_for() -> None:
    asked = {
        "labelers": ["calibf1:pi0=0.1"], "steerers": ["a", "b"], "judge": "offline", "labeler_options": {"pi0": "0.01"},
        "steerer_options": {"unit": "norm", "flag": True, "list": ["a", "b"]}, "judge_options": {"model": None}, "controls": False,
        "detectors": ["sae"], "metrics": ["l0"], "detector_options": {}, "metric_options": {}, "strengths": {"": [0.1, 0.2], "b": [1.0]},
    }  # fmt: skip
    choices = {"corpus": "a b.csv", "limit": 3, "seed": 7, "concepts": ["x", "y"], "text_field": None, "split": "all"}
    words = eval_command({"task": "demo", "asked": asked, "choices": choices}, Path("there"))
    expected = """harness eval --task demo --labeler calibf1:pi0=0.1 --steerer a --steerer b --detector sae --metric l0 --judge offline -L pi0=0.01
        -S unit=norm -S flag=true -S 'list=["a", "b"]' -J model=none --strengths 0.1,0.2 --strengths b=1.0 --corpus 'a b.csv' --limit 3 --seed 7
        --concepts x --concepts y --split all --no-controls --out there"""
    assert words == shlex.split(expected)
    assert eval_command({"task": "demo", "plugins": ["/mine.py"]}) == ["harness", "eval", "--task", "demo", "--plugin", "/mine.py"]
    assert eval_command({}) == eval_command({"choices": {"seed": 3}}) == []
    assert eval_command({"task": "demo", "choices": {"seed": 0}, "asked": {}}) == ["harness", "eval", "--task", "demo"]


def test_nothing_that_is_asked_for_is_missing_in_the_command() -> None:
    """A field that comes later has to be said, too."""
    filled: dict[str, Any] = {"tuple[str, ...]": ["x"], "str | None": "x", "int | None": 3, "int": 3, "Mapping[str, Any]": {"x": "y"}}
    filled["str | int | None"] = "x"
    grids = {"Mapping[str, Sequence[float]]": {"": [0.5]}, "ProtocolName | None": "axbench", "Aggregation | None": "harmonic-mean-of-means"}
    for part, kind in (("asked", Asked), ("choices", Choices)):
        for one in fields(kind):
            value = not one.default if one.type == "bool" else {**filled, **grids}[str(one.type)]
            command: dict[str, Any] = {"task": "demo", "asked": {}, "choices": {}}
            plain = eval_command(command)
            command[part][one.name] = value
            assert len(eval_command(command)) > len(plain), f"{part}: {one.name}"


@given(st.lists(st.one_of(st.text(min_size=1, max_size=30), st.sampled_from(["--task", "-L", "--no-controls"])), max_size=8), st.integers(10, 90))
def test_a_command_in_lines_is_the_same_command(words: list[str], width: int) -> None:
    words = ["harness", "eval", *(word.replace("\n", " ") for word in words)]
    lines = shell_lines(words, width)
    assert shlex.split("\n".join(lines).replace(" \\\n", " ")) == words
    assert all(line.endswith(" \\") for line in lines[:-1])
    longest = max(len(shlex.quote(word)) for word in words)
    assert all(len(line) <= max(width, 2 * longest + 7) for line in lines)
