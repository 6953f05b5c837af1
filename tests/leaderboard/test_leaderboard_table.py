"""What people and programs are shown."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.proposals import without_command
from rich.cells import cell_len
from rich.console import Group as Stack

from harness.leaderboard.board_json import board_json
from harness.leaderboard.columns import KINDS, Shown, grid, heading, number
from harness.leaderboard.entry import STEERING_METRICS, Row
from harness.leaderboard.notices import OFFLINE_NOTICE
from harness.leaderboard.published import load_published
from harness.leaderboard.result import render_entry
from harness.leaderboard.table import build_board, render_board, render_published, to_text

Make = Callable[..., Any]
PUBLISHED = Path(__file__).resolve().parents[2] / "leaderboard" / "published"


def row_with(text: str, *words: str) -> str:
    """The only table row that begins with all of ``words``, with single spaces."""
    (line,) = {line for line in map(" ".join, map(str.split, text.splitlines())) if line.startswith(" ".join(words))}
    return line


def heads_of(text: str) -> list[list[str]]:
    """The lines of the first table's headings: between the blank line behind what a screen opens with and the rule."""
    return [line.split() for line in text.split("\n\n", 1)[1].split("\n─", 1)[0].splitlines()]


def test_a_board_shows_intervals_coverage_and_what_was_not_tested(make_entry: Make, make_result: Make) -> None:
    rows = [
        make_result("calibf1", [0.9, 0.7, 1.0, 0.8]),
        make_result("half", [0.6, 0.5, None, None]),
        make_result("random", [0.1] * 4, role="control"),
        make_result("broken", [1.0] * 4, eligible=False, reasons=["30 % of the texts are unrated"], n_unrated=12),
    ]
    text = to_text(render_board(build_board([make_entry(*rows, offline=True)], problems=["x.json is no entry"])), width=200)
    assert row_with(text, "– calibf1 ×") == "– calibf1 × sae-clamp 0.850 [0.75, 0.95] 0.850 0.850 0.850 4/4 40 0 0.4"
    assert row_with(text, "– half ×") == "– half × sae-clamp 0.275 [0.18, 0.38] 0.550 0.550 0.550 2/4 20 0 0.4"
    assert row_with(text, "random × sae-clamp (control)").startswith("random × sae-clamp (control) 0.100")
    assert row_with(text, "broken × sae-clamp (not eligible)").endswith("4/4 40 12 0.4")
    assert "who is ahead: not tested (4 shared concepts: 12 are needed); by score calibf1 × sae-clamp and half × sae-clamp" in text
    assert "broken × sae-clamp is not eligible: 30 % of the texts are unrated" in text
    assert OFFLINE_NOTICE in text
    assert "overall counts a concept without an answer as 0" in text
    assert "not shown: x.json is no entry" in text


def test_what_intervals_warn_of_is_said_once(make_entry: Make, make_result: Make, make_metric: Make) -> None:
    rough, missing = "only 4 independent concepts: the interval is rough below 20", "1 undefined value left out"

    def warned(name: str) -> Row:
        row = make_result(name, mode="chosen")
        value = {name: metric.model_copy(update={"warning": rough}) for name, metric in row.metrics.items()}
        value["fluency"] = row.metrics["fluency"].model_copy(update={"warning": missing})
        return Row.model_validate({**row.model_dump(), "metrics": {name: metric.model_dump() for name, metric in value.items()}})

    entry = make_entry(warned("a"), warned("b"), mode="chosen")
    text = to_text(render_entry(entry), width=200)
    assert [line.strip() for line in text.splitlines() if "rough" in line] == [rough]
    assert [line.strip() for line in text.splitlines() if "undefined" in line] == [f"fluency: {missing}"]
    mixed = to_text(render_board(build_board([make_entry(warned("a"), make_result("b", mode="chosen"), mode="chosen")])), width=200)
    assert [line.strip() for line in mixed.splitlines() if "rough" in line] == [f"a × sae-clamp: {rough}"]


@pytest.mark.parametrize("general", [True, False])
def test_what_an_offline_judge_is_worth_is_said_once(make_entry: Make, make_result: Make, general: bool) -> None:
    entry = make_entry(make_result("calibf1"), offline=True)
    assert entry.judge is not None
    failed = f"judge {entry.judge.name} fails the self-test: 70% of the obvious ratings right"
    warnings = [failed] + [f"judge {entry.judge.name!r} is an offline judge: no person or strong model stands behind these ratings"] * general
    text = " ".join(to_text(render_entry(make_entry(make_result("calibf1"), offline=True, warnings=warnings)), width=200).split())
    assert text.count(failed) == 1
    assert OFFLINE_NOTICE not in text
    assert "is an offline judge" not in text


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
    assert text.count("the [sea] · strength 0.4 · overall 1.500") == 3
    assert [f"number {number}" in text for number in range(3)] == [True, True, False]  # a method's turn each


def test_a_control_stands_a_second_time_at_the_strengths_of_the_method(make_entry: Make, make_result: Make, make_metric: Make) -> None:
    reading = {
        "at_strengths_of": "calibf1 × sae-clamp", "method": make_result("calibf1").subject.id, "n_items": 4, "n_read": 3,
        "metrics": {name: make_metric(value, bounds=(0, 2)) for name, value in (("concept", 0.1), ("instruction", 1.2), ("fluency", 1.81))},
    }  # fmt: skip
    control = make_result("random", [0.0] * 4, role="control", readings=[reading], controls=["calibf1"])
    entry = make_entry(make_result("calibf1"), control)
    for text in (to_text(render_entry(entry)), to_text(render_board(build_board([entry])))):
        assert row_with(text, "… at the strengths of").partition("– – 0.100 1.200 1.810 3/4 –")[1]
    value = board_json(build_board([entry]))
    rows = value["groups"][0]["rows"]
    assert [row["name"] for row in rows] == ["calibf1 × sae-clamp", "random × sae-clamp"]  # it is no row, so nothing is ranked by it
    assert rows[1]["readings"][0]["metrics"]["fluency"]["value"] == 1.81


def test_published_scores_say_what_the_protocol_alone_is_worth() -> None:
    notes = {table.id: table.note for table in load_published(PUBLISHED)}
    assert all("by the protocol alone" in notes[name] for name in ("axbench-steering", "axbench-steering-issue-149"))


def test_missing_numbers_are_dashes_not_zeros(make_entry: Make, make_result: Make, make_score: Make) -> None:
    metrics = {part: make_score(None) for part in ("overall", "concept", "instruction", "fluency")}
    row = make_result(
        "none", [None, None], metrics=metrics, ranked=make_score(None), eligible=False, reasons=["no texts were rated"],
        bounds={"low": None, "high": None, "reason": "no texts"},
    )  # fmt: skip
    line = row_with(to_text(render_entry(make_entry(row))), "none × sae-clamp (not eligible)")
    assert line == "none × sae-clamp (not eligible) – – – – – 0/2 0 0 –"


def test_the_board_as_json_is_json_and_complete(make_entry: Make, make_result: Make) -> None:
    values = [0.9 + 0.01 * (number % 5) for number in range(16)]
    rows = [make_result("a", values), make_result("b", [value - 0.4 for value in values]), make_result("random", [0.1] * 16, role="control")]
    entry = make_entry(*rows)
    board = build_board([entry], load_published(PUBLISHED), ["p"], "a × sae-clamp")
    value = json.loads(json.dumps(board_json(board), allow_nan=False))
    (group,) = value["groups"]
    assert [(row["rank"], row["name"], row["entry"]) for row in group["rows"]] == [
        ([1, 1], "a × sae-clamp", entry.id), ([2, 2], "b × sae-clamp", entry.id), (None, "random × sae-clamp", entry.id)
    ]  # fmt: skip
    (pair,) = group["comparisons"]
    assert (pair["first_name"], pair["second_name"], pair["apart"]) == ("a × sae-clamp", "b × sae-clamp", True)
    assert group["groups"] == [[0], [1]]
    first, second, _ = group["rows"]
    assert [(one["control_name"], one["answer"]) for one in second["against"]] == [("random × sae-clamp", "yes")]
    assert (first["win_rate"], second["win_rate"]["value"], second["win_rate"]["against_name"]) == (None, 0, "a × sae-clamp")
    assert (first["runs"][0]["entry"], first["spread"]["n"]) == (entry.id, 1)
    assert first["items"][0] == {
        "id": "c0", "text": "about c0", "features": ["sae/0"], "values": dict.fromkeys(STEERING_METRICS, 0.9), "strength": 0.4
    }  # fmt: skip
    assert first["metrics"]["overall"]["value"] == first["score"]["value"] == pytest.approx(sum(values) / 16)
    assert first["subject"]["labeler_options"] == {"given": {}, "default": {}}
    assert (group["kind"], group["metric"], group["judge_key"], group["higher_is_better"]) == ("steering", "overall", "offline-1", True)
    assert {table["ranked"] for table in value["published"]} == {False}
    assert value["problems"] == ["p"]


def test_the_json_is_documented(make_entry: Make, make_result: Make) -> None:
    """Every field of a group, a row, a pair, a verdict, a run and a win rate stands in the docs; those of the row's own are the entry's."""
    rows = [make_result(name, [value + 0.01 * (number % 3) for number in range(16)], role=role)
            for name, value, role in (("a", 0.9, "method"), ("b", 0.5, "method"), ("random", 0.1, "control"))]  # fmt: skip
    (group,) = board_json(build_board([make_entry(*rows)], win_rate_against="a × sae-clamp"))["groups"]
    row = group["rows"][1]
    parts = [group, group["comparisons"][0], row["against"][0], row["runs"][0], row["spread"], row["win_rate"]]
    fields = {name for part in parts for name in part} | (set(row) - set(Row.model_fields))
    text = (PUBLISHED.parents[1] / "docs" / "leaderboard.md").read_text(encoding="utf-8").partition("## As JSON")[2]
    assert sorted(name for name in fields if f"`{name}`" not in text) == []


# ------------------------------------------------------------------------------------------------------------------- other kinds


def test_a_run_of_all_kinds_has_a_table_for_each(make_entry: Make, make_result: Make, make_detection: Make, make_dictionary: Make) -> None:
    detectors = [make_detection("calibf1", [0.9, 0.8, None, 0.7]), make_detection(None, [0.99] * 4, detector="bow", role="control", extra=())]
    dictionaries = [make_dictionary(), make_dictionary(arm="random", values=[0.2, 0.25, 0.2])]
    text = to_text(render_entry(make_entry(make_result(), *detectors, *dictionaries)))
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert [line for line in lines if line in ("steering", "detection", "dictionary")] == ["steering", "detection", "dictionary"]
    first = lines.index("average calibrated")  # headings of several words stand below each other
    assert lines[first + 1] == "method AUROC interval precision F1 F1 answered"
    assert row_with(text, "calibf1 × sae 0.7") == "calibf1 × sae 0.725 [0.625, 0.825] 0.800 0.800 0.800 3/4"  # chance for the abstention
    assert row_with(text, "bow (control)") == "bow (control) 0.990 [0.890, 1.000] – – – 4/4"
    assert "AUROC counts a concept without an answer as 0.5" in text
    assert "metric dictionary arm value interval unit better trivial random answered" in lines
    assert row_with(text, "reconstruction sae trained") == "reconstruction sae trained 0.91 [0.9, 0.92] share higher 0 0.2 3/3"
    assert row_with(text, "reconstruction sae random").startswith("reconstruction sae random 0.2167")


def test_a_run_of_one_kind_has_no_heading_for_it(make_entry: Make, make_detection: Make) -> None:
    assert "detection" not in to_text(render_entry(make_entry(make_detection(), judge=None)))


def test_detection_has_the_metrics_that_its_rows_have(make_entry: Make, make_detection: Make, make_metric: Make) -> None:
    """Names that nobody foresaw are shown, in the order of the rows; a metric that no row has a value of has no column."""
    names = ("ap", "auroc_without_keywords", "hard_negatives")
    row = make_detection("a", [0.9, 0.8, 0.7], extra=names)
    absent = {**row.model_dump(mode="json")["metrics"], "hard_negatives": make_metric(None, bounds=[0, 1])}
    items = [item.model_copy(update={"values": {**item.values, "hard_negatives": None}, "reason": "none of them"}) for item in row.items]
    other = make_detection("b", [0.9, 0.8, 0.7], extra=names, metrics=absent, items=items)
    assert heads_of(to_text(render_entry(make_entry(row, other)))) == [
        ["AUROC"], ["average", "without", "hard"],
        ["method", "AUROC", "interval", "precision", "keywords", "negatives", "answered"],
    ]  # fmt: skip
    text = to_text(render_entry(make_entry(other)))
    assert "hard" not in text
    assert heads_of(text) == [["AUROC"], ["average", "without"], ["method", "AUROC", "interval", "precision", "keywords", "answered"]]


def test_a_method_that_saw_the_texts_is_marked(make_entry: Make, make_detection: Make) -> None:
    rows = [make_detection("a", eligible=False, reasons=["in-sample: the labeler chose on all texts"]), make_detection("b")]
    entry = make_entry(*rows)
    text = to_text(render_entry(entry))
    assert row_with(text, "a × sae (in-sample)")
    assert "a × sae: not eligible: in-sample: the labeler chose on all texts" in text
    board = to_text(render_board(build_board([entry])))
    assert row_with(board, "1 b × sae")
    assert row_with(board, "a × sae (in-sample)")
    assert "detection by AUROC" in board


def test_a_boards_dictionaries_stand_by_metric(make_entry: Make, make_dictionary: Make) -> None:
    loss = [make_dictionary("loss", [2.0, 2.1, 2.2], of=name, better=False, scale={"unit": "nats"}) for name in ("a", "b")]
    text = to_text(render_board(build_board([make_entry(*loss, make_dictionary("density", better=None))])))
    assert row_with(text, "– loss a trained") == "– loss a trained 2.1 [2.09, 2.11] nats lower 0 0.2 3/3"
    assert row_with(text, "– loss b trained")
    assert "who is ahead: not tested (3 shared seeds: 12 are needed)" in text
    assert row_with(text, "density sae trained") == "density sae trained 0.91 [0.9, 0.92] share – 0 0.2 3/3"
    assert "not ranked: neither direction of density is better" in text


def test_further_metrics_of_a_dictionary_stand_below_the_first(make_entry: Make, make_dictionary: Make, make_metric: Make) -> None:
    found = {"reconstruction": make_metric(0.9, None, unit="share"), "l0": make_metric(65536.4, None, unit="features", higher_is_better=False)}
    text = to_text(render_entry(make_entry(make_dictionary(metrics=found))))
    assert row_with(text, "reconstruction sae") == "reconstruction sae trained 0.9 – share – – – 3/3"
    assert row_with(text, "l0 sae") == "l0 sae trained 65,536 – features lower – – 3/3"


def test_the_kinds_stand_in_one_order_everywhere(make_entry: Make, make_result: Make, make_detection: Make, make_dictionary: Make) -> None:
    board = build_board([make_entry(make_dictionary(), make_detection(), make_result()), make_entry(make_result(), task="other")])
    assert [(group.key.task, group.key.kind) for group in board.groups] == [
        ("demo", "steering"), ("demo", "detection"), ("demo", "dictionary"), ("other", "steering")
    ]  # fmt: skip


# ------------------------------------------------------------------------------------------------------------------ narrow screens

FIGURES = re.compile(r"\[-?[\d.]+, -?[\d.]+\]|\d+/\d+|\d[\d.,]* \([\d.]+–[\d.]+\)|\d[\d.,]*")


def board_of_all(make_entry: Make, make_result: Make, make_detection: Make, make_dictionary: Make) -> Any:
    long = "a-labeler-with-a-very-long-name-indeed"
    steering = make_result(long, [0.9, 0.7, 1.0, None])
    items = [item.model_copy(update={"strength": 0.125 * (number + 1)}) if item.answered else item for number, item in enumerate(steering.items)]
    rows = [
        Row.model_validate({**steering.model_dump(), "items": items, "n_unrated": 2, "n_pending": 24}),
        make_result("b", [0.1, 0.2, 0.3, 0.4], role="control"),
        make_detection(long, extra=("average_precision", "f1", "calibrated_f1", "auroc_without_keywords", "hard_negatives")),
        make_dictionary("a-metric-with-a-long-name", arm="random-directions", scale={"unit": "features"}),
        make_dictionary("loss", [2.123456, 2.2, 2.3], better=False, scale={"unit": "nats"}),
    ]
    return make_entry(*rows)


@pytest.mark.parametrize("width", [200, 160, 120, 100, 80, 72, 60, 50, 40, 30])
def test_no_figure_is_cut_at_any_width(
    make_entry: Make, make_result: Make, make_detection: Make, make_dictionary: Make, width: int
) -> None:
    """The figures of the widest tables are those of the narrowest, whole and in lines of their own or beside each other."""
    entry = board_of_all(make_entry, make_result, make_detection, make_dictionary)
    published = [Stack(render_published(table)) for table in load_published(PUBLISHED)]
    grids = [kind for kind in KINDS for rows in [[Shown(row, row.score) for row in entry.rows_of(kind)]] for kind in [grid(kind, rows)]]
    for table in grids:
        text, wide = to_text(table, width), to_text(table, 400)
        assert max(map(cell_len, text.splitlines())) <= width
        shown, all_there_are = Counter(FIGURES.findall(text)), Counter(FIGURES.findall(wide))
        assert not shown - all_there_are, "no figure is cut"
        assert shown == all_there_are or "not shown for want of room: texts, unrated" in " ".join(text.split())
    for table in (*published, render_entry(entry), render_board(build_board([entry]))):
        assert max(map(cell_len, without_command(to_text(table, width)).splitlines())) <= width


def test_numbers_for_people() -> None:
    assert [number(None), number(0.12345), number(-1e-9), number(-0.0004), number(1.005, 1)] == ["–", "0.123", "0.000", "0.000", "1.0"]
    assert [heading(name) for name in ("auroc", "auroc_without_keywords", "f1", "l0", "hard-negatives")] == [
        "AUROC", "AUROC without keywords", "F1", "L0", "hard negatives"
    ]  # fmt: skip


def test_a_name_is_never_empty(make_entry: Make, make_result: Make, make_detection: Make, make_dictionary: Make) -> None:
    entry = board_of_all(make_entry, make_result, make_detection, make_dictionary)
    for width in (80, 60, 30):
        text = "".join(to_text(render_entry(entry), width).split())
        for row in entry.rows_of("steering"):
            assert "".join(row.subject.name.split()) in text


def test_headings_are_whole_words_at_any_width(make_entry: Make, make_result: Make) -> None:
    """Where they do not fit, columns of less weight are left out by name, then figures stack."""
    text = {width: to_text(render_entry(make_entry(make_result("calibf1", [0.9, 0.7, 1.0, 0.8]))), width) for width in (120, 80, 60)}
    kept = ["overall", "interval", "concept", "instruction", "fluency", "answered"]
    assert heads_of(text[120]) == [["method", *kept, "texts", "unrated", "strength"]]
    assert heads_of(text[80]) == [[*kept, "strength"]]
    assert "not shown for want of room: texts, unrated" in text[80]
    stacked = [line.split()[0] for line in text[60].split("\n\n", 1)[1].splitlines() if line.startswith("  ")]
    assert stacked[:9] == [*kept, "texts", "unrated", "strength"]
    assert "not shown" not in text[60]
