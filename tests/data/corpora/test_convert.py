"""A corpus of any format, written as one of ours, is the same corpus."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.data import open_corpus
from harness.data.corpora.convert import convert
from harness.errors import DataError, StoreError
from harness.types import Document

DOCUMENTS = [
    Document("1", 'two\nlines, "quoted"', frozenset({"b", "a, with a comma"})),
    Document("2", "naïve 🦆"),
    Document("x", "third", frozenset({"a, with a comma"})),
    Document("007", "line ends\r\nof \rall\n\r\nkinds\r", frozenset({"a|b", '["x"]', "[1, 2]", 'say "hi"', "[draft", "two\nlines"})),
    Document(" y,", ' "spaces" ', frozenset({'["x"]'})),
]


def texts(**options: Any) -> st.SearchStrategy[str]:
    return st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), **options)


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_what_is_written_is_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "new" / f"corpus.{suffix}"
    told: list[int] = []
    assert convert(iter(DOCUMENTS), path, told.append) == 5
    corpus = open_corpus(path)
    assert list(corpus) == DOCUMENTS
    assert [corpus[place] for place in (3, 1, 4, 0, 2)] == [DOCUMENTS[place] for place in (3, 1, 4, 0, 2)]
    assert (sum(told), [item.name for item in path.parent.iterdir()]) == (5, [path.name])


@settings(max_examples=80, deadline=None)
@given(
    contents=st.lists(
        st.tuples(texts(min_size=1).filter(str.strip), st.frozensets(texts(min_size=1).filter(lambda s: s == s.strip()))), min_size=1
    ),
    suffix=st.sampled_from(["jsonl", "csv", "parquet"]),
)
def test_whatever_is_written_is_read(contents: list[tuple[str, frozenset[str]]], suffix: str) -> None:
    documents = [Document(str(number), text, labels) for number, (text, labels) in enumerate(contents)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"c.{suffix}"
        convert(documents, path)
        assert list(iter(open_corpus(path))) == documents


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_a_failure_leaves_the_old_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"corpus.{suffix}"
    path.write_text("old")

    def broken() -> Any:
        yield DOCUMENTS[0]
        raise KeyError("broken corpus")

    with pytest.raises(KeyError) as error:
        convert(broken(), path)
    assert error.value.args == ("broken corpus",)
    assert (path.read_text(), [item.name for item in tmp_path.iterdir()]) == ("old", [path.name])


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        convert(DOCUMENTS, tmp_path / "corpus.txt")
    assert (error.value.given, error.value.allowed) == (".txt", (".jsonl", ".csv", ".parquet"))
    assert "corpus.txt" in str(error.value)
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError) as refused:
        convert(DOCUMENTS, tmp_path / "file" / "corpus.csv")
    assert str(tmp_path / "file" / "corpus.csv") in str(refused.value)
    assert isinstance(refused.value.__cause__, (FileExistsError, NotADirectoryError))


def test_a_real_dump_becomes_a_table(harness: Callable[..., Any], shared_data: Path, tmp_path: Path) -> None:
    dump, out = shared_data / "stackexchange" / "coffee", tmp_path / "coffee.jsonl"
    done = harness("data", "convert", dump, "-o", out, "--min-support", "20", "--no-code")
    assert done.code == 0, done.err
    assert f"{out}: 225 texts, 3 labels" in done.out
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    source = list(open_corpus(dump, code_blocks=False))
    assert [(row["id"], row["text"]) for row in rows] == [(document.id, document.text) for document in source]
    assert {label for row in rows for label in row["labels"]} < {label for document in source for label in document.labels}
