"""``harness runs verify``, and that whoever makes something of a run looks first whether it is damaged."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.runs import run_of

from harness import load_run
from harness.errors import StoreError


def change(run: Path, sql: str) -> None:
    connection = sqlite3.connect(run / "run.sqlite")
    with connection:
        connection.execute(sql)
    connection.close()


def test_an_intact_run_and_its_entry(harness: Callable[..., Any], evaluation: tuple[Path, Any], out: Path) -> None:
    found = harness("runs", "verify", "--out", out, "--json").json
    rows, texts = evaluation[1]["rows"], sum(row["n_texts"] for row in evaluation[1]["rows"])
    entries = [{"file": "entry.json", "reason": "", "differences": [], "rows": len(rows), "made_of": {"ratings": texts}}]
    assert found == [{"run": run_of(out).name, "folder": str(run_of(out)), "verdict": "intact", "groups": [], "problems": [], "entries": entries}]
    said = f"{run_of(out).name}: intact: every record is as it was written\n"
    scores = f"  entry.json: every score is what the run gives: {len(rows)} rows made again from {texts} ratings\n"
    assert harness("runs", "verify", run_of(out).name[:8], "--out", out).out == said + scores
    (run_of(out) / "entry.json").unlink()
    without = harness("runs", "verify", "--out", out)
    assert (without.code, without.out) == (0, said + "  no entry lies beside it, so no score was made again\n")
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
    assert "1 of 4 runs are damaged" in done.error
    assert other.name in done.error
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
    assert done.code == 0
    assert done.out.startswith(f"{run_of(out).name}: no digests: an older harness wrote it")
    assert "rows made again from" in done.out
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


# ------------------------------------------------------------------------------------------------- every score is computed anew


ALL_KINDS = ("--labeler", "most-frequent", "--steerer", "sae-clamp", "--detector", "bow", "--metric", "overlap", "--no-controls")


@pytest.fixture(scope="module")
def run_of_all_kinds(harness: Callable[..., Any], tiny_task: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("all-kinds")
    assert harness("eval", *ALL_KINDS, "--task", tiny_task, "--out", out, "--json").code == 0
    return out


@pytest.fixture
def all_kinds(run_of_all_kinds: Path, tmp_path: Path) -> Path:
    shutil.copytree(run_of_all_kinds, tmp_path / "all")
    return tmp_path / "all"


def seal_again(run: Path) -> None:
    """Make the digests of a run's file fit what it holds, as one who knows the format could."""
    from harness.store import digests

    connection = sqlite3.connect(run / "run.sqlite")
    with connection:
        digests.write_all(connection)
    connection.close()


def differences(report: dict[str, Any]) -> list[tuple[str, str]]:
    return [(one["row"], one["metric"]) for entry in report["entries"] for one in entry["differences"]]


RATED = "stage = 'rate' AND concept IS NOT NULL"


@pytest.mark.parametrize("sealed", [False, True], ids=["digests left", "digests made to fit"])
def test_an_edited_rating_is_found_by_the_scores_that_it_changes(harness: Callable[..., Any], all_kinds: Path, sealed: bool) -> None:
    run = run_of(all_kinds)
    change(run, f"UPDATE outcomes SET concept = 2, instruction = 2, fluency = 2 WHERE {RATED}")
    if sealed:
        seal_again(run)
    done = harness("runs", "verify", "--out", all_kinds, "--json")
    (report,) = json.loads(done.out)
    assert done.code == 2
    assert report["verdict"] == ("scores differ" if sealed else "damaged")
    assert ("most-frequent × sae-clamp", "overall") in differences(report)
    assert ("most-frequent × sae-clamp", "concept girl, overall") in differences(report)
    (found,) = [one for one in report["entries"][0]["differences"] if one["metric"] == "overall"]
    assert found["recomputed"] == 2.0
    assert found["stored"] == all_entries(all_kinds)[0].rows_of("steering")[0].metrics["overall"].value
    shown = harness("runs", "verify", "--out", all_kinds).out
    assert "most-frequent × sae-clamp: overall: stored " in shown


def all_entries(out: Path) -> list[Any]:
    from harness.leaderboard.files import load_entry

    return [load_entry(path) for path in sorted(run_of(out).glob("entry*.json"))]


@pytest.mark.parametrize(
    ("sql", "row", "metric"),
    [
        ("UPDATE outcomes SET value = json_set(value, '$.value', 0.001) WHERE stage = 'measure'", "overlap", "overlap"),
        ("UPDATE outcomes SET status = 'failed', reason = 'edited' WHERE stage = 'detect' AND rowid = (SELECT min(rowid) FROM outcomes "
         "WHERE stage = 'detect')", "bow", "auroc"),
        (f"UPDATE outcomes SET status = 'failed', reason = 'edited', concept = NULL, instruction = NULL, fluency = NULL WHERE {RATED} "
         "AND rowid % 7 = 0", "most-frequent × sae-clamp", "n_unrated"),
    ],
    ids=["measurement", "detection", "ratings taken away"],
)  # fmt: skip
def test_each_kind_is_computed_anew(harness: Callable[..., Any], all_kinds: Path, sql: str, row: str, metric: str) -> None:
    (before,) = harness("runs", "verify", "--out", all_kinds, "--json").json
    entry = all_entries(all_kinds)[0]
    detected, texts = (sum(item.answered for row in entry.rows_of("detection") for item in row.items), entry.rows_of("steering")[0].n_texts)
    assert before["verdict"] == "intact"
    assert before["entries"][0]["made_of"] == {"ratings": texts, "detections": detected, "measurements": len(entry.rows_of("dictionary"))}
    assert f"from {texts} ratings, {detected} detections and 1 measurement\n" in harness("runs", "verify", "--out", all_kinds).out
    change(run_of(all_kinds), sql)
    seal_again(run_of(all_kinds))
    (report,) = json.loads(harness("runs", "verify", "--out", all_kinds, "--json").out)
    assert report["verdict"] == "scores differ"
    assert any(name.startswith(row) and what.startswith(metric) for name, what in differences(report)), report["entries"]


def test_an_edited_entry_whose_seals_were_made_anew(harness: Callable[..., Any], out: Path) -> None:
    from harness.leaderboard.entry import Entry
    from harness.leaderboard.files import load_entry, save_entry

    path = run_of(out) / "entry.json"
    value = load_entry(path).as_json()
    value["rows"][0]["metrics"]["fluency"]["value"] = 1.0
    save_entry(Entry.model_validate({**value, "id": "", "seal": ""}), path)
    done = harness("runs", "verify", "--out", out, "--json")
    (report,) = json.loads(done.out)
    assert (done.code, report["verdict"]) == (2, "scores differ")
    assert differences(report) == [("calibf1 × sae-clamp", "fluency")]


def test_a_run_that_cannot_be_recomputed_says_why(harness: Callable[..., Any], out: Path) -> None:
    run = run_of(out)
    change(run, "UPDATE judges SET value = replace(value, 'words', 'others')")
    seal_again(run)
    done = harness("runs", "verify", "--out", out, "--json")
    assert (done.code, done.json[0]["verdict"]) == (0, "not recomputed")
    assert "no ratings by words" in done.json[0]["entries"][0]["reason"]
    assert "entry.json cannot be recomputed" in harness("runs", "verify", "--out", out).out


def test_a_record_that_no_harness_wrote_is_damage(harness: Callable[..., Any], all_kinds: Path) -> None:
    change(run_of(all_kinds), "UPDATE outcomes SET value = json_set(value, '$.other', 1) WHERE stage = 'measure'")
    seal_again(run_of(all_kinds))
    done = harness("runs", "verify", "--out", all_kinds)
    assert done.code == 2
    assert f"{run_of(all_kinds).name}: damaged" in done.out
    assert "entry.json cannot be recomputed" in done.out
