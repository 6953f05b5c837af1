"""The columns named in messages are those that the reader of the corpus finds, whatever separates them and whatever the file is wrapped in."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path

import pytest

from harness.data.corpora.columns import columns_of, label_column
from harness.data.corpora.corpus import open_corpus
from harness.files.csv_text import DELIMITERS

COLUMNS = ("id", "text", "tags")


def table(delimiter: str, first: str = "") -> str:
    target = io.StringIO()
    csv.writer(target, delimiter=delimiter, lineterminator="\n").writerows([COLUMNS, *([f"r{n}", f"a, text; {n}", "bees"] for n in range(9))])
    return first + target.getvalue()


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("delimiter", DELIMITERS)
def test_of_a_table_of_text(delimiter: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(table(delimiter), encoding="utf-8")
    assert columns_of(path, "csv") == COLUMNS
    assert len(open_corpus(path, label_field="tags")) == 9, "the reader finds the same"


def test_behind_a_line_that_states_the_delimiter(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(table(";", "sep=;\n"), encoding="utf-8-sig")
    assert columns_of(path, "csv") == COLUMNS


def test_of_wrapped_files(tmp_path: Path) -> None:
    packed, wide, listed = tmp_path / "rows.csv.gz", tmp_path / "wide.csv", tmp_path / "rows.json"
    packed.write_bytes(gzip.compress(table(";").encode()))
    wide.write_text(table("\t"), encoding="utf-16")
    listed.write_text(json.dumps([dict.fromkeys(COLUMNS, "x")] * 3, indent=1), encoding="utf-8")
    assert columns_of(packed, "csv") == columns_of(wide, "csv") == columns_of(listed, "jsonl") == COLUMNS


@pytest.mark.parametrize("content", ["", "\n", '"never closed', "[" * 100_000])
def test_of_what_names_none_there_are_none_that_are_wrong(content: str, tmp_path: Path) -> None:
    path = tmp_path / "rows"
    path.write_text(content, encoding="utf-8")
    assert columns_of(path, "jsonl") == ()
    assert len(columns_of(path, "csv")) <= 1, "a file without a delimiter has one column"
    assert columns_of(path, "parquet") == columns_of(tmp_path, "csv") == columns_of(tmp_path / "absent", "csv") == ()


def test_the_label_column_is_the_one_named_or_a_usual_one() -> None:
    assert label_column(("id", "text", "labels"), None) == "labels"
    assert label_column(("id", "text", "labels"), "tags") == "tags"
    assert label_column(("id", "text"), None) is None
