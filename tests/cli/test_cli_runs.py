"""``harness runs``: the list, one run, two compared, deleted ones."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pandas
import pytest
from helpers.proposals import proposed
from helpers.runs import run_of
from helpers.steered import steered_run
from rich.cells import cell_len

from harness.files.visible import is_hidden
from harness.store import RunStore

NARROW = {"COLUMNS": "80"}


def stopped(finished: Path, folder: Path, texts: int, ratings: int) -> None:
    """Write the run as it was when it was stopped: with its labels, the first texts and ratings."""
    with RunStore.open(finished, read_only=True) as run, RunStore.create_or_open(folder, run.manifest) as part:
        part.add_concepts(run.concepts())
        part.add_instructions(run.instructions())
        part.add_methods(run.methods())
        for labeler in run.manifest.labelers:
            part.add_labelings(labeler.key, run.labelings(labeler.key) or [])
        part.add_items(run.items())
        for generation in list(run.generations().values())[:texts]:
            part.add_generation(generation)
        judge = run.judges()[0]
        part.add_judge(judge)
        part.add_ratings(judge.key, list(run.ratings(judge.key).values())[:ratings])


def widths(text: str) -> int:
    """The width of the widest line, but for those that are one word that cannot be folded."""
    return max(cell_len(line) for line in text.splitlines() if " " in line.strip())


# ---------------------------------------------------------------------------------------------------------------------------- list


def test_the_list_says_methods_seed_and_date_in_80_columns(harness: Callable[..., Any], out: Path) -> None:
    shown = harness("runs", "--out", out, env=NARROW).out
    assert shown == harness("runs", "list", "--out", out, env=NARROW).out
    first, *rest = shown.splitlines()
    (row,) = harness("runs", "list", "--out", out, "--json").json
    assert first == f"{run_of(out).name}  finished  {row['started'][:16].replace('T', ' ')}  tiny 1  seed 0"
    assert "calibf1 × sae-clamp" in rest[0]
    assert "controls: random × sae-clamp · prompt" in shown
    assert "72/72" in shown
    assert widths(shown) <= 80
    assert (row["seed"], row["left"], row["controls"]) == (0, [], ["random × sae-clamp", "prompt"])
    assert shlex.split(row["command"])[:2] == ["harness", "eval"]


def test_options_of_the_list_before_a_subcommand_are_not_passed_over(harness: Callable[..., Any], out: Path) -> None:
    for given in (("--out", out), ("--json",)):
        done = harness("runs", *given, "list")
        assert "behind the subcommand" in done.error


def test_a_stopped_run_says_what_is_left_and_its_command_goes_on_with_it(harness: Callable[..., Any], out: Path, tmp_path: Path) -> None:
    """The command that is shown, given as it stands, finishes the run; nothing else is generated or rated."""
    finished, there = run_of(out), tmp_path / "there"
    stopped(finished, there / "runs" / finished.name, 71, 70)
    shown = harness("runs", "--out", there, env=NARROW).out
    assert "interrupted" in shown
    assert "left: 1 of 72 texts; 2 of 72 ratings by words" in shown
    command = shown[shown.index("go on: ") + 7 :].replace(" \\\n", " ")
    (row,) = harness("runs", "--out", there, "--json").json
    words = shlex.split(command)
    assert words == shlex.split(row["command"])
    assert words[:2] == ["harness", "eval"]
    entry = harness(*words[1:], "--json", "--quiet").json
    with RunStore.open(there / "runs" / finished.name, read_only=True) as run, RunStore.open(finished, read_only=True) as whole:
        assert run.status == "finished"
        assert run.generations() == whole.generations()
    assert entry["rows"] == json.loads((finished / "entry.json").read_text())["rows"]
    assert "left" not in harness("runs", "--out", there, env=NARROW).out


def test_damaged_and_foreign_folders_are_listed_with_what_is_wrong(harness: Callable[..., Any], out: Path) -> None:
    (out / "runs" / "foreign").mkdir()
    (out / "runs" / "zz-damaged").mkdir()
    (out / "runs" / "zz-damaged" / "run.sqlite").write_bytes(b"no database at all, but a text of some length")
    shown = harness("runs", "--out", out, env=NARROW)
    assert (shown.code, shown.err) == (0, "")
    assert shown.out.index("finished") < shown.out.index("foreign  broken") < shown.out.index("zz-damaged  broken")
    assert "holds no run.sqlite" in " ".join(shown.out.split())
    assert "is not a run store" in " ".join(shown.out.split())
    assert widths(shown.out) <= 80
    assert len(harness("runs", "verify", "--out", out, "--json").out) > 0, "of folders that are not runs nothing is verified"


# ---------------------------------------------------------------------------------------------------------------------------- show


def test_show_says_what_the_run_is_and_what_it_found_without_a_model(harness: Callable[..., Any], out: Path, evaluation: tuple[Path, Any]) -> None:
    run = run_of(out)
    with mock.patch("harness.model.loading.load_model", side_effect=AssertionError("a model is loaded")):
        shown = harness("runs", "show", run.name[:7], "--out", out, env=NARROW)
        assert shown.out == harness("runs", "show", "last", "--out", out, env=NARROW).out
        found = harness("runs", "show", run, "--json").json
    assert shown.code == 0
    assert widths(re.sub(r".*(sae|task) +/.*|.*--(task|out) .*", "", shown.out)) <= 80
    plain = " ".join(shown.out.split())
    for part in ("steering 72/72", "tiny 1", "stories260K", "layer 2, 512 features", "pi0=0.05", "strengths 0.5, 1", "rubric words/1", "harness"):
        assert part in plain, part
    score = evaluation[1]["rows"][0]["ranked"]["value"]
    assert f"{score:.3f}" in shown.out
    assert found["scores"][0]["id"] == evaluation[1]["id"]
    assert (found["seed"], found["status"], found["left"]) == (0, "finished", [])
    assert [method["name"] for method in found["methods"]] == ["calibf1 × sae-clamp", "random × sae-clamp", "prompt"]
    assert found["methods"][0]["labeler"]["given"] == {"pi0": 0.05}
    assert found["size"] == sum(path.stat().st_size for path in run.iterdir())
    assert "harness eval" in found["command"]


def test_show_of_a_run_that_has_stopped_gives_no_scores(harness: Callable[..., Any], out: Path, tmp_path: Path) -> None:
    for name, texts, ratings in (("texts", 40, 0), ("rated", 72, 72)):
        stopped(run_of(out), tmp_path / "there" / "runs" / name, texts, ratings)
    found = harness("runs", "show", "texts", "--out", tmp_path / "there", "--json").json
    assert (found["scores"], found["left"][0]) == ([], "32 of 72 texts")
    assert found["no_scores"]
    (entry,) = harness("runs", "show", "rated", "--out", tmp_path / "there", "--json").json["scores"]
    assert entry["rows"] == json.loads((run_of(out) / "entry.json").read_text())["rows"], "made of the stored ratings"


def test_show_proposes_what_to_run_next_of_a_finished_run_alone(harness: Callable[..., Any], out: Path, tmp_path: Path) -> None:
    """One that was stopped is to be gone on with, which its own command does."""
    run = run_of(out)
    assert proposed(harness("runs", "show", run.name, "--out", out, env=NARROW).out)[:3] == ["harness", "judge", run.name]
    stopped(run, tmp_path / "there" / "runs" / run.name, 72, 71)
    found = harness("runs", "show", "last", "--out", tmp_path / "there", env=NARROW)
    assert found.code == 0
    assert "overall" in found.out  # it has scores of what was rated
    assert "next:" not in found.out
    assert "go on with it" in found.out


# ------------------------------------------------------------------------------------------------------------------------- compare


def rated(better: float) -> Callable[..., tuple[float, float, float]]:
    return lambda method, concept, strength, place: (better * (method == "clamp") + 0.1 * (concept % 2), 1.0, 1.0)


def test_the_first_line_answers_whether_a_is_better(harness: Callable[..., Any], tmp_path: Path) -> None:
    steered_run(tmp_path / "runs" / "demo-1", rated(1.0))
    done = harness("runs", "compare", "demo-1:clamp", "last:prompt", "--out", tmp_path, env=NARROW)
    assert done.code == 0
    first, blank, *rest = done.out.splitlines()
    assert re.fullmatch(r"A is better than B by 0\.\d{3} \[0\.\d{3}, \d\.\d{3}\], p [\d.e-]+, 14 concepts", first)
    assert blank == ""
    assert widths(done.out) <= 80
    text = "\n".join(rest)
    assert "A  l-clamp × clamp" in text
    assert "B  prompt" in text
    assert "win rate over concepts: A above B on 100%" in text
    assert "win rate over instructions (AxBench): A above B on 100%" in text
    assert sum(line.startswith("concept ") for line in rest) == 14 + 1 + 3, "heading, concepts and titles of texts"
    assert re.search(r"concept: I\b", text), "what the judge said"
    found = harness("runs", "compare", "demo-1", "demo-1:2", "--out", tmp_path, "--json", "--texts", "1").json
    assert found["answer"] == first
    assert (found["verdict"], found["n"], len(found["items"]), len(found["texts"])) == ("first", 14, 14, 1)
    assert (found["win_rates"]["concepts"]["wins"], found["win_rates"]["instructions"]["wins"]) == (14, 14 * 4)
    assert found["texts"][0]["first"]["text"].startswith("clamp")
    turned = harness("runs", "compare", "demo-1:2", "demo-1", "--out", tmp_path, "--json", "--texts", "0").json
    assert (turned["verdict"], turned["difference"], turned["texts"]) == ("second", pytest.approx(-found["difference"]), [])


def test_runs_that_gave_the_same_are_said_to_be_identical(harness: Callable[..., Any], tmp_path: Path) -> None:
    for name in ("demo-1", "demo-2"):
        steered_run(tmp_path / "runs" / name, rated(1.0))
    assert harness("runs", "compare", "demo-1", "demo-2", "--out", tmp_path).out.startswith("A and B are identical: all 112 texts and their ratings,")
    assert harness("runs", "compare", "demo-1", "demo-1:2", "--out", tmp_path, "--json").json["alike"] is None


def test_real_runs_of_three_concepts_say_that_nothing_can_be_said(harness: Callable[..., Any], out: Path) -> None:
    done = harness("runs", "compare", "last", "last:prompt", "--out", out, env=NARROW)
    assert done.out.startswith("Nothing can be said: 4 effective clusters of concepts, 12 needed; A − B ")
    assert widths(done.out) <= 80


def test_what_cannot_be_compared_is_one_line(harness: Callable[..., Any], out: Path, tmp_path: Path) -> None:
    steered_run(out / "runs" / "demo-1", rated(1.0), n_concepts=2)
    run = run_of_task(out)
    assert "may not be compared: the task is tiny 1" in harness("runs", "compare", run, "demo-1", "--out", out).error
    assert "detection is not in both runs" in harness("runs", "compare", run, "demo-1", "--kind", "detection", "--out", out).error
    assert "unknown method 'nothing'" in harness("runs", "compare", f"{run}:nothing", "demo-1", "--out", out).error
    assert "unknown run 'nothing'" in harness("runs", "compare", "nothing:prompt", "demo-1", "--out", out).error
    assert "are both" in harness("runs", "compare", "demo-1", "demo-1:clamp", "--out", out).error
    assert "has not rated" in harness("runs", "compare", "demo-1", "demo-1:2", "--judge", "nobody", "--out", out).error


def test_hostile_texts_and_names_are_shown_as_text(harness: Callable[..., Any], tmp_path: Path) -> None:
    attack = "\x1b]0;owned\x07[bold]\u202e\rgone"
    steered_run(tmp_path / "runs" / "demo\x1b[2J-1", rated(1.0), text=lambda *_: attack, command={"task": attack, "asked": {}, "choices": {}})
    for command in (("list",), ("show", "last"), ("compare", "last", "last:2"), ("delete", "last", "--yes")):
        done = harness("runs", *command, "--out", tmp_path)
        assert done.code == 0
        assert [letter for letter in done.out + done.err if is_hidden(letter)] == [], command
        assert ("\\x1b" in done.out) or command[0] == "show"


def run_of_task(out: Path) -> str:
    (name,) = [path.name for path in (out / "runs").iterdir() if path.name.startswith("tiny")]
    return name


# -------------------------------------------------------------------------------------------------------------- export and delete


def test_exports_by_ending_format_and_layout(harness: Callable[..., Any], out: Path, tmp_path: Path) -> None:
    plain, odd, wide = tmp_path / "texts.csv", tmp_path / "texts.data", tmp_path / "steering_data.parquet"
    assert harness("runs", "export", "last", plain, "--out", out).out == f"72 rows: {plain}\n"
    assert harness("runs", "export", "last", odd, "--format", "parquet", "--out", out).out == f"72 rows: {odd}\n"
    frames = pandas.read_csv(plain), pandas.read_parquet(odd)
    for name in ("method", "strength", "overall", "chosen_strength", "fold_share", "seed"):
        pandas.testing.assert_series_equal(*(frame[name] for frame in frames), check_dtype=False)
    assert harness("runs", "export", "last", wide, "--layout", "axbench", "--out", out).code == 0
    with_texts = [column for column in pandas.read_parquet(wide).columns if column.endswith("_steered_generation")]
    assert with_texts == ["calibf1×sae-clamp_steered_generation", "random×sae-clamp_steered_generation", "prompt_steered_generation"]
    assert "cannot export to x.xlsx" in harness("runs", "export", "last", tmp_path / "x.xlsx", "--out", out).error


@contextmanager
def answering(word: str) -> Iterator[None]:
    """Somebody sits at the terminal, and types this."""
    with mock.patch("harness.cli.runs_delete.sys") as system, mock.patch("click.termui.visible_prompt_func", return_value=word):
        system.stdin.isatty.return_value = system.stderr.isatty.return_value = True
        yield


def test_delete_asks_and_says_what_is_lost(harness: Callable[..., Any], out: Path) -> None:
    run, (entry,) = run_of(out), (out / "leaderboard" / "entries").iterdir()
    refused = harness("runs", "delete", "last", "--out", out)
    assert "give --yes" in refused.error
    with answering("n"):
        kept = harness("runs", "delete", "last", "--out", out)
    assert "nothing was deleted" in kept.error
    for part in ("72 texts", "72 rated by words", f"entry {entry}: stays"):
        assert part in kept.err
    assert run.is_dir()
    with answering("y"):
        done = harness("runs", "delete", run.name, "--out", out)
    assert done.out.startswith(f"deleted {run} (")
    assert list((out / "runs").iterdir()) == []
    assert entry.is_file()


def test_delete_with_the_entry_and_of_several_all_or_none(harness: Callable[..., Any], out: Path) -> None:
    run, (entry,) = run_of(out), (out / "leaderboard" / "entries").iterdir()
    (out / "runs" / "foreign").mkdir()
    refused = harness("runs", "delete", run.name, "foreign", "--yes", "--out", out)
    assert "is not a run" in refused.error
    assert run.is_dir(), "all are looked at before one is deleted"
    with RunStore.open(run):
        assert "being written" in harness("runs", "delete", run.name, "--yes", "--out", out).error
    assert "does not lie in" in harness("runs", "delete", run, "--yes", "--out", out / "elsewhere").error
    done = harness("runs", "delete", run.name, run, "--entry", "--yes", "--out", out)
    assert done.out.splitlines()[1:] == [f"deleted {entry}"]
    assert [path.name for path in (out / "runs").iterdir()] == ["foreign"]
    assert not entry.exists()
