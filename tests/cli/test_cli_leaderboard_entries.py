"""``harness leaderboard check`` and ``add`` on real runs, and what a pull request with an entry runs, on a real git repository."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.runs import run_of

from harness.leaderboard.entry import Entry
from harness.leaderboard.files import load_entry, save_entry

ROOT = Path(__file__).resolve().parents[2]
WORDS = ("girl", "big", "mom", "zebra", "dog", "ball", "tree", "day", "park", "friend", "happy", "red", "play", "little", "liked", "went", "saw")
EVAL = ("eval", "--task", "many", "--labeler", "most-frequent", "--steerer", "sae-clamp", "--detector", "bow", "--metric", "overlap")
TASK = """
from harness import hookimpl

@hookimpl
def harness_register_tasks(registry):
    registry.add("many", {folder!r})
"""


@pytest.fixture
def out(harness: Callable[..., Any], variant: Callable[..., Path], install: Callable[..., Path], tmp_path: Path) -> tuple[Path, Path]:
    """A finished run of all kinds on 17 concepts, of a task that a plugin registers; and where that plugin is installed."""
    folder = variant(('name = "tiny"', 'name = "many"'), ("per_concept = 4", "per_concept = 2"), ("min_support = 10", "min_support = 1"))
    lines = [json.dumps({"id": word, "text": f"a {word}", "label": word}) for word in WORDS]
    (folder / "concepts.jsonl").write_text("\n".join(lines), encoding="utf-8")
    corpus = [json.loads(line) for line in (folder / "corpus.jsonl").read_text(encoding="utf-8").splitlines()]
    rows = [json.dumps({**row, "labels": [word for word in WORDS if word in row["text"].lower()]}) for row in corpus]
    (folder / "corpus.jsonl").write_text("\n".join(rows), encoding="utf-8")
    site = install(TASK.format(folder=str(folder)), "many", "many-dist")
    done = harness(*EVAL, "--out", tmp_path / "out", "--json", sites=(site,))
    assert done.code == 0, done.err
    return tmp_path / "out", site


def edited(path: Path, target: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """An entry with a change, sealed anew."""
    value = load_entry(path).as_json()
    change(value)
    return save_entry(Entry.model_validate({**value, "id": "", "seal": ""}), target)


def test_an_entry_is_checked_and_added(harness: Callable[..., Any], out: tuple[Path, Path], tmp_path: Path) -> None:
    folder, site = out
    run, board = run_of(folder), tmp_path / "board"
    (entry,) = (folder / "leaderboard" / "entries").iterdir()
    found = harness("leaderboard", "check", entry, "--json", sites=(site,)).json  # without the run: all kinds, from the items alone
    assert [one["problems"] for one in found] == [[]]
    assert harness("leaderboard", "check", entry, "--run", run, sites=(site,)).code == 0
    done = harness("leaderboard", "add", run.name[:8], "--to", board, "--out", folder, sites=(site,))
    assert done.code == 0, done.err
    (added,) = (board / "entries").iterdir()
    assert load_entry(added) == load_entry(entry)
    assert f"added: {added}" in done.out

    # another protocol of the same run is an entry of its own
    assert harness("runs", "score", run, "--protocol", "axbench", "--add", "--out", folder, sites=(site,)).code == 0
    other = ("leaderboard", "add", run, "--to", board, "--entry", "entry-axbench-mean-of-harmonic-means.json", "--json")
    assert harness(*other, sites=(site,)).json["added"]
    assert len(list((board / "entries").iterdir())) == 2
    unknown = harness("leaderboard", "add", run, "--to", board, "--entry", "entry-other.json", sites=(site,))
    assert (unknown.code, "entry-axbench" in unknown.error) == (2, True)

    # what fits itself and its task, and not the run: a text that nobody generated
    made_up = edited(entry, tmp_path / "made-up.json", lambda value: value["rows"][0]["samples"][0].update(text="made up"))
    seen = harness("leaderboard", "check", made_up, sites=(site,))
    assert seen.code == 0
    assert "checked: task many 1, as it is installed: content, concept mode, model, weights of the model," in seen.out
    assert "not checked: its run (give --run)" in seen.out
    refused = harness("leaderboard", "check", made_up, "--run", run, "--json", sites=(site,))
    assert refused.code == 2
    (problem,) = json.loads(refused.out)[0]["problems"]
    assert (problem["kind"], "made up" in problem["message"]) == ("run", True)
    (board / "entries").joinpath(added.name).unlink()
    shutil.copy(made_up, run / "entry.json")
    assert harness("leaderboard", "add", run, "--to", board, sites=(site,)).code == 2
    assert not added.exists()

    # what an entry says beside its numbers: its run knows better
    def problems(change: Callable[[dict[str, Any]], Any], *options: Any) -> list[tuple[str, str]]:
        told = harness("leaderboard", "check", edited(entry, tmp_path / "edited.json", change), "--json", *options, sites=(site,))
        return [(problem["kind"], problem["message"]) for problem in json.loads(told.out)[0]["problems"]]

    assert load_entry(entry).warnings
    silent = problems(lambda value: value.update(warnings=[], harness_version="9.9"), "--run", run)
    assert len([kind for kind, _ in silent if kind == "run"]) == 1 + len(load_entry(entry).warnings)
    with_run = [
        (lambda value: value["warnings"].append("made up"), "warns of what its run does not warn of: made up"),
        (lambda value: value["libraries"].update(numpy="0.1"), "libraries.numpy is 0.1; the run has "),
        (lambda value: value["rows"][0]["items"][0].update(reason="made up"), "items 1.reason is made up; the run has "),
        (lambda value: value.update(created="2020-01-01T00:00:00+00:00"), "created is 2020-01-01T00:00:00+00:00, before its run began ("),
    ]
    for change, said in with_run:
        assert not problems(change), "without the run nobody can tell"
        ((kind, message),) = problems(change, "--run", run)
        assert (kind, message.startswith(said)) == ("run", True), message
    in_row = problems(lambda value: value["rows"][0]["warnings"].append("made up"), "--run", run)
    assert [message for kind, message in in_row if kind == "run"] == ["warns of what its run does not warn of: made up"]
    ((kind, message),) = problems(lambda value: value.update(created="2990-01-01T00:00:00+00:00"))
    assert (kind, "2990" in message) == ("schema", True)

    # its task, from a folder where it is not installed
    task = next(tmp_path.glob("**/task.toml")).parent
    assert harness("leaderboard", "check", entry, "--task", task, "--json").json[0]["problems"] == []
    done = harness("leaderboard", "check", entry, "--task", ROOT / "tasks" / "demo", "--json")
    ((kind, message),) = [(one["kind"], one["message"]) for one in json.loads(done.out)[0]["problems"]]
    assert kind == "task"
    assert re.search(r"allowed: demo \d+, which is in", message)
    (run / "entry.json").write_bytes(entry.read_bytes())
    assert harness("leaderboard", "add", run, "--to", tmp_path / "other", "--task", task).code == 0
    assert harness("leaderboard", "add", run, "--to", tmp_path / "third").code == 2

    # a renamed file, a task that nobody registered, a version that does not exist, edited text
    renamed = shutil.copy(entry, tmp_path / "board" / "entries" / "mine.json")
    versions = edited(entry, tmp_path / "version.json", lambda value: value["task"].update(version="2"))
    broken = tmp_path / "broken.json"
    broken.write_text(entry.read_text(encoding="utf-8").replace('"seed": 0', '"seed": 1', 1), encoding="utf-8")
    seen = harness("leaderboard", "check", renamed, versions, broken, tmp_path / "missing.json", "--json", sites=(site,))
    assert seen.code == 2
    kinds = [[problem["kind"] for problem in one["problems"]] for one in json.loads(seen.out)]
    assert kinds == [["schema"], ["task"], ["schema"], ["schema"]]
    assert "4 of 4 entries" in seen.error
    lines = harness("leaderboard", "check", renamed, versions, broken, sites=(site,)).out.splitlines()
    assert len([line for line in lines if not any(mark in line for mark in (": note: ", ": checked: ", ": not checked: "))]) == 3
    assert [problem["kind"] for problem in json.loads(harness("leaderboard", "check", entry, "--json").out)[0]["problems"]] == ["task"]


def test_too_few_concepts_are_not_added(harness: Callable[..., Any], evaluation: tuple[Path, Any], tmp_path: Path) -> None:
    done = harness("leaderboard", "add", run_of(evaluation[0]), "--to", tmp_path / "board")
    assert done.code == 2
    assert "4 concepts; allowed: at least 12" in done.out
    assert not (tmp_path / "board").exists()


# ------------------------------------------------------------------------------------------------------------------- pull requests


def git(repository: Path, *arguments: str) -> None:
    command = ["git", "-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "commit.gpgsign=false", *arguments]
    subprocess.run(command, cwd=repository, check=True, capture_output=True)


def check(repository: Path, *base: str) -> tuple[int, str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("GITHUB_", "GIT_"))}
    command = [sys.executable, "leaderboard/ci_check.py", *base]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, env=environment)
    return done.returncode, done.stdout + done.stderr


def test_a_pull_request_checks_the_entries_that_it_changes(tmp_path: Path) -> None:
    real = max((ROOT / "leaderboard" / "entries").glob("*.json"), key=lambda path: load_entry(path).created)
    repository = tmp_path / "repository"
    entries = repository / "leaderboard" / "entries"
    entries.mkdir(parents=True)
    shutil.copy(ROOT / "leaderboard" / "ci_check.py", repository / "leaderboard")
    (entries / "was-there-before.json").write_text("{}", encoding="utf-8")  # what the base branch has is not this pull request's fault
    (entries / "old.json").write_text("{}", encoding="utf-8")
    git(repository, "init", "--quiet", "--initial-branch", "main")
    git(repository, "add", ".")
    git(repository, "commit", "--quiet", "-m", "base")
    git(repository, "checkout", "--quiet", "-b", "entry")
    assert check(repository, "main") == (0, "no entry was added or changed since main\n")

    good = edited(real, entries, lambda value: value.update(run_digest="another run"))
    bad = edited(real, entries, lambda value: value.update(run_digest="a third run", concept_set_digest="0" * 16))
    (entries / "link.json").symlink_to(real)
    (entries / "notes.txt").write_text("hello", encoding="utf-8")
    (entries / "old.json").unlink()
    git(repository, "add", "-A")
    git(repository, "commit", "--quiet", "-m", "entries, good and bad")
    git(repository, "checkout", "--quiet", "main")
    (entries / "someone-elses.json").write_text("{}", encoding="utf-8")  # the base branch goes on meanwhile
    git(repository, "add", "-A")
    git(repository, "commit", "--quiet", "-m", "meanwhile")
    git(repository, "checkout", "--quiet", "entry")
    code, said = check(repository, "main")
    assert code == 2
    assert f"{good.name}: ok" in said
    assert f"{bad.name}: concept_set_digest" in said
    assert "link.json: a link" in said
    assert "notes.txt: only entries may lie here" in said
    assert "old.json: note: this pull request removes it" in said
    assert "was-there-before" not in said
    assert "someone-elses" not in said

    git(repository, "rm", "--quiet", "-f", f"leaderboard/entries/{bad.name}", "leaderboard/entries/link.json", "leaderboard/entries/notes.txt")
    git(repository, "commit", "--quiet", "-m", "the good one alone")
    code, said = check(repository, "main")
    assert code == 0, said
    assert check(repository, "no-such-branch")[0] == 2


def test_the_workflow_runs_the_script() -> None:
    import yaml

    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "entries.yml").read_text(encoding="utf-8"))
    steps = workflow["jobs"]["check"]["steps"]
    assert any(step.get("run") == "python leaderboard/ci_check.py" for step in steps)
    assert next(step for step in steps if "checkout" in step.get("uses", ""))["with"]["fetch-depth"] == 0
    assert workflow["permissions"] == {"contents": "read"}
