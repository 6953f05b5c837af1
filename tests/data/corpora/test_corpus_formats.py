"""Every corpus format on real data and on damaged copies of it."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import get_args

import pytest

from harness.data import corpus_stats, open_corpus
from harness.data.corpora.corpus import Format, detect
from harness.errors import DataError, UnknownNameError
from harness.types import Document


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


# ------------------------------------------------------------------------------------------------------------------ JSON lines


def test_jsonl_fields_by_their_usual_names(tmp_path: Path) -> None:
    rows = [
        {"id": "a", "text": "one", "labels": ["x", "y"]},
        {"id": "b", "text": "two", "labels": []},
        {"id": "c", "text": "three", "labels": "x"},
    ]
    corpus = open_corpus(write(tmp_path / "c.jsonl", "".join(json.dumps(row) + "\n" for row in rows)))
    assert corpus.format == "jsonl"
    assert list(corpus) == [Document("a", "one", frozenset("xy")), Document("b", "two"), Document("c", "three", frozenset("x"))]
    assert list(corpus) == list(corpus), "a corpus can be read again"
    assert (len(corpus), corpus.skipped) == (3, [])


def test_jsonl_named_fields_and_separator(tmp_path: Path) -> None:
    path = write(tmp_path / "c.jsonl", '{"q": "hello", "topics": "a, b", "key": 7}\n')
    assert list(open_corpus(path, text_field="q", label_field="topics", id_field="key", label_separator=",")) == [
        Document("7", "hello", frozenset({"a", "b"}))
    ]


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_what_a_text_answers_is_found_by_its_usual_names(tmp_path: Path, suffix: str) -> None:
    rows = [{"text": "one", "labels": "x", "prompt": "say one"}, {"text": "two", "labels": "y", "prompt": ""}]
    path = tmp_path / f"c.{suffix}"
    if suffix == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    elif suffix == "csv":
        write(path, "text,labels,prompt\none,x,say one\ntwo,y,\n")
    else:
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    corpus = open_corpus(path)
    assert [document.instruction for document in corpus] == ["say one", ""]
    assert corpus[0] == Document("1", "one", frozenset("x"), "say one")
    assert [document.instruction for document in open_corpus(path, text_field="prompt", label_field="labels")][:1] == [""]


def test_jsonl_bom_crlf_and_blank_lines(tmp_path: Path) -> None:
    content = b"\xef\xbb\xbf" + '{"text": "ärger"}\r\n\r\n{"text": "two"}'.encode()
    assert [(d.id, d.text) for d in open_corpus(write(tmp_path / "c.jsonl", content))] == [("1", "ärger"), ("3", "two")]


def test_jsonl_damaged_rows_are_skipped_and_named_with_their_bytes(tmp_path: Path) -> None:
    lines = [
        b'{"id": 1, "text": "good"}',
        b"not json",
        b"[1, 2]",
        b'{"id": 2, "text": "  "}',
        b'{"id": 3, "body": "no text here"}',
        b'{"id": 4, "text": "x", "labels": {"a": 1}}',
        b'{"id": 5, "text": "\xff"}',
        b'{"id": 1, "text": "again"}',
        b'{"id": 6, "text": "also go',
    ]
    data = b"\n".join(lines)
    corpus = open_corpus(write(tmp_path / "c.jsonl", data), text_field="text")
    assert [d.id for d in corpus] == ["1"]
    assert corpus.n_skipped == len(corpus.skipped) == 8
    for skipped, line in zip(corpus.skipped, lines[1:], strict=True):
        assert data[skipped.offset :].startswith(line)
    reasons = [str(skipped) for skipped in corpus.skipped]
    assert "not valid JSON" in reasons[0]
    assert "no JSON object (but a list)" in reasons[1]
    assert "no field text (fields: id, body)" in reasons[3]
    assert "a second document with the same id ('1')" in reasons[6]
    assert "the last line breaks off: the file was cut off here" in reasons[7]
    assert corpus.skipped_by_reason == {
        "not valid JSON": 2,
        "no JSON object": 1,
        "field 'text' holds no text": 1,
        "no field text": 1,
        "field 'labels' holds neither a label nor a list of labels": 1,
        "a second document with the same id": 1,
        "the last line breaks off: the file was cut off here, and is used up to this place": 1,
    }


@pytest.mark.parametrize("option", ["text_field", "label_field", "id_field"])
def test_a_named_field_that_is_nowhere_is_an_error_that_lists_what_there_is(tmp_path: Path, option: str) -> None:
    jsonl = write(tmp_path / "c.jsonl", '{"text": "a", "labels": ["x"]}\n')
    table = write(tmp_path / "c.csv", "text,labels\na,x\n")
    for path in (jsonl, table):
        with pytest.raises(DataError) as error:
            open_corpus(path, **{option: "lables"})  # type: ignore[arg-type]
        assert (error.value.given, error.value.allowed) == ("lables", ("text", "labels"))
        assert option in error.value.hint


def test_a_text_field_that_cannot_be_found_names_the_fields(tmp_path: Path, shared_data: Path) -> None:
    table = write(tmp_path / "c.csv", "a,b\n1,2\n")
    with pytest.raises(DataError) as error:
        open_corpus(table)
    assert (error.value.given, error.value.allowed) == (table, ("a", "b"))
    assert "text_field" in error.value.hint
    path = shared_data / "axbench" / "concept500_2b_l10" / "metadata.jsonl"
    with pytest.raises(DataError) as error:
        open_corpus(path)
    assert error.value.given == path
    assert "concept_id, concept, ref, concept_genres_map" in str(error.value)


# ---------------------------------------------------------------------------------------------------------------------- tables


def test_csv_quotes_lines_and_delimiters(tmp_path: Path) -> None:
    content = b'\xef\xbb\xbfid,text,label\r\n1,"a, ""quoted""\r\nsecond line",x\r\n2,plain,\r\n'
    corpus = open_corpus(write(tmp_path / "c.csv", content))
    assert list(corpus) == [Document("1", 'a, "quoted"\nsecond line', frozenset("x")), Document("2", "plain")]
    tabs = open_corpus(write(tmp_path / "c.tsv", "text\tlabels\none, two\ta b\n"), label_separator=" ")
    assert list(tabs) == [Document("1", "one, two", frozenset("ab"))]


def test_csv_labels_as_a_json_list(tmp_path: Path) -> None:
    fields = {
        '["a", "b"]': {"a", "b"},
        "[]": set(),
        '[" a ", 7, ""]': {"a", "7"},
        "[draft] a": {"[draft] a"},
        '["a", null]': {"a"},
        '["a"': {'["a"'},
        "a|b": {"a|b"},
        "[" * 100_000: {"[" * 100_000},
        "": set(),
    }
    path = tmp_path / "c.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerows([("text", "topics"), *(("t", field) for field in fields)])
    assert [set(d.labels) for d in open_corpus(path, label_field="topics")] == list(fields.values())
    assert open_corpus(path, label_field="topics", label_separator="|")[0].labels == frozenset({'["a", "b"]'})
    other = write(tmp_path / "c.jsonl", json.dumps({"text": "t", "labels": '["a"]'}) + "\n")
    assert open_corpus(other)[0].labels == frozenset({"a"}), "a list in a text is one in every format"


def test_line_ends_within_a_field(tmp_path: Path) -> None:
    """Kept as they are; but where all line ends are those of Windows, they say nothing of the text."""
    content = 'text,label\n"a\r\nb\rc\nd",x\n'
    for path, expected in (
        (write(tmp_path / "unix.csv", content), "a\r\nb\rc\nd"),
        (write(tmp_path / "windows.csv", content.replace("\r\n", "\n").replace("\n", "\r\n")), "a\nb\rc\nd"),
    ):
        corpus = open_corpus(path)
        assert [d.text for d in corpus] == [corpus[0].text] == [expected]


def test_csv_damage_costs_the_damaged_rows_alone(tmp_path: Path) -> None:
    lines = [
        b"id,text,label",
        b"1,good,x",
        b"2,too,many,fields",
        b'3,"never closed,x',
        b"4,after it,y",
        b"5,\xff\xfe,y",
        b'6,"a"b,y',
        b"7,last,z",
    ]
    data = b"\n".join(lines) + b"\n"
    corpus = open_corpus(write(tmp_path / "c.csv", data))
    assert [d.id for d in corpus] == ["1", "4", "7"]
    assert [data[s.offset :].split(b"\n")[0] for s in corpus.skipped] == [lines[2], lines[3], lines[5], lines[6]]


def test_csv_agrees_with_the_csv_module_on_real_text(tmp_path: Path, shared_data: Path) -> None:
    documents = list(open_corpus(shared_data / "stackexchange" / "coffee"))
    with (tmp_path / "c.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text", "labels"])
        writer.writerows([d.id, d.text, "|".join(sorted(d.labels))] for d in documents)
    assert list(open_corpus(tmp_path / "c.csv", label_separator="|")) == documents


def test_parquet_lists_of_labels_and_truncation(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({"id": [1, 2], "text": ["one", None], "labels": [["a", "b"], None]})
    path = tmp_path / "c.parquet"
    pq.write_table(table, path)
    corpus = open_corpus(path)
    assert corpus.format == "parquet"
    assert list(corpus) == [Document("1", "one", frozenset("ab"))]
    assert [str(s) for s in corpus.skipped] == [f"{path}: field 'text' holds no text (row 2)"]
    write(path, path.read_bytes()[:-20])
    with pytest.raises(DataError) as error:
        open_corpus(path)
    assert (error.value.given, bool(error.value.hint)) == (path, True)


# ------------------------------------------------------------------------------------------------------------------ other files


def test_fasttext_lines(tmp_path: Path, shared_data: Path) -> None:
    stats = corpus_stats(open_corpus(shared_data / "stackexchange" / "cooking_fasttext" / "cooking.stackexchange.txt"))
    assert (stats.documents, len(stats.labels), len(stats.with_support(20)), len(stats.with_support(50))) == (15404, 736, 341, 161)
    corpus = open_corpus(write(tmp_path / "f.txt", b"__label__a __label__b-c Hot  sauce\r\n__label__lonely\n\n\xff\nno label\n"))
    assert list(corpus) == [Document("1", "Hot sauce", frozenset({"a", "b-c"})), Document("5", "no label")]
    assert [(s.offset, s.reason.split(" (")[0]) for s in corpus.skipped] == [(36, "labels without a text"), (53, "not valid UTF-8")]


def test_axbench_table_by_itself(shared_data: Path) -> None:
    """Of the folder see test_axbench.py."""
    folder = shared_data / "axbench" / "concept10_2b_l10"
    evaluation = open_corpus(folder / "latent_eval_data.parquet", text_field="output", label_field="category")
    assert corpus_stats(evaluation).labels == {"negative": 360, "positive": 360, "hard negative": 50}


# ------------------------------------------------------------------------------------------------------------- opening at all


def test_what_is_no_corpus_is_refused_with_what_was_found(tmp_path: Path, shared_data: Path) -> None:
    (tmp_path / "folder").mkdir()
    write(tmp_path / "folder" / "notes.txt", "hello")
    formats = get_args(Format)
    weights = shared_data / "lm" / "stories260K" / "model.safetensors"
    for path, begins, allowed, found in (
        (tmp_path / "nowhere", None, None, "nowhere"),
        (tmp_path / "folder", None, "a folder with Posts.xml or train_data.parquet", "notes.txt"),
        (write(tmp_path / "empty.jsonl", "\n \n"), None, None, "empty.jsonl"),
        (write(tmp_path / "list.json", '["a", "b"]'), '["a", "b"]', formats, "list.json"),
        (tmp_path / "folder" / "notes.txt", "hello", formats, "notes.txt"),
        (weights, None, None, "binary"),
        (write(tmp_path / "bad.jsonl", "{oops\n{again\n"), None, None, "2 records"),
        (write(tmp_path / "header.csv", "text,labels\n"), None, None, "csv"),
    ):
        with pytest.raises(DataError) as caught:
            open_corpus(path)
        assert (caught.value.given, caught.value.allowed) == (path if begins is None else begins, allowed)
        assert caught.value.hint
        assert found in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(DataError) as bad:
        open_corpus(tmp_path / "bad.jsonl")
    assert "bad.jsonl at byte 0: not valid JSON" in str(bad.value), "the first record that was skipped"


def test_format_is_told_by_content_and_can_be_overridden(tmp_path: Path) -> None:
    path = write(tmp_path / "data.txt", '{"text": "a, b"}\n')
    assert detect(path) == "jsonl"
    assert open_corpus(path, format="fasttext").format == "fasttext"
    with pytest.raises(UnknownNameError) as unknown:
        open_corpus(path, format="json")  # type: ignore[arg-type]
    assert (unknown.value.given, unknown.value.near) == ("json", "jsonl")
    with pytest.raises(DataError) as error:
        open_corpus(path, format="fasttext", text_field="text")
    assert error.value.given == "fasttext"
    assert "text_field" in error.value.hint


def test_stats_count_what_a_plain_loop_counts(shared_data: Path) -> None:
    corpus = open_corpus(shared_data / "stackexchange" / "ai")
    stats = corpus_stats(corpus)
    assert stats.documents == len(list(corpus)) == len(corpus)
    assert stats.words == sum(len(d.text.split()) for d in corpus)
    for label, support in list(stats.labels.items())[:20]:
        assert support == sum(label in d.labels for d in corpus)
    supports = list(stats.labels.values())
    assert supports == sorted(supports, reverse=True)


def test_reading_holds_no_more_than_a_part_of_the_file(tmp_path: Path) -> None:
    """A 60 MB file is read with a few MB of memory."""
    import tracemalloc

    path = tmp_path / "large.jsonl"
    text = "word " * 800
    with path.open("w") as file:
        for number in range(15_000):
            file.write(json.dumps({"id": number, "text": text}) + "\n")
    tracemalloc.start()
    corpus = open_corpus(path)
    assert len(corpus) == 15_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 12e6


def test_a_csv_writer_round_trip_of_awkward_texts(tmp_path: Path) -> None:
    texts = ['"', '""', "a\nb", ",", "tab\there", "ünï", "'single'", 'ends with "quote"']
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(["text"])
    writer.writerows([text] for text in texts)
    path = write(tmp_path / "c.csv", buffer.getvalue())
    assert [d.text for d in open_corpus(path, format="csv")] == texts


def test_a_column_that_is_there_twice_is_refused_where_it_is_used(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_text("text,text,labels\nfirst,second,a\n", encoding="utf-8")
    with pytest.raises(DataError) as error:
        open_corpus(path)
    assert (error.value.given, bool(error.value.hint)) == ("text", True)
    path.write_text("text,x,x,labels\nfirst,1,2,a\n", encoding="utf-8")  # nobody asks for x
    assert [document.text for document in open_corpus(path)] == ["first"]


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "shift_jis", "gb18030"])
def test_another_encoding_says_how_to_convert(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "c.jsonl"
    letters = "日本" if encoding in ("shift_jis", "gb18030") else "déjà"
    path.write_bytes(f'{{"text": "{letters}", "labels": ["a"]}}\n'.encode(encoding) * 3)
    with pytest.raises(DataError) as error:
        open_corpus(path)
    assert "iconv -f" in error.value.hint
