"""Entries joined by the digest of the dictionary: metrics beside what its features do, and their rank correlation."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from harness.errors import UnknownNameError
from harness.leaderboard.entry import Entry
from harness.leaderboard.files import save_entry
from harness.leaderboard.joined import join
from harness.leaderboard.joined_table import beside_metrics, correlated
from harness.leaderboard.table import build_board, render_board, to_text

Make = Callable[..., Any]
N = 8


@pytest.fixture
def entries(make_entry: Make, make_result: Make, make_detection: Make, make_dictionary: Make) -> list[Entry]:
    """Eight dictionaries, each in two entries: one measures it, the other goes by its features, under another name."""
    found = []
    for number in range(N):
        subject = {"kind": "dictionary", "dictionary": "sae", "digest": f"d{number}", "metric": "autointerp"}
        latents = {"item": "latent", "items_shared": False, "items": [
            {"id": "measured once", "text": "sae", "values": {"autointerp": 0.5 + number / 20},
             "per_item": {f"latent {place}": place / 10 + number / 100 for place in range(4)}}
        ]}  # fmt: skip
        row = make_dictionary("autointerp", [0.5 + number / 20], subject=subject, **latents)
        found.append(make_entry(row, judge=None, run_digest=f"m{number}", dictionaries=[]))
        order = [3, 0, 2, 1, 5, 4, 7, 6][number]
        rows = [
            make_result("a", [order / 10, 0.2, 0.3, 0.4]), make_result("b", [0.05, 0.2, 0.3, 0.4]),
            make_detection("a", [0.5 + order / 20, 0.6, 0.7, 0.8]), make_result("random", [1.9] * 4, role="control", controls=("a",)),
        ]  # fmt: skip
        own = [{"name": "sae", "source": "elsewhere", "digest": f"d{number}", "layer": 2, "d_sae": 512}]
        found.append(make_entry(*rows, dictionaries=own, run_digest=f"r{number}", task=f"task{number % 2}"))
    return found


def test_columns_are_joined_by_digest_and_feature(entries: list[Entry]) -> None:
    board = join(entries)
    assert {"autointerp", "detection.auroc", "steering.overall", "steering.fluency"} <= board.columns["dictionary"].keys()
    assert len(board.column("autointerp", "dictionary").values) == len(board.column("steering.overall", "dictionary").values) == N
    best = board.column("steering.overall", "dictionary").values["d1", ""]
    assert best == pytest.approx((0.05 + 0.2 + 0.3 + 0.4) / 4)  # of each concept the better of the two methods; random features are no answer
    assert board.column("steering.overall", "feature").values["d0", "0"] == pytest.approx(0.3)
    assert board.column("autointerp", "feature").values["d3", "2"] == pytest.approx(0.23)
    with pytest.raises(UnknownNameError) as caught:
        board.column("steering.overal", "dictionary")
    assert caught.value.near == "steering.overall"


def test_the_correlation_is_over_what_both_have(entries: list[Entry]) -> None:
    board = join(entries)
    found = correlated(board, "autointerp", "detection.auroc", "dictionary")
    assert found.found.n == N
    assert found.found.tau.value == pytest.approx(16 / 28)  # six of 28 pairs stand in the opposite order
    assert found.found.tau.low is not None
    assert found.lines()[0] == "autointerp and detection.auroc, over 8 dictionaries"
    assert found.lines()[-1] == "from 3 tasks: demo 1, task0 1, task1 1"
    assert correlated(board, "autointerp", "steering.overall", "feature").found.n == 4 * N
    few = correlated(join(entries[:8]), "autointerp", "detection.auroc", "dictionary")
    assert few.lines() == ["autointerp and detection.auroc: no correlation (4 points have both numbers, and it takes 6)"]


def test_metrics_stand_beside_what_the_features_do(entries: list[Entry]) -> None:
    grid = beside_metrics(join(entries))
    assert grid is not None
    assert [column.heading for column in grid.columns] == ["dictionary", "autointerp", "best features' AUROC", "steering score"]
    assert len(grid.lines) == N
    assert beside_metrics(join(entries[::2])) is None
    board = to_text(render_board(build_board(entries)), 160)
    assert "metrics beside what the dictionaries' features do" in board


def test_a_metric_with_several_options_is_several_columns(make_entry: Make, make_dictionary: Make) -> None:
    subject = {"kind": "dictionary", "dictionary": "sae", "digest": "d", "metric": "probing"}
    rows = [
        make_dictionary("probing", [k / 10], subject={**subject, "label": f"probing:k={k}", "metric_options": {"given": {"k": k}}}) for k in (1, 5)
    ]
    assert sorted(join([make_entry(*rows, judge=None)]).columns["dictionary"]) == ["probing:k=1", "probing:k=5"]


def test_the_command_prints_the_coefficients_and_one_line_where_there_are_too_few(entries: list[Entry], tmp_path: Path) -> None:
    from harness.cli.leaderboard import command

    folder = tmp_path / "leaderboard" / "entries"
    for entry in entries:
        save_entry(entry, folder)

    def run(*arguments: str) -> Any:
        return CliRunner().invoke(command, ["--out", str(tmp_path), "correlate", *arguments])

    shown = run("autointerp", "detection.auroc")
    assert shown.exit_code == 0, shown.output
    assert "Kendall tau-b  0.571 [" in shown.output
    found = json.loads(run("autointerp", "steering.overall", "--per", "feature", "--json").output)
    assert (found["n"], len(found["points"]), found["points"][0]["feature"] is not None) == (4 * N, 4 * N, True)
    for path in list(folder.iterdir())[4:]:
        path.unlink()
    few = run("autointerp", "autointerp")
    assert few.output.count("\n") == 1
    assert "no correlation" in few.output
