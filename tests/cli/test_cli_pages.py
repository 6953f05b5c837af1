"""`harness report` and `harness leaderboard build`: pages of real runs, and errors in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any


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
