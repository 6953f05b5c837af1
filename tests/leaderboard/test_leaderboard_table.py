"""What people and programs are shown."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.leaderboard.published import load_published
from harness.leaderboard.table import (
    ABSTENTION_NOTICE,
    OFFLINE_NOTICE,
    board_json,
    build_board,
    render_board,
    render_entry,
    render_published,
    to_text,
)

Make = Callable[..., Any]
PUBLISHED = Path(__file__).resolve().parents[2] / "leaderboard" / "published"


def row_with(text: str, *words: str) -> str:
    """The only table row that begins with all of ``words``, with single spaces."""
    (line,) = {line for line in map(" ".join, map(str.split, text.splitlines())) if line.startswith(" ".join(words))}
    return line


def test_a_board_shows_ranks_intervals_coverage_and_comparisons(make_entry: Make, make_result: Make) -> None:
    rows = [
        make_result("calibf1", [0.9, 0.7, 1.0, 0.8]),
        make_result("half", [0.6, 0.5, None, None]),
        make_result("random", [0.1] * 4, role="control"),
        make_result("broken", [1.0] * 4, eligible=False, reasons=["30 % of the texts are unrated"], n_unrated=12),
    ]
    text = to_text(render_board(build_board([make_entry(*rows, offline=True)], problems=["x.json is no entry"])), width=200)
    assert row_with(text, "1 calibf1 ×") == "1 calibf1 × sae-clamp 0.850 [0.75, 0.95] 0.850 0.850 0.850 4/4 40 0 0.4"
    assert row_with(text, "2 half ×") == "2 half × sae-clamp 0.275 [0.18, 0.38] 0.550 0.550 0.550 2/4 20 0 0.4"
    assert row_with(text, "random × sae-clamp (control)").startswith("random × sae-clamp (control) 0.100")
    assert row_with(text, "broken × sae-clamp (not eligible)").endswith("4/4 40 12 0.4")
    assert (
        row_with(text, "half × sae-clamp after calibf1 × sae-clamp; intervals apart; behind by 0.575 [").count("paired on 4 concepts") == 1
    )
    assert "random × sae-clamp after half × sae-clamp; intervals overlap" in text
    assert "broken × sae-clamp is not eligible: 30 % of the texts are unrated" in text
    assert OFFLINE_NOTICE in text
    assert ABSTENTION_NOTICE in text
    assert "not shown: x.json is no entry" in text


def test_a_board_fits_eighty_columns_without_breaking_numbers(make_entry: Make, make_result: Make) -> None:
    rows = [make_result("a-labeler-with-a-long-name", [0.9, 0.7, 1.0, 0.8]), make_result("b", [0.1, 0.2, 0.3, None])]
    text = to_text(render_board(build_board([make_entry(*rows)])), width=80)
    assert max(map(len, text.splitlines())) <= 80
    assert "0.850 [0.75, 0.95] 0.850  0.850 0.850 4/4    40    0" in text


def test_an_unpaired_group_says_so(make_entry: Make, make_result: Make) -> None:
    entries = [make_entry(make_result(name, [0.5, 0.4], mode="chosen", concepts=[name, "z"]), mode="chosen") for name in ("a", "b")]
    text = to_text(render_board(build_board(entries)))
    assert text.count("these groups are not ranked against each other") == 2
    assert row_with(text, "a × sae-clamp (unpaired)").startswith("a × sae-clamp (unpaired) 0.450")


def test_an_empty_board_tells_what_to_do() -> None:
    assert "`harness eval` makes one" in to_text(render_board(build_board([])))


def test_published_tables_are_marked_as_not_ranked() -> None:
    tables = load_published(PUBLISHED)
    text = to_text(render_board(build_board([], tables)), width=220)
    assert text.count("published, not ranked against runs") == len(tables)
    assert row_with(text, "LoReFT 0.7") == "LoReFT 0.701 0.722 0.777 0.764"
    assert row_with(to_text(render_published(tables[0])), "LoRA") == "LoRA 0.637 0.641 0.602 0.580"
    assert row_with(to_text(render_published(tables[0])), "SFT") == "SFT (first 20 concepts) 0.637 0.714 – –"
    assert "arXiv 2501.17148" in text
    assert "judge: gpt-4o-mini" in text


def test_a_runs_result_shows_controls_warnings_and_samples(make_entry: Make, make_result: Make) -> None:
    samples = [
        {"concept_text": "the [sea]", "instruction": "Say hello.", "strength": 0.4, "text": f"Waves, number {number}.", "overall": 1.5}
        for number in range(3)
    ]
    rows = [
        make_result("calibf1", samples=samples, n_unrated=2, bounds={"low": 0.5, "high": 0.7}, warnings=["only 4 concepts"]),
        make_result("random", [0.1] * 4, role="control", samples=samples[:1]),
    ]
    text = to_text(render_entry(make_entry(*rows, offline=True, warnings=["the SAE was trained on another model"]), samples=3))
    assert row_with(text, "calibf1 × sae-clamp 0.") == "calibf1 × sae-clamp 0.625 [0.53, 0.72] 0.625 0.625 0.625 4/4 40 2 0.4"
    assert row_with(text, "random × sae-clamp (control)").endswith("4/4 40 0 0.4")
    assert "2 of 40 texts have no rating; overall lies between 0.500 and 0.700" in text
    assert "calibf1 × sae-clamp: only 4 concepts" in text
    assert "the SAE was trained on another model" in text
    assert OFFLINE_NOTICE in text
    assert text.count("Say hello.") == 3
    assert "the [sea] · strength 0.4 · overall 1.500" in text
    assert [f"number {number}" in text for number in range(3)] == [True, True, False]  # a method's turn each


def test_missing_numbers_are_dashes_not_zeros(make_entry: Make, make_result: Make, make_score: Make) -> None:
    scores = {part: make_score(None) for part in ("overall", "concept", "instruction", "fluency")}
    row = make_result(
        "none", [None, None], scores=scores, ranked=make_score(None), eligible=False, reasons=["no texts were rated"],
        bounds={"low": None, "high": None, "reason": "no texts"},
    )  # fmt: skip
    line = row_with(to_text(render_entry(make_entry(row))), "none × sae-clamp (not eligible)")
    assert line == "none × sae-clamp (not eligible) – – – – – 0/2 0 0 –"


def test_the_board_as_json_is_json_and_complete(make_entry: Make, make_result: Make) -> None:
    entry = make_entry(make_result("a", [0.9] * 4), make_result("b", [0.5, 0.4, 0.6, 0.5]))
    value = json.loads(json.dumps(board_json(build_board([entry], load_published(PUBLISHED), ["p"])), allow_nan=False))
    (group,) = value["groups"]
    assert [(row["rank"], row["method"], row["entry"]) for row in group["rows"]] == [
        (1, "a × sae-clamp", entry.id),
        (2, "b × sae-clamp", entry.id),
    ]
    assert group["rows"][1]["comparison"]["difference"] > 0
    assert group["rows"][0]["chosen_strengths"][0] == {"concept": "about c0", "features": ["sae/0"], "strength": 0.4}
    assert group["judge_key"] == "offline-1"
    assert {table["ranked"] for table in value["published"]} == {False}
    assert value["problems"] == ["p"]
