"""A corpus as a sequence: any document by its number, labels by document and by label, heads, digests; in every format the same as iterating."""

from __future__ import annotations

import csv
import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.data import Corpus, open_corpus
from harness.data.corpora.convert import convert
from harness.data.corpora.index import Stored
from harness.data.corpora.labels import LabelTable, LabelWriter
from harness.data.corpora.parquet import ParquetReader
from harness.data.corpora.reading import Fields, Place, SeenIds
from harness.errors import DataError
from harness.types import Document

FORMATS = ("jsonl", "csv", "parquet", "fasttext", "axbench", "stackexchange", "dump without comments")


def documents_of(shared_data: Path) -> list[Document]:
    return list(open_corpus(shared_data / "stackexchange" / "coffee"))


def written(form: str, folder: Path, shared_data: Path) -> Path:
    """A real corpus in this format."""
    if form in ("stackexchange", "dump without comments"):
        return shared_data / "stackexchange" / ("ai" if form == "stackexchange" else "datascience.meta")
    if form == "axbench":
        return shared_data / "axbench" / "concept10_2b_l10"
    if form == "fasttext":
        return shared_data / "stackexchange" / "cooking_fasttext" / "cooking.stackexchange.txt"
    rows = [{"id": d.id, "text": d.text, "labels": sorted(d.labels)} for d in documents_of(shared_data)]
    path = folder / f"c.{form}"
    if form == "jsonl":
        path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join([*map(json.dumps, rows), "{broken", ""]).encode())
    elif form == "csv":
        with path.open("w", newline="", encoding="utf-8-sig") as file:
            writer = csv.writer(file)
            writer.writerow(["id", "text", "labels"])
            writer.writerows([row["id"], row["text"], "|".join(row["labels"])] for row in rows)
    else:
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=37)
    return path


@pytest.fixture(scope="module", params=FORMATS)
def corpus(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, shared_data: Path) -> Corpus:
    path = written(request.param, tmp_path_factory.mktemp("corpus"), shared_data)
    return open_corpus(path, label_separator="|" if request.param == "csv" else None)


# ------------------------------------------------------------------------------------------------------------------- every format


def test_every_document_by_its_number_is_that_of_iterating(corpus: Corpus) -> None:
    documents = list(corpus)
    assert len(corpus) == len(documents) > 100
    order = list(range(len(documents)))
    random.Random(0).shuffle(order)
    assert all(corpus[number] == documents[number] for number in order[:2000])
    assert corpus[-1] == documents[-1]
    assert corpus[np.int64(3)] == documents[3]  # type: ignore[call-overload]
    assert corpus[5:60:7] == documents[5:60:7]
    assert corpus[-3:] == documents[-3:]
    assert list(reversed(corpus))[:3] == documents[:-4:-1]
    for beyond in (len(documents), -len(documents) - 1):
        with pytest.raises(IndexError) as error:
            corpus[beyond]
        assert str(len(documents)) in str(error.value)
        assert str(beyond) in str(error.value)


def test_the_label_table_agrees_with_the_documents(corpus: Corpus) -> None:
    documents = list(corpus)
    table = corpus.labels
    assert table.names == tuple(sorted({label for document in documents for label in document.labels}))
    assert table.matrix.shape == (len(documents), len(table.names))
    assert (table.matrix.dtype, table.support.dtype) == (np.uint8, np.int64)
    assert table.matrix.has_sorted_indices
    assert table.support.tolist() == np.asarray(table.matrix.sum(axis=0)).ravel().tolist()
    assert table.counts.tolist() == [len(document.labels) for document in documents]
    for name in table.names[:: max(1, len(table.names) // 25)]:
        wanted = [number for number, document in enumerate(documents) if name in document.labels]
        assert table.of(name).tolist() == wanted
        assert table.of(name).dtype == np.int64
        assert table.matrix[:, table.names.index(name)].nonzero()[0].tolist() == wanted


def test_a_head_is_a_corpus_of_its_own(corpus: Corpus) -> None:
    documents = list(corpus)
    head = corpus.head(40)
    assert list(head) == documents[:40] == head[:]
    assert (len(head), head.labels.matrix.shape[0]) == (40, 40)
    assert head.labels.names == tuple(sorted({label for document in documents[:40] for label in document.labels}))
    assert head.head(100).digest == head.digest != corpus.digest
    assert corpus.head(10**9).digest == corpus.digest, "a head that holds all is the same corpus"
    assert list(corpus.head(10**9)) == documents
    with pytest.raises(DataError) as error:
        corpus.head(0)
    assert (error.value.given, error.value.allowed) == (0, "at least 1")


def test_the_digest_is_of_the_content_wherever_it_lies(corpus: Corpus, tmp_path: Path) -> None:
    source = corpus.path
    there = tmp_path / "other" / "place"
    if source.is_dir():
        shutil.copytree(source, there, copy_function=shutil.copyfile)
    else:
        there.parent.mkdir()
        shutil.copyfile(source, there)
    again = open_corpus(there, label_separator="|" if corpus.format == "csv" else None)
    assert again.digest == corpus.digest
    assert again.head(7).digest == corpus.head(7).digest
    assert len(corpus.digest) == 16
    int(corpus.digest, 16)


# --------------------------------------------------------------------------------------------------------------------- particulars


def test_the_digest_tells_contents_and_ways_of_reading_apart(tmp_path: Path, shared_data: Path) -> None:
    folder = tmp_path / "coffee"
    shutil.copytree(shared_data / "stackexchange" / "coffee", folder, copy_function=shutil.copyfile)
    digests = [open_corpus(folder, **options).digest for options in ({}, {"comments": False}, {"code_blocks": False})]  # type: ignore[arg-type]
    comments = folder / "Comments.xml"
    comments.write_bytes(comments.read_bytes().replace(b"coffee", b"tea", 1))
    digests += [open_corpus(folder).digest, open_corpus(folder).head(5).digest, open_corpus(folder).head(6).digest]
    assert len(set(digests)) == len(digests)


def test_a_small_head_reads_no_further(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    path.write_text('{"text": "a", "labels": ["x"]}\n{"text": "b"}\n{broken\n')
    head = open_corpus(path).head(2)
    assert [d.text for d in head] == ["a", "b"]
    assert (head.n_skipped, open_corpus(path).n_skipped) == (0, 1)


def test_iterating_makes_no_index(tmp_path: Path, index_cache: Path) -> None:
    path = tmp_path / "c.jsonl"
    path.write_text('{"text": "a"}\n{"text": "b"}\n')
    before = sorted(index_cache.rglob("*"))
    corpus = open_corpus(path)
    assert [d.text for d in corpus] == [d.text for d in corpus.head(2)] == ["a", "b"]
    assert sorted(index_cache.rglob("*")) == before


@pytest.mark.parametrize("moment", ["before", "within", "at the end"])
def test_iterating_notices_that_the_file_is_another_than_the_index(tmp_path: Path, moment: str) -> None:
    path = tmp_path / "c.jsonl"
    path.write_text("".join(json.dumps({"id": i, "text": f"text {i}"}) + "\n" for i in range(5000)))
    corpus = open_corpus(path)
    if moment == "before":
        assert corpus.digest
        path.write_text('{"text": "other"}\n')
        with pytest.raises(DataError) as early:
            next(iter(corpus))
        assert (early.value.given, bool(early.value.hint)) == (path, True)
        return
    for part in (corpus, corpus.head(4000)):
        iterator = iter(part)
        assert next(iterator).text == "text 0"
        if moment == "within":
            assert part.digest  # from here on there is something that the documents must agree with
        assert len(part) == sum(1 for _ in iterator) + 1
        iterator = iter(part)
        next(iterator)
        with path.open("a") as file:
            file.write('{"text": "more"}\n')
        with pytest.raises(DataError) as error:
            list(iterator)
        assert (error.value.given, bool(error.value.hint)) == (path, True)
    assert sum(1 for _ in open_corpus(path)) == 5002


def test_single_rows_of_a_large_row_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Held is the batch with the row alone, not the group; and a walk goes on where the last one ended."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    n = 20_000
    path = tmp_path / "c.parquet"
    texts = [f"text {i} {'and so on ' * 60}" for i in range(n)]
    table = pa.table({"text": texts, "more": ["x" * 50] * n})
    pq.write_table(table, path, row_group_size=n, compression="none", use_dictionary=False)
    monkeypatch.setattr("harness.data.corpora.parquet._HELD_BYTES", 1 << 20)
    walks: list[object] = []
    real = pq.ParquetFile.iter_batches
    monkeypatch.setattr(pq.ParquetFile, "iter_batches", lambda self, **o: (o["batch_size"] > 1 and walks.append(o)) or real(self, **o))
    monkeypatch.setattr(pq.ParquetFile, "read_row_group", None)
    reader = ParquetReader(path, Fields())

    def text(row: int) -> str:
        return reader.at(Place(row, row + 1)).text

    before = table.nbytes, pa.total_allocated_bytes()
    assert all(text(row) == texts[row] for row in range(0, n, 100))
    assert len(walks) == 1
    order = random.Random(0).choices(range(n), k=40)
    assert [text(row) for row in order] == [texts[row] for row in order]
    assert 10 < len(walks) < 41
    assert all(len(part) <= 1024 for part in reader._held.values())
    assert sum(part.nbytes for part in reader._held.values()) <= 1 << 20
    assert before[0] > 12 << 20
    assert pa.total_allocated_bytes() - before[1] < 6 << 20, "what is read of a group is not kept"


def test_single_rows_of_small_row_groups_read_each_group_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow.parquet as pq

    documents = [Document(str(i), f"text {i}", frozenset({"x"})) for i in range(9000)]
    convert(documents, tmp_path / "c.parquet")
    reads: list[int] = []
    real = pq.ParquetFile.read_row_group
    monkeypatch.setattr(
        pq.ParquetFile, "read_row_group", lambda self, group, **options: reads.append(group) or real(self, group, **options)
    )
    reader = ParquetReader(tmp_path / "c.parquet", Fields())
    order = random.Random(0).choices(range(9000), k=500)
    assert [reader.at(Place(row, row + 1)) for row in order] == [documents[row] for row in order]
    assert sorted(reads) == list(range(9))
    monkeypatch.setattr("harness.data.corpora.parquet._HELD_BYTES", 1 << 16)
    reads.clear()
    reader = ParquetReader(tmp_path / "c.parquet", Fields())
    assert [reader.at(Place(row, row + 1)) for row in order] == [documents[row] for row in order]
    assert len(reads) > 100, "the room is bounded"
    assert sum(part.nbytes for part in reader._held.values()) <= 1 << 16


def test_a_label_that_no_document_has_has_no_documents(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    path.write_text('{"text": "a", "labels": ["tag"]}\n')
    table = open_corpus(path).labels
    assert [table.of(name).tolist() for name in ("tag", "Tag", None)] == [[0], [], []]


def test_a_corpus_without_labels_has_an_empty_table(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    path.write_text('{"text": "a"}\n{"text": "b"}\n')
    table = open_corpus(path).labels
    assert (table.names, table.support.tolist(), table.matrix.shape, table.counts.tolist()) == ((), [], (2, 0), [0, 0])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.frozensets(st.sampled_from([f"l{i}" for i in range(9)])), max_size=40), block=st.integers(1, 50))
def test_label_arrays_are_the_dense_table(
    rows: list[frozenset[str]], block: int, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where they are sorted in several blocks."""
    monkeypatch.setattr("harness.data.corpora.labels._BLOCK", block)
    folder = tmp_path_factory.mktemp("labels")
    writer = LabelWriter(folder)
    for row in rows:
        writer.add(row)
    names = writer.close()
    arrays = {path.name.split(".")[0]: np.fromfile(path, path.name.split(".")[1]) for path in folder.iterdir()}
    table = LabelTable(names, Stored(None, {}, arrays).arrays)
    dense = np.array([[name in row for name in names] for row in rows], np.uint8).reshape(len(rows), len(names))
    assert (table.matrix.toarray() == dense).all()
    assert table.support.tolist() == dense.sum(axis=0).tolist()
    assert all(table.of(name).tolist() == dense[:, column].nonzero()[0].tolist() for column, name in enumerate(names))


@given(st.lists(st.text(max_size=3)))
def test_seen_ids_are_a_set(ids: list[str]) -> None:
    seen, known = SeenIds(), set()
    for one in ids:
        assert seen.add(one) == (one not in known)
        known.add(one)


def test_seen_ids_grow(tmp_path: Path) -> None:
    seen = SeenIds()
    assert all(seen.add(str(number)) for number in range(5000))
    assert not any(seen.add(str(number)) for number in range(5000))
