"""Damaged copies of real corpora in every format: what is whole is used, what is not is named, and nothing else happens."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.data import Corpus, open_corpus
from harness.errors import DataError
from harness.types import Document

Parts = tuple[str, bytes, list[bytes], bytes]
"""(file name, what is before the records, records, what is after them): joined they are a real corpus."""


@pytest.fixture(scope="module")
def documents(shared_data: Path) -> list[Document]:
    return list(open_corpus(shared_data / "stackexchange" / "coffee").head(60))


@pytest.fixture(scope="module")
def parts(documents: list[Document], shared_data: Path) -> dict[str, Parts]:
    def line(document: Document) -> bytes:
        buffer = io.StringIO()
        csv.writer(buffer).writerow([document.id, document.text, "|".join(sorted(document.labels))])
        return buffer.getvalue().encode()

    rows = [json.dumps({"id": d.id, "text": d.text, "labels": sorted(d.labels)}).encode() + b"\n" for d in documents]
    fasttext = (shared_data / "stackexchange" / "cooking_fasttext" / "cooking.stackexchange.txt").read_bytes().splitlines(True)[:60]
    posts = (shared_data / "stackexchange" / "coffee" / "Posts.xml").read_bytes().splitlines(True)
    questions = [post for post in posts if b'PostTypeId="1"' in post][:60]
    return {
        "jsonl": ("c.jsonl", b"", rows, b""),
        "csv": ("c.csv", b"id,text,labels\r\n", [line(document) for document in documents], b""),
        "fasttext": ("c.txt", b"", fasttext, b""),
        "stackexchange": ("Posts.xml", b"".join(posts[:2]), questions, b"</posts>"),
    }


TEXTUAL = ("jsonl", "csv", "fasttext", "stackexchange")


def whole(parts: Parts) -> bytes:
    return b"".join([parts[1], *parts[2], parts[3]])


def documents_of(folder: Path, parts: Parts, data: bytes, form: str) -> tuple[list[Document], Corpus] | None:
    """What is found in ``data``, by iterating and by number; None where the file is refused for holding no document."""
    path = folder / parts[0]
    path.write_bytes(data)
    try:
        corpus = open_corpus(path, format=form, label_separator="|" if form == "csv" else None)  # type: ignore[arg-type]
    except DataError:
        return None
    found = list(corpus)
    assert corpus[:] == found
    assert len(corpus.skipped) == corpus.n_skipped == sum(corpus.skipped_by_reason.values())
    for skipped in corpus.skipped:
        assert skipped.file == str(path)
        assert skipped.offset is not None
        assert 0 <= skipped.offset <= len(data)
    return found, corpus


@pytest.mark.parametrize("form", TEXTUAL)
@settings(max_examples=25, deadline=None)
@given(share=st.floats(0, 1))
def test_any_truncation_gives_a_prefix_and_a_named_skip(
    form: str, share: float, parts: dict[str, Parts], tmp_path_factory: pytest.TempPathFactory
) -> None:
    its = parts[form]
    complete = whole(its)
    cut = round(share * len(complete))
    folder = tmp_path_factory.mktemp("cut")
    reference = documents_of(folder, its, complete, form)
    assert reference is not None
    assert len(reference[0]) == 60
    answer = documents_of(folder, its, complete[:cut], form)
    ends = [len(its[1])]
    for record in its[2]:
        ends.append(ends[-1] + len(record))
    before = sum(end <= cut for end in ends[1:])
    if answer is None:
        assert before == 0
        return
    found, corpus = answer
    assert found == reference[0][: len(found)]
    assert before <= len(found) <= before + 1  # the last record may lack nothing but its line end
    if cut not in ends and len(found) == before and cut < len(complete):
        assert corpus.n_skipped == 1
        assert "cut off here, and is used up to this place" in corpus.skipped[0].reason


@pytest.mark.parametrize("form", TEXTUAL)
@settings(max_examples=25, deadline=None)
@given(at=st.floats(0, 0.999), noise=st.binary(min_size=1, max_size=12))
def test_flipped_bytes_cost_what_they_hit(
    form: str, at: float, noise: bytes, parts: dict[str, Parts], tmp_path_factory: pytest.TempPathFactory
) -> None:
    its = parts[form]
    complete = whole(its)
    start = round(at * len(complete))
    damaged = complete[:start] + noise + complete[start + len(noise) :]
    folder = tmp_path_factory.mktemp("flip")
    reference = documents_of(folder, its, complete, form)
    answer = documents_of(folder, its, damaged, form)
    if reference is None or answer is None or form == "csv":  # in CSV a quote may swallow or split rows: it must only not fail
        return
    found, _ = answer
    texts = {document.text for document in found}
    lost = [number for number, document in enumerate(reference[0]) if document.text not in texts]
    assert lost == [] or lost[-1] - lost[0] <= 1, "a record, or two where their border was hit"


@pytest.mark.parametrize("form", TEXTUAL)
@pytest.mark.parametrize(
    "damage",
    [
        lambda record: record[: len(record) // 2] + b"\xff\xfe" + record[len(record) // 2 :],
        lambda record: record[: len(record) // 2] + b"\0" + record[len(record) // 2 :],
        lambda record: record[: len(record) // 2] + b'"' + record[len(record) // 2 :],
        lambda record: record[: len(record) // 2] + b"x" * 20_000_000 + record[len(record) // 2 :],
        lambda record: record[: len(record) // 2],
        lambda record: b"",
    ],
    ids=["not UTF-8", "NUL", "a quote", "20 MB", "half a row", "no row"],
)
def test_one_damaged_record_leaves_the_others(
    form: str, damage: Callable[[bytes], bytes], parts: dict[str, Parts], tmp_path: Path, documents: list[Document]
) -> None:
    name, before, records, after = parts[form]
    its: Parts = (name, before, [*records[:30], damage(records[30]), *records[31:]], after)
    answer = documents_of(tmp_path, its, whole(its), form)
    reference = documents_of(tmp_path, parts[form], whole(parts[form]), form)
    assert answer is not None
    assert reference is not None
    found = {document.text for document in answer[0]}
    assert {document.text for document in reference[0][:30]} <= found
    assert len({document.text for document in reference[0][32:]} - found) == 0
    assert len(answer[0]) + answer[1].n_skipped >= 59


@pytest.mark.parametrize("form", TEXTUAL)
def test_a_record_that_comes_twice_is_named(form: str, parts: dict[str, Parts], tmp_path: Path) -> None:
    name, before, records, after = parts[form]
    its: Parts = (name, before, [*records, records[5]], after)
    answer = documents_of(tmp_path, its, whole(its), form)
    assert answer is not None
    if form == "fasttext":  # ids are line numbers
        assert (len(answer[0]), answer[1].n_skipped) == (61, 0)
    else:
        assert (len(answer[0]), answer[1].skipped_by_reason) == (60, {"a second document with the same id": 1})


@pytest.mark.parametrize("form", [*TEXTUAL, "parquet"])
@pytest.mark.parametrize("data", [b"", b"\n", b"\0" * 1000, b"\xef\xbb\xbf", b"PAR1", b"<posts>", b"{", b"__label__", b"\xff" * 100])
def test_files_without_a_document_are_refused_in_one_line(form: str, data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "c"
    path.write_bytes(data)
    for chosen in (form, None):
        with pytest.raises(DataError) as caught:
            open_corpus(path, format=chosen)  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("ending", ["", "\n"])
def test_a_csv_row_that_is_never_closed(tmp_path: Path, ending: str) -> None:
    """In a file that ends within a line it is the break; in a whole file without quoted lines it is a stray quote."""
    path = tmp_path / "c.csv"
    path.write_text('id,text\n1,good\n2,"never closed\n3,after it\n4,and after' + ending)
    corpus = open_corpus(path)
    if ending:
        assert [document.id for document in corpus] == ["1", "3", "4"]
        assert corpus.skipped[0].reason.startswith("not valid CSV")
    else:
        assert [document.id for document in corpus] == ["1"]
        assert "never closed: the file was cut off here" in corpus.skipped[0].reason
    assert corpus.skipped[0].offset == 15


def test_a_stray_quote_in_the_header_costs_no_row(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_text('id,text,"x"y\n1,one,a\n2,two,b\n')
    assert [document.text for document in open_corpus(path)] == ["one", "two"]


def test_half_a_character_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    path.write_text('{"text": "good"}\n{"text": "\\ud800"}\n{"text": "x", "labels": ["\\udfff"]}\n')
    corpus = open_corpus(path)
    assert [document.text for document in corpus] == ["good"]
    assert corpus.skipped_by_reason == {"half a character of two": 2}


# ---------------------------------------------------------------------------------------------------------------------- Parquet


@settings(max_examples=60, deadline=None)
@given(at=st.floats(0, 0.9999), noise=st.binary(min_size=1, max_size=4))
def test_a_damaged_parquet_file_is_refused_or_used_where_it_is_sound(
    at: float, noise: bytes, shared_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    source = shared_data / "axbench" / "concept10_2b_l10" / "train_data.parquet"
    data = source.read_bytes()
    start = round(at * len(data))
    path = tmp_path_factory.mktemp("d") / "train_data.parquet"
    path.write_bytes(data[:start] + noise + data[start + len(noise) :])
    try:
        corpus = open_corpus(path.parent)
        found = corpus[:]
    except DataError:
        return
    assert found == list(corpus)
    assert len(found) == 936 or corpus.n_skipped > 0


def test_a_damaged_row_group_costs_itself(tmp_path: Path, documents: list[Document]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "c.parquet"
    table = pa.table(
        {"id": [d.id for d in documents], "text": [d.text for d in documents], "labels": [sorted(d.labels) for d in documents]}
    )
    pq.write_table(table, path, row_group_size=20, use_dictionary=False, write_page_checksum=True)
    middle = pq.ParquetFile(path).metadata.row_group(1).column(1)
    data = bytearray(path.read_bytes())
    place = middle.data_page_offset + middle.total_compressed_size // 2
    data[place] ^= 0xFF
    path.write_bytes(data)
    corpus = open_corpus(path)
    assert corpus[:] == documents[:20] + documents[40:]
    assert [skipped.kind for skipped in corpus.skipped] == ["a damaged part of the file"]
    assert "rows 21 to 40" in corpus.skipped[0].reason


def test_a_truncated_parquet_file_is_refused(tmp_path: Path, shared_data: Path) -> None:
    data = (shared_data / "axbench" / "concept10_2b_l10" / "train_data.parquet").read_bytes()
    for size in (4, 100, len(data) // 2, len(data) - 1):
        path = tmp_path / "c.parquet"
        path.write_bytes(data[:size])
        with pytest.raises(DataError) as error:
            open_corpus(path)
        assert (error.value.given, bool(error.value.hint)) == (path, True)


def test_a_dump_that_is_cut_in_the_first_letters_of_a_row_was_cut_off_once(shared_data: Path, tmp_path: Path) -> None:
    """Each place around the beginning of a row, which a random cut seldom hits."""
    data = (shared_data / "stackexchange" / "coffee" / "Posts.xml").read_bytes()
    start = data.index(b"<row", 2000)
    for cut in range(start - 4, start + 9):
        folder = tmp_path / str(cut)
        folder.mkdir()
        (folder / "Posts.xml").write_bytes(data[:cut])
        corpus = open_corpus(folder)
        assert corpus.n_skipped == 1, data[cut - 12 : cut]
        assert "it was cut off here" in corpus.skipped[0].reason
