"""`harness report` and `harness leaderboard build`: pages of real runs, and errors in one line."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

from helpers.steered import steered_run

from harness.store import JudgeRecord, RunStore, digests
from harness.types import Rating


def test_a_run_becomes_one_page_and_a_leaderboard_a_site(harness: Callable[..., Any], evaluation: tuple[Path, Any], tmp_path: Path) -> None:
    out, entry = evaluation
    (run,) = (out / "runs").iterdir()
    page = tmp_path / "page.html"
    assert harness("report", run.name[:8], "--from", out, "--out", page).out.strip() == str(page)
    text = page.read_text(encoding="utf-8")
    assert len(text.encode()) < 3_000_000
    for row in entry["rows"]:
        assert f"{row['ranked']['value']:.3f}" in text
    assert "steering-curves" in text
    site = tmp_path / "site"
    assert "1 entry, 1 with its run at hand" in harness("leaderboard", "build", "--from", out, "--out", site, "--quiet").out
    own = (site / "entries" / next((site / "entries").iterdir()).name).read_text(encoding="utf-8")
    assert "steering-curves" in own
    assert harness("leaderboard", "--out", out, "build", "-o", site, "--quiet").code == 0, "a site may be written again"


def test_what_cannot_be_shown_is_one_line(harness: Callable[..., Any], evaluation: tuple[Path, Any], tmp_path: Path) -> None:
    out, _ = evaluation
    (run,) = (out / "runs").iterdir()
    assert "nothing" in harness("report", "nothing", "--from", out).error
    assert "nobody" in harness("report", run, "--judge", "nobody").error
    assert f"--from {out}" in harness("report", run, "--out", out).error, "the folder with runs/ is another option"
    assert str(out) in harness("leaderboard", "build", "--from", out, "--out", out, "--quiet").error
    assert harness("leaderboard", "build", "--from", tmp_path, "--out", tmp_path / "site", "--quiet").code == 0


def without_ratings(run: Path, where: str) -> None:
    """Take ratings out of a run's file, as if the judge had not come to them yet."""
    connection = sqlite3.connect(run / "run.sqlite")
    with connection:
        connection.execute(f"DELETE FROM outcomes WHERE stage = 'rate' AND {where}")
        digests.write_all(connection)
    connection.close()


def test_a_run_that_is_not_finished_says_so_on_page_and_screen(harness: Callable[..., Any], tmp_path: Path) -> None:
    run, page = tmp_path / "runs" / "demo-1", tmp_path / "page.html"
    steered_run(run, lambda *_: (1.0, 1.0, 1.0), ("clamp",))
    without_ratings(run, "rowid % 4 = 0")
    done = harness("report", "demo-1", "--from", tmp_path, "--out", page)
    assert (done.code, done.out.strip()) == (0, str(page))
    assert "this run is not finished (interrupted): 112 of 112 texts, 84 of 112 ratings by tester" in done.err
    text = page.read_text(encoding="utf-8")
    assert "<strong>This run is not finished (interrupted)</strong>: 112 of 112 texts, 84 of 112 ratings by tester." in text
    assert "Go on with it: <code>harness eval --task demo" in text
    page.unlink()
    without_ratings(run, "rowid > 0")
    done = harness("report", "demo-1", "--from", tmp_path, "--out", page)
    assert done.code == 2
    assert "nothing in it is rated, detected or measured (112 of 112 texts, 0 of 112 ratings by tester)" in done.error
    assert not page.exists()


def test_a_finished_run_that_another_judge_has_not_rated_to_its_end(harness: Callable[..., Any], tmp_path: Path) -> None:
    steered_run(tmp_path / "runs" / "demo-1", lambda *_: (1.0, 1.0, 1.0), ("clamp",))
    with RunStore.open(tmp_path / "runs" / "demo-1") as store:
        store.finish()
        key = store.add_judge(JudgeRecord("other", "other/1"))
        store.add_ratings(key, [Rating(trial.id, "rated", 1, 1, 1) for trial in store.trials()[:5]])
    command = ("report", "demo-1", "--from", tmp_path, "--out", tmp_path / "page.html")
    assert harness(*command).err == ""
    assert "not finished" not in (tmp_path / "page.html").read_text(encoding="utf-8")
    done = harness(*command, "--judge", "other")
    assert "this run is not rated to its end: 112 of 112 texts, 5 of 112 ratings by other;" in done.err
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<strong>This run is not rated to its end</strong>: 112 of 112 texts, 5 of 112 ratings by other." in text
