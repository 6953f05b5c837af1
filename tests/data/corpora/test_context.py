"""What a text answers, its genre, and what it is for: from the columns that are named, in every format with fields."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from harness.data import open_corpus
from harness.data.corpora.convert import convert
from harness.errors import DataError
from harness.types import Document

ROWS = [
    {"id": "1", "reply": "tea, warm", "topics": ["tea"], "question": "What?", "kind": "text", "use": "train"},
    {"id": "2", "reply": "2 + 2", "topics": [], "question": "How many?", "kind": "math", "use": "evaluation"},
    {"id": "3", "reply": "nothing", "topics": [], "question": "", "kind": "", "use": ""},
]
NAMED = {"text_field": "reply", "label_field": "topics", "instruction_field": "question", "genre_field": "kind", "part_field": "use"}
DOCUMENTS = [
    Document("1", "tea, warm", frozenset({"tea"}), "What?", "text", "train"),
    Document("2", "2 + 2", frozenset(), "How many?", "math", "evaluation"),
    Document("3", "nothing"),
]


def write(form: str, folder: Path, rows: list[dict[str, Any]]) -> Path | str:
    path = folder / f"c.{form}"
    if form == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    elif form == "csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(rows[0])
            writer.writerows([json.dumps(v) if isinstance(v, list) else v for v in row.values()] for row in rows)
    else:
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist(rows), path)
    return path


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
def test_columns_that_are_named_are_read(form: str, tmp_path: Path) -> None:
    path = write(form, tmp_path, ROWS)
    corpus = open_corpus(path, **NAMED)  # type: ignore[arg-type]
    assert list(corpus) == corpus[:] == DOCUMENTS
    assert corpus.parts == ["train", "evaluation", ""]
    bare = open_corpus(path, text_field="reply", label_field="topics")
    assert [(d.instruction, d.genre, d.part) for d in bare] == [("", "", "")] * 3
    assert (bare.parts, bare.instructions_digest, bare.stated_digest) == (None, "", "")
    assert corpus.instructions_digest
    assert corpus.stated_digest


def test_through_the_datasets_library(tmp_path: Path) -> None:
    folder = tmp_path / "d"
    folder.mkdir()
    write("parquet", folder, ROWS)
    assert list(open_corpus(f"hf:{folder}", **NAMED)) == DOCUMENTS  # type: ignore[arg-type]


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
@pytest.mark.parametrize("field", ["instruction_field", "genre_field", "part_field"])
def test_a_column_that_is_not_there_is_refused(form: str, field: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        open_corpus(write(form, tmp_path, ROWS), **{**NAMED, field: "nowhere"})  # type: ignore[arg-type]
    assert error.value.given == "nowhere"
    assert field in error.value.hint


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
def test_a_part_that_there_is_not_is_an_error_that_names_it(form: str, tmp_path: Path) -> None:
    path = write(form, tmp_path, [*ROWS, {**ROWS[0], "id": "4", "use": "test"}])
    with pytest.raises(DataError) as error:
        len(open_corpus(path, **NAMED))  # type: ignore[arg-type]
    assert (error.value.given, error.value.allowed) == ("test", ("train", "evaluation", "nothing"))
    assert "row 4" in error.value.message
    assert "'use'" in error.value.message


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_a_converted_corpus_keeps_it(suffix: str, tmp_path: Path) -> None:
    documents = [Document("1", '=1+1, "so"', frozenset({"a"}), "=What?", "text", "train"), DOCUMENTS[2]]
    path = tmp_path / f"out.{suffix}"
    assert convert(documents, path, context=("instruction", "genre", "part")) == 2
    assert list(open_corpus(path, genre_field="genre", part_field="part")) == documents
    convert(documents, path)
    assert [(d.text, d.instruction) for d in open_corpus(path)] == [('=1+1, "so"', ""), ("nothing", "")]


def test_digests_of_before_hold(tmp_path: Path) -> None:
    """Instructions and what is stated have digests of their own: that of texts and labels depends on neither."""
    rows = [{"id": "1", "text": "tea", "labels": ["a"]}]
    assert open_corpus(write("jsonl", tmp_path, rows)).digest == "38c4a53aa32d03cc"
    asked = open_corpus(write("parquet", tmp_path, [{**rows[0], "input": "What?"}]))
    assert (asked.digest, asked[0].instruction) == ("a4b7cd26a81b801b", "What?")
