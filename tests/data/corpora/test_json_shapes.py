"""A table in one JSON object is read, or refused with its shape; so are JSON lines with other line ends, and JSON text sequences."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from harness.data import open_corpus
from harness.errors import DataError
from harness.files.inputs import Input
from harness.files.json_text import json_lines

ROWS = [{"text": f"text {number}", "label": "ab"[number % 2]} for number in range(3)]
FRAME = pd.DataFrame(ROWS)
COLUMNS = {"text": [row["text"] for row in ROWS], "label": [row["label"] for row in ROWS]}

TABLES = {
    "data": {"data": ROWS},
    "with more beside it": {"version": 1, "rows": ROWS, "meta": {"n": 3}, "tags": ["x"]},
    "columns": COLUMNS,
    "columns and a name": {"name": "mine", **COLUMNS},
    **{orient: json.loads(FRAME.to_json(orient=orient)) for orient in ("split", "index", "columns", "table")},
    "index of words": {"first": ROWS[0], "second": ROWS[1], "third": ROWS[2]},
}


def read(path: Path, **options: Any) -> list[tuple[str, set[str]]]:
    corpus = open_corpus(path, **options)
    found = [(document.text, set(document.labels)) for document in corpus]
    assert [(corpus[number].text, set(corpus[number].labels)) for number in range(len(corpus))] == found
    return found


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("shape", TABLES)
def test_a_table_in_one_object_is_read(tmp_path: Path, shape: str, indent: int | None) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(TABLES[shape], indent=indent))
    assert read(path) == [(row["text"], {row["label"]}) for row in ROWS]


def test_a_packed_table_larger_than_a_record_is_read(tmp_path: Path) -> None:
    rows = [{"text": f"{number} " + "x" * 100_000, "label": "a"} for number in range(200)]
    (tmp_path / "a.json.gz").write_bytes(gzip.compress(json.dumps({"data": rows}).encode(), 1))
    assert [document.text for document in open_corpus(tmp_path / "a.json.gz")] == [row["text"] for row in rows]


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ({"train": ROWS, "test": ROWS}, "rows under several names (train, test)"),
        ({"text": ["a", "b"], "label": ["x"]}, "text: 2, label: 1"),
        ({"columns": ["text", "label"], "data": [["a", "x"], ["b"]]}, "row 2 1 values"),
        ({"x": {"p": "1", "q": "2"}, "y": {"p": "3", "q": "4"}}, "may be its rows or its columns"),
        ([["a", "x"], ["b", "y"]], "orient='values'"),
    ],
)
def test_what_is_not_clear_is_refused_by_its_shape(tmp_path: Path, value: Any, named: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(value))
    with pytest.raises(DataError) as caught:
        open_corpus(path)
    assert caught.value.given == path
    assert named in caught.value.message
    assert caught.value.hint
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("row", [{"text": "a text", "labels": ["a", "b"]}, {"text": "a text", "tokens": [{"id": 1}], "labels": ["a", "b"]}])
def test_one_record_is_a_record(tmp_path: Path, row: dict[str, Any]) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps(row) + "\n")
    assert read(tmp_path / "a.jsonl") == [("a text", {"a", "b"})]
    assert open_corpus(tmp_path / "a.jsonl").path == tmp_path / "a.jsonl"


def lines_of(rows: list[dict[str, Any]], end: str, start: str = "") -> bytes:
    return "".join(f"{start}{json.dumps(row)}{end}" for row in rows).encode()


@pytest.mark.parametrize(("end", "start"), [("\r", ""), ("\n", "\x1e"), ("", "\x1e"), ("\r\n", "\x1e"), ("\n\r", ""), ("\r\r\n", "")])
def test_other_ends_of_records(tmp_path: Path, end: str, start: str) -> None:
    path = tmp_path / "a.jsonl"
    rows = [*ROWS, {"text": "with \x1e and \r in it", "label": "a"}]
    path.write_bytes(lines_of(rows, end, start))
    assert read(path) == [(row["text"], {row["label"]}) for row in rows]
    assert [row for _, row in json_lines(path, Input("list", DataError, ""))] == rows


def test_a_broken_record_of_a_sequence_takes_no_other_with_it(tmp_path: Path) -> None:
    path = tmp_path / "a.json-seq"
    path.write_bytes(lines_of(ROWS[:1], "\n", "\x1e") + b'\x1e{"text": "cut' + lines_of(ROWS[1:], "\n", "\x1e"))
    corpus = open_corpus(path)
    assert [document.text for document in corpus] == [row["text"] for row in ROWS]
    (skipped,) = corpus.skipped
    assert skipped.file == str(path), "what the user gave, not the copy in the cache"
    assert "not valid JSON" in skipped.reason


def test_numbers_of_lines_say_where(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"a": 1}\r{"a": \r{"a": 3}')
    with pytest.raises(DataError, match="line 2"):
        list(json_lines(path, Input("list", DataError, "")))


@pytest.mark.parametrize("content", ["text,label\ra b,x\rc d,y\r", "__label__x a b\r__label__y c d\r"])
def test_lines_that_end_as_on_old_macs(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.txt").write_bytes(content.encode())
    assert read(tmp_path / "a.txt") == [("a b", {"x"}), ("c d", {"y"})]
