"""Texts and ratings from files: what is read, whose it is, and what is refused."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from harness_plugins.judges.human.sheets import sheet_csv

from harness.errors import DataError
from harness.files.rows import write_rows
from harness.judging.sheets import sheet_row
from harness.judging.texts import GivenRating, read_texts
from harness.types import JudgeItem

ROWS: list[dict[str, Any]] = [
    {"id": "a", "concept": "bees", "instruction": "Say hello.", "text": "Hello, bees"},
    {"id": "b", "concept": "bees", "instruction": "Say hello.", "text": "=SUM(hello)"},
    {"id": "c", "concept": "law", "instruction": "Count, please.", "text": ""},
]


def rated(*rows: tuple[Any, Any, Any], **more: Any) -> list[dict[str, Any]]:
    names = ("concept_rating", "instruction_rating", "fluency_rating")
    return [{**text, **more, **dict(zip(names, values, strict=True))} for text, values in zip(ROWS, rows, strict=False)]


@pytest.fixture
def texts_file(tmp_path: Path) -> Path:
    write_rows(ROWS, tmp_path / "texts.jsonl")
    return tmp_path / "texts.jsonl"


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet"])
def test_texts_and_ratings_of_every_format(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"anna.{ending}"
    write_rows(rated((2, 1, 2), (0.5, None, 1), (None, None, None)), path)
    texts = read_texts(path)
    assert [(item.id, item.text) for item in texts.items] == [("a", "Hello, bees"), ("b", "=SUM(hello)"), ("c", "")]
    assert texts.given == {"anna": {"a": GivenRating("a", 2, 1, 2), "b": GivenRating("b", 0.5, None, 1)}}
    assert texts.concepts == {"a": "bees", "b": "bees", "c": "law"}
    part = texts.part(["b"])
    assert [item.id for item in part.items] == ["b"]
    assert list(part.given["anna"]) == ["b"]


def test_texts_without_ids_are_known_by_what_they_say(tmp_path: Path) -> None:
    write_rows([{name: value for name, value in row.items() if name != "id"} for row in ROWS], tmp_path / "texts.jsonl")
    texts = read_texts(tmp_path / "texts.jsonl")
    write_rows(rated((2, 2, 2), (1, 1, 1)), tmp_path / "others.csv")  # ids of its own
    texts.add_ratings(tmp_path / "others.csv")
    assert [texts.given["others"][item.id].concept for item in texts.items[:2]] == [2, 1]


def test_one_file_may_hold_several_raters(texts_file: Path, tmp_path: Path) -> None:
    write_rows(rated((2, 2, 2), (1, 1, 1), rater="Anna") + rated((0, 0, 0), rater="Ben"), tmp_path / "all.csv")
    texts = read_texts(texts_file)
    texts.add_ratings(tmp_path / "all.csv")
    assert {name: len(theirs) for name, theirs in texts.given.items()} == {"Anna": 2, "Ben": 1}


def test_the_sheets_of_the_human_judge_are_read_with_their_raters(texts_file: Path, tmp_path: Path) -> None:
    texts = read_texts(texts_file)
    folder = tmp_path / "sheets"
    folder.mkdir()
    blank = sheet_csv([sheet_row(item) for item in texts.items], ";").decode("utf-8-sig")
    (folder / "sheet-1.csv").write_text(blank, encoding="utf-8")
    with (folder / "sheet-1-anna.csv").open("w", encoding="utf-8", newline="") as file:
        header, *rows = list(csv.reader(blank.splitlines(), delimiter=";"))
        answers = [["2", "1", "0"], ["skip", "", ""], ["0", "0", "0"]]
        csv.writer(file).writerows([header, *([*row[:4], *answer, ""] for row, answer in zip(rows, answers, strict=True))])
    texts.add_ratings(folder)
    assert texts.given["anna"] == {
        "a": GivenRating("a", 2, 1, 0), "b": GivenRating("b", None, None, None), "c": GivenRating("c", 0, 0, 0)
    }  # fmt: skip
    alone = read_texts(texts_file)
    alone.add_ratings(folder / "sheet-1-anna.csv")  # the apostrophe before what a spreadsheet takes for a formula changes no id
    assert {i: one.concept for i, one in alone.given["anna"].items()} == {"a": 2, "c": 0}


def test_ratings_of_other_texts_are_counted_and_left_out(texts_file: Path, tmp_path: Path) -> None:
    write_rows([*rated((2, 2, 2)), {**rated((1, 1, 1))[0], "id": "z", "text": "another"}], tmp_path / "more.csv")
    texts = read_texts(texts_file)
    texts.add_ratings(tmp_path / "more.csv")
    assert (len(texts.given["more"]), texts.unmatched) == (1, {str(tmp_path / "more.csv"): 1})


@pytest.mark.parametrize(
    ("rows", "given", "named", "instead"),
    [
        ([{"concept": "x", "instruction": "y"}], {"concept": "x", "instruction": "y"}, "row 1 has no text", "concept, instruction and text"),
        ([{**ROWS[0], "concept": " "}], {**ROWS[0], "concept": " "}, "row 1 has no concept", "concept, instruction and text"),
        ([{**ROWS[0]}, {**ROWS[1], "id": "a"}], "a", "row 2: the id 'a'", "an id of its own"),
        ([{**ROWS[0], "concept_rating": 3}], 3, "row 1: concept_rating is '3'", "0 to 2, skip, or nothing"),
        ([{**ROWS[0], "fluency_rating": "good"}], "good", "row 1: fluency_rating is 'good'", "0 to 2, skip, or nothing"),
        ([{**ROWS[0], "concept_rating": 2}, {**ROWS[0], "concept_rating": 1}], (1, None, None), "row 2: texts ", "one of the rows"),
    ],
)
def test_what_is_no_file_of_texts_is_refused(
    tmp_path: Path, rows: list[dict[str, Any]], given: object, named: str, instead: str
) -> None:
    """``instead`` is in what is allowed or in the hint."""
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with pytest.raises(DataError) as raised:
        read_texts(path)
    assert raised.value.given == given
    assert str(path) in raised.value.message
    assert named in raised.value.message
    assert instead in str(raised.value).removeprefix(raised.value.message)


def test_what_is_no_file_of_ratings_is_refused(texts_file: Path, tmp_path: Path) -> None:
    texts = read_texts(texts_file)
    (tmp_path / "broken.jsonl").write_text("{", encoding="utf-8")
    (tmp_path / "list.jsonl").write_text("[1]", encoding="utf-8")
    write_rows([{**row, "id": "q", "text": "other"} for row in rated((1, 1, 1))], tmp_path / "foreign.csv")
    write_rows(rated((None, None, None)), tmp_path / "empty.csv")
    (tmp_path / "folder").mkdir()
    for name, named, hint in (
        ("texts.jsonl", "concept_rating, instruction_rating, fluency_rating", "a file of ratings has them"),
        ("none.csv", "file of ratings", "check the path"),
        ("ratings.xlsx", "file of ratings", "check the path"),
        ("broken.jsonl", "Expecting property name", "make it again"),
        ("list.jsonl", "line 1,", "one JSON object a line"),
        ("foreign.csv", "ratings of 1 texts", "need the id"),
        ("empty.csv", "no ratings", "need the id"),
        ("folder", "sheet", "CSV files"),
    ):
        with pytest.raises(DataError) as raised:
            texts.add_ratings(tmp_path / name)
        assert raised.value.given == {"list.jsonl": "[1]", "broken.jsonl": "{"}.get(name, tmp_path / name), name
        assert str(tmp_path / name) in raised.value.message, name
        assert named in raised.value.message, name
        assert hint in raised.value.hint, name
    assert texts.given == {}


def test_equal_texts_share_a_row_of_a_sheet(tmp_path: Path) -> None:
    from harness.judging.texts import Texts

    texts = Texts((JudgeItem("a", "x", "y", "z"), JudgeItem("b", "x", "y", "z")))
    write_rows([{"id": sheet_row(texts.items[0]).id, "concept_rating": 1, "instruction_rating": 0, "fluency_rating": 2}], tmp_path / "one.csv")
    texts.add_ratings(tmp_path / "one.csv")
    assert texts.given == {"one": {name: GivenRating(name, 1, 0, 2) for name in ("a", "b")}}
