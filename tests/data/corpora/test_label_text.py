"""One reading of labels: what programs write in the place of a list is taken apart, what people write as one label is not."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.data import corpus_stats, open_corpus
from harness.data.corpora.label_text import NotLabels, class_names, label_warnings, labels_of

ODD = st.text(st.sampled_from(list("ab'\"\\,|;<>()[]{}#= é\u2028\n\t日")), min_size=1, max_size=8)
LABELS = (ODD | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), min_size=1, max_size=6)).map(str.strip)
LISTS = st.lists(st.lists(LABELS.filter(bool), max_size=4), min_size=1, max_size=4)


@pytest.mark.parametrize(
    "text",
    ['["a", "b"]', "['a', 'b']", "['a' 'b']", "['a'\n 'b']", "('a', 'b')", "{'a', 'b'}", "frozenset({'a', 'b'})", "<a><b>", "|a|b|", '["a",null,"b"]',
     "['a', None, 'b', nan]", "[np.str_('a'), np.str_('b')]", "array(['a', 'b'], dtype=object)", "Index(['a', 'b'], dtype='object')", "[u'a', \"b\"]",
     '[{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]', "['a', 'b',]", " [ 'a' , 'b' ] "],
)  # fmt: skip
def test_lists_in_a_text_are_taken_apart(text: str) -> None:
    assert labels_of(text) == {"a", "b"}


@pytest.mark.parametrize(
    "text",
    ["C++ (language)", "a, b", "[unknown]", "[draft] a",
     "(a)", "(a, b)", "[a, b]", "{a}", "(1)", "'a'", '"a"', "['a' b]", "['a', 'b'] and more", "list()",
     "tuple(a)", "a|b", "|", "||", "<a b>", "a <b>", "['a'", "'a', 'b'", "None", "null", "1.0.2", "[" * 100_000, "(" * 99_999 + ")", "['a'" * 50_000,
     "O'Neill's", "[['a'], ['b']]", '{"a": 1}', "f(x)", "np.array", "-", "#1"],
)  # fmt: skip
def test_what_people_write_as_one_label_stays_one(text: str) -> None:
    assert labels_of(text, untyped=True) == {text}


@pytest.mark.parametrize(
    "value", [None, "", "  ", "nan", "NaN", "NaT", "<NA>", "\\N", math.nan, [], "[]", "set()", [None], [math.nan, ""], "[nan]", "[null]"]
)
def test_nothing_is_no_label(value: Any) -> None:
    assert labels_of(value) == frozenset()


@pytest.mark.parametrize(
    ("value", "labels"),
    [
        (1, {"1"}), (1.0, {"1"}), (2.5, {"2.5"}), (-3.0, {"-3"}), (True, {"True"}), ([1.0, 2, None], {"1", "2"}), ("[1. 2.]", {"1", "2"}),
        ("[1 2 3]", {"1", "2", "3"}), (("a", "b"), {"a", "b"}), ({"a", "b"}, {"a", "b"}), (np.array(["a", "b"]), {"a", "b"}),
        (np.float64(1), {"1"}), (np.array([1.0, np.nan]), {"1"}), ({"id": 7, "name": "bug"}, {"bug"}), ([{"label": "x"}], {"x"}), (["nan"], {"nan"}),
    ],
)  # fmt: skip
def test_values_of_every_type(value: Any, labels: set[str]) -> None:
    assert labels_of(value) == labels


@pytest.mark.parametrize("value", [{"a": 1}, [["a"]], [{"a": 1}], {"name": ["a"]}])
def test_what_is_no_label_is_refused(value: Any) -> None:
    with pytest.raises(NotLabels):
        labels_of(value)


@pytest.mark.parametrize(
    ("text", "separator", "labels"),
    [("a|b", "|", {"a", "b"}), ("<a><b>", "><", {"a", "b"}), ("<a>", "><", {"a"}), ("[a][b]", "][", {"a", "b"}), ("['a', 'b']", ",", {"a", "b"}),
     ("a, b", ",", {"a", "b"}), ('["a", "b"]', "|", {'["a", "b"]'}), ("a  b", " ", {"a", "b"}), ("nan", "|", set()), ("a;;b;", ";", {"a", "b"})],
)  # fmt: skip
def test_separators(text: str, separator: str, labels: set[str]) -> None:
    assert labels_of(text, separator) == labels


@pytest.mark.parametrize(
    ("text", "labels"),
    [("b'a'", {"a"}), ('b"it\'s"', {"it's"}), ("b'caf\\xc3\\xa9'", {"café"}), ("[b'caf\\xc3\\xa9', b'b']", {"café", "b"}), ("b''", set()),
     ("b'a' b", {"b'a' b"}), ("b'", {"b'"}), ("b'\\xff'", {"\xff"})],
)  # fmt: skip
def test_bytes_that_python_writes_are_their_text(text: str, labels: set[str]) -> None:
    assert labels_of(text) == labels


def test_only_in_text_tables_is_a_text_a_number() -> None:
    assert labels_of("1.0", untyped=True) == {"1"}
    assert labels_of("1.5", untyped=True) == {"1.5"}
    assert labels_of("1.0") == {"1.0"}


@given(LISTS)
@settings(max_examples=25, deadline=None)
def test_lists_that_pandas_writes_come_back(tmp_path_factory: pytest.TempPathFactory, lists: list[list[str]]) -> None:
    folder = tmp_path_factory.mktemp("lists")
    lists = [["first", "of all"], *lists]
    frame = pd.DataFrame({"text": [f"text {number}" for number in range(len(lists))], "labels": lists})
    frame.to_csv(folder / "list.csv", index=False, lineterminator="\n")
    tuples, arrays = [tuple(one) or [] for one in lists], [np.array(one, dtype=object) for one in lists]
    frame.assign(labels=tuples).to_csv(folder / "tuple.csv", index=False, sep=";", lineterminator="\n")
    frame.assign(labels=arrays).to_csv(folder / "array.csv", index=False, sep="\t", lineterminator="\n")
    frame.to_json(folder / "list.jsonl", orient="records", lines=True)
    frame.assign(labels=[json.dumps(one) for one in lists]).to_json(folder / "text.jsonl", orient="records", lines=True)
    frame.to_parquet(folder / "list.parquet")
    frame.assign(labels=[str(one) for one in lists]).to_parquet(folder / "text.parquet")
    for path in sorted(folder.iterdir()):
        found = [document.labels for document in open_corpus(path)]
        assert found == [frozenset(one) for one in lists], path.name


def test_missing_numbers_in_every_format(tmp_path: Path) -> None:
    frame = pd.DataFrame({"text": ["a b", "c d", "e f"], "label": [1.0, math.nan, 2.0]})
    frame.to_csv(tmp_path / "a.csv", index=False)
    frame.to_csv(tmp_path / "b.csv", index=False, na_rep="nan")
    frame.to_parquet(tmp_path / "a.parquet")
    frame.to_json(tmp_path / "a.jsonl", orient="records", lines=True)
    (tmp_path / "b.jsonl").write_text("".join(json.dumps(row) + "\n" for row in frame.to_dict("records")))
    pq.write_table(pa.table({"text": frame["text"].to_list(), "label": pa.array(frame["label"].to_numpy())}), tmp_path / "b.parquet")
    for path in sorted(tmp_path.iterdir()):
        assert [sorted(document.labels) for document in open_corpus(path)] == [["1"], [], ["2"]], path.name


@pytest.mark.parametrize(
    ("feature", "names"),
    [
        ({"names": ["a", "b"], "_type": "ClassLabel"}, ["a", "b"]),
        ({"feature": {"names": ["a"], "_type": "ClassLabel"}, "_type": "Sequence"}, ["a"]),
        ([{"names": ["a"], "_type": "ClassLabel"}], ["a"]),
        ({"class_label": 1}, None), ({"dtype": "string", "_type": "Value"}, None), (None, None), ({"names": [1]}, None),
        ({"names": {"0": "a", "1": "b"}}, ["a", "b"]),
    ],
)  # fmt: skip
def test_class_names_of_metadata(feature: Any, names: list[str] | None) -> None:
    assert class_names(feature) == names


def test_class_numbers_become_names(tmp_path: Path) -> None:
    about = {"info": {"features": {"label": {"names": ["water", "bread"], "_type": "ClassLabel"}}}}
    for number, values in enumerate(([0, 1, -1, 7], [[0, 1], [1], [], [7]], [0.0, 1.0, math.nan, None])):
        table = pa.table({"text": list("abcd"), "label": values}).replace_schema_metadata({"huggingface": json.dumps(about)})
        pq.write_table(table, tmp_path / f"{number}.parquet")
        assert set(open_corpus(tmp_path / f"{number}.parquet").labels.names) == {"water", "bread"}
    pq.write_table(table.replace_schema_metadata({"huggingface": "{" * 500}), tmp_path / "x.parquet")
    assert set(open_corpus(tmp_path / "x.parquet").labels.names) == {"0", "1"}


@pytest.mark.parametrize(
    ("names", "doubted"),
    [
        (["a|b", "c"], 1), (["a;b", "c"], 1), (["a, b", "b", "a"], 1), (["[a, b]", "c"], 1), (["{a,b}"], 1), (["a\tb"], 1), (["1.0", "2.0"], 1),
        (["N/A", "x"], 1), (["<a>,<b>"], 1), (["#dog #cat"], 1), (["a，b"], 1), (["a、b"], 1), (["#dog"], 0),
        (["C++ (language)", "a, b", "[unknown]", "(a) and (b)", "none", "AC/DC", "1", "2.5", "|", "a|"], 0),
        (["Bosnia, Herzegovina", "Korea, Republic of", "Tanzania, United Republic of"], 0),
        (["terms about the weather; in particular those that people use at sea"], 0),
    ],
)  # fmt: skip
def test_labels_that_look_like_several_are_doubted(names: list[str], doubted: int) -> None:
    assert len(label_warnings(names)) == doubted


def test_doubts_are_in_the_statistics(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_text("text,labels\na river,water|nature\nrye,bread\n")
    (line,) = corpus_stats(open_corpus(path)).label_warnings
    assert "'water|nature'" in line
    assert "label_separator" in line
    assert corpus_stats(open_corpus(path, label_separator="|")).label_warnings == ()


def test_a_corpus_that_is_read_as_before_keeps_its_digest(tmp_path: Path) -> None:
    plain, notation = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    plain.write_text('{"text": "x", "labels": ["a", "b"]}\n{"text": "y", "labels": "c"}\n')
    notation.write_text('{"text": "x", "labels": "[\'a\', \'b\']"}\n')
    first, second = open_corpus(plain), open_corpus(notation)
    assert first.digest == "51007e324f3c81a3"
    assert second.labels.names == ("a", "b")
    assert second._reader.content
    assert not first._reader.content


def test_a_class_number_without_a_name_is_no_class_left_out() -> None:
    assert labels_of(-1, classes=["x", "y"]) == frozenset()
    assert labels_of([0, 1], classes=["x", "y"]) == {"x", "y"}
    with pytest.raises(NotLabels, match="7"):
        labels_of(7, classes=["x", "y"])
