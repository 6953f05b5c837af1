"""``harness runs verify``, and that whoever makes something of a run looks first whether it is damaged."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness import load_run
from harness.errors import StoreError


@pytest.fixture
def out(evaluation: tuple[Path, Any], tmp_path: Path) -> Path:
    shutil.copytree(evaluation[0], tmp_path / "out")
    return tmp_path / "out"


def run_of(out: Path) -> Path:
    (run,) = (out / "runs").iterdir()
    return run


def change(run: Path, sql: str) -> None:
    connection = sqlite3.connect(run / "run.sqlite")
    with connection:
        connection.execute(sql)
    connection.close()


def test_an_intact_run_and_its_entry(harness: Callable[..., Any], out: Path) -> None:
    found = harness("runs", "verify", "--out", out, "--json").json
    assert found == [{"run": run_of(out).name, "folder": str(run_of(out)), "verdict": "intact", "groups": [], "problems": []}]
    assert harness("runs", "verify", run_of(out).name[:8], "--out", out).out == f"{run_of(out).name}: intact\n"
    assert harness("runs", "verify", "--out", out / "elsewhere").code == 0


def test_a_changed_rating_is_found_and_used_by_nobody(harness: Callable[..., Any], out: Path, tiny_task: Path) -> None:
    run = run_of(out)
    change(run, "UPDATE outcomes SET concept = 2 - concept WHERE stage = 'rate' AND rowid = (SELECT min(rowid) FROM outcomes WHERE concept <> 1)")
    done = harness("runs", "verify", "--out", out)
    assert done.code == 2
    assert f"{run.name}: damaged" in done.out
    assert "outcomes rate words" in done.out
    assert run.name in done.error
    commands = [
        ("eval", "--labeler", "calibf1", "--steerer", "sae-clamp", "--task", tiny_task, "--out", out, "--quiet"),
        ("judge", run.name, "--judge", "words", "--out", out, "--quiet"),
        ("judge", "compare", run.name, "--out", out),
        ("runs", "export", run.name, out / "table.jsonl", "--out", out),
    ]
    for command in commands:
        refused = harness(*command)
        assert refused.code == 2
        assert f"{run / 'run.sqlite'} is damaged" in refused.error
    with pytest.raises(StoreError):
        load_run(run)
    assert not (out / "table.jsonl").exists()


def test_a_changed_entry_beside_the_run_is_found(harness: Callable[..., Any], out: Path) -> None:
    path = run_of(out) / "entry.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"seed": 0', '"seed": 1', 1), encoding="utf-8")
    found = harness("runs", "verify", "--out", out)
    assert found.code == 2
    assert str(path) in found.out


def test_a_run_that_lies_in_the_folder_of_another_is_found(harness: Callable[..., Any], out: Path) -> None:
    (run,) = (out / "runs").iterdir()
    other = run.with_name(f"{run.name.rpartition('-')[0]}-0123456789ab")
    shutil.copytree(run, other)
    shutil.copytree(run, run.with_name(f"{run.name}.1"))  # one that was set aside
    shutil.copytree(run, run.with_name("of-my-own"))
    done = harness("runs", "verify", "--out", out)
    assert f"1 of 4 runs are damaged: {other.name}" in done.error
    assert f"named as one run and holds another, {run.name}" in done.out


def test_an_entry_of_another_run_is_found(harness: Callable[..., Any], out: Path) -> None:
    (run,) = (out / "runs").iterdir()
    entry = json.loads((run / "entry.json").read_text(encoding="utf-8"))
    entry |= {"run_digest": "0" * 16, "id": "", "seal": ""}
    (run / "entry-other.json").write_text(json.dumps(entry), encoding="utf-8")
    done = harness("runs", "verify", "--out", out)
    assert "1 of 1 runs are damaged" in done.error
    assert "entry-other.json is the entry of another run" in done.out


def test_a_run_without_digests_is_said_to_have_none(harness: Callable[..., Any], out: Path) -> None:
    change(run_of(out), "DROP TABLE digests")
    change(run_of(out), "PRAGMA user_version=2")
    done = harness("runs", "verify", "--out", out)
    assert (done.code, done.out) == (0, f"{run_of(out).name}: no digests\n")
    assert harness("judge", run_of(out).name, "--judge", "words", "--out", out, "--quiet", "--json").code == 0
    assert harness("runs", "verify", "--out", out, "--json").json[0]["verdict"] == "intact"


def test_a_refused_run_leaves_no_folder(harness: Callable[..., Any], tiny_task: Path, tmp_path: Path, install: Callable[..., Path]) -> None:
    source = """
from harness import hookimpl
from harness.contracts import LabelerTraits
from harness.errors import OptionError

class Refusing:
    traits = LabelerTraits()
    def __init__(self, options): pass
    def label(self, bench, concepts):
        raise OptionError("not today")

@hookimpl
def harness_register_labelers(registry):
    registry.add("refusing", Refusing, summary="refuses")
"""
    site = install(source, "refusing", "refusing-dist")
    command = ("eval", "--labeler", "refusing", "--steerer", "sae-clamp", "--task", tiny_task, "--out", tmp_path, "--quiet")
    done = harness(*command, sites=(site,))
    assert done.code == 2
    assert "not today" in done.error
    assert harness("runs", "--out", tmp_path, "--json").json == []
    assert list((tmp_path / "runs").iterdir()) == []
