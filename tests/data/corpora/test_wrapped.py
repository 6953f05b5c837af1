"""Corpora in usual wrappings are read as what is in them; what is no corpus is named."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import pickle
import sqlite3
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import py7zr
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.data import open_corpus
from harness.errors import DataError
from harness.files import packed

ROWS = [{"text": "a river\u2028with ä\u0085", "labels": ["water", "nature"]}, {"text": "rye", "labels": ["bread"]}]
JSONL = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)
CSV = 'text,labels\n"a river\u2028with ä\u0085","[""water"", ""nature""]"\nrye,"[""bread""]"\n'
EXPECTED = [(row["text"], frozenset(row["labels"])) for row in ROWS]


def _zstd(content: bytes) -> bytes:
    target = pa.BufferOutputStream()
    with pa.CompressedOutputStream(target, "zstd") as stream:
        stream.write(content)
    return bytes(target.getvalue())


PACK: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": _zstd}


def read(path: Path) -> list[tuple[str, frozenset[str]]]:
    corpus = open_corpus(path)
    found = [(document.text, document.labels) for document in corpus]
    assert found == [(corpus[place].text, corpus[place].labels) for place in range(len(corpus))]
    return found


@pytest.mark.parametrize("ending", PACK)
@pytest.mark.parametrize(("name", "content"), [("c.jsonl", JSONL), ("c.csv", CSV)])
def test_packed_files(tmp_path: Path, ending: str, name: str, content: str) -> None:
    path = tmp_path / f"{name}{ending}"
    path.write_bytes(PACK[ending](content.encode()))
    (tmp_path / name).write_text(content, encoding="utf-8")
    assert read(path) == EXPECTED
    assert open_corpus(path).digest == open_corpus(tmp_path / name).digest, "the same documents, packed or not"


def test_a_packed_file_that_changes_is_unpacked_anew(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl.gz"
    path.write_bytes(gzip.compress(JSONL.encode()))
    assert read(path) == EXPECTED
    path.write_bytes(gzip.compress(b'{"text": "new"}\n'))
    assert read(path) == [("new", frozenset())]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-8-sig", "utf-32"])
@pytest.mark.parametrize(("name", "content"), [("c.jsonl", JSONL), ("c.csv", CSV), ("c.csv", CSV.replace("\n", "\r\n").replace(",", "\t", 1))])
def test_encodings(tmp_path: Path, encoding: str, name: str, content: str) -> None:
    path = tmp_path / name
    if "\t" in content:
        content = content.replace('",', '"\t').replace("rye,", "rye\t")
    path.write_bytes(content.encode(encoding))
    assert read(path) == EXPECTED


@pytest.mark.parametrize("sign", [";", "\t", "|", ","])
@pytest.mark.parametrize("stated", [False, True])
def test_delimiters(tmp_path: Path, sign: str, stated: bool) -> None:
    path = tmp_path / "c.csv"
    rows = [("id", "text", "labels"), ("1", '"Salt, pepper; and\ttea"', "spice"), ("2", "a, b, c", "tea"), ("3", "1,5 kg", "tea")]
    rows = [(a, b if b.startswith('"') or sign not in b else f'"{b}"', c) for a, b, c in rows]
    path.write_text((f"sep={sign}\n" if stated else "") + "".join(sign.join(row) + "\n" for row in rows))
    assert [(d.id, d.text, set(d.labels)) for d in open_corpus(path)] == [
        ("1", "Salt, pepper; and\ttea", {"spice"}),
        ("2", "a, b, c", {"tea"}),
        ("3", "1,5 kg", {"tea"}),
    ]


@pytest.mark.parametrize(
    "content",
    [
        json.dumps(ROWS), json.dumps(ROWS, indent=2, ensure_ascii=False), "\ufeff[" + ",\n".join(map(json.dumps, ROWS)) + "]\n",
        "".join(json.dumps(row, indent=1) + "\n" for row in ROWS), "".join(map(json.dumps, ROWS)), "[\n" + JSONL.replace("\n", ",\n")[:-2] + "\n]",
        "\r\n".join(json.dumps(row, indent=4) for row in ROWS),
    ],
)  # fmt: skip
def test_json_in_other_forms_than_lines(tmp_path: Path, content: str) -> None:
    path = tmp_path / "c.json"
    path.write_bytes(content.encode())
    assert read(path) == EXPECTED
    path.with_suffix(".json.gz").write_bytes(gzip.compress(content.encode()))
    assert read(path.with_suffix(".json.gz")) == EXPECTED


@pytest.mark.parametrize("cut", [5, 20])
def test_a_list_that_is_cut_off_is_used_up_to_the_break_and_says_so(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "c.json"
    path.write_text(json.dumps([{"text": f"t{number}"} for number in range(50_000)])[:-cut])
    corpus = open_corpus(path)
    assert len(corpus) == 50_000 - (cut + 10) // 18 - 0 if cut > 18 else len(corpus) == 49_999
    assert "breaks off" in corpus.skipped[-1].reason


def test_a_broken_archive_is_called_what_the_user_gave(tmp_path: Path) -> None:
    import tarfile

    (tmp_path / "c.jsonl").write_text('{"text": "a"}\n')
    with tarfile.open(tmp_path / "c.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "c.jsonl", "c.jsonl")
    broken = tmp_path / "cut.tar.gz"
    broken.write_bytes((tmp_path / "c.tar.gz").read_bytes()[:-30])
    for path in (tmp_path / "c.tar.gz", broken):
        with pytest.raises(DataError) as caught:
            open_corpus(path)
        assert caught.value.given == path
        assert str(path) in caught.value.message
        assert "unpacked/" not in str(caught.value)


def test_another_reading_code_reads_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.data.corpora import corpus as module

    path = tmp_path / "c.jsonl"
    path.write_text('{"text": "a", "label": "x"}\n')
    assert len(open_corpus(path)) == 1
    made: list[int] = []
    before = module.open_corpus(path)
    from harness.data.corpora import indexing

    build = indexing.build
    monkeypatch.setattr(indexing, "build", lambda *arguments: made.append(1) or build(*arguments))
    assert (len(module.open_corpus(path)), made) == (1, [])
    monkeypatch.setattr(module, "reading_code", lambda: "edited")
    after = module.open_corpus(path)
    assert (len(after), made) == (1, [1])
    assert after.digest == before.digest, "the documents are the same"


def test_archives_of_one_corpus(tmp_path: Path) -> None:
    (tmp_path / "c.jsonl").write_text(JSONL, encoding="utf-8")
    (tmp_path / "c.csv.gz").write_bytes(gzip.compress(CSV.encode()))
    for name, member in (("a.zip", "data/c.jsonl"), ("b.zip", "c.csv.gz")):
        with zipfile.ZipFile(tmp_path / name, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.write(tmp_path / Path(member).name, member)
            archive.writestr("README.md", "about")
            archive.writestr("__MACOSX/._c.jsonl", b"\0")
        assert read(tmp_path / name) == EXPECTED
    with py7zr.SevenZipFile(tmp_path / "a.7z", "w") as seven:
        seven.write(tmp_path / "c.jsonl", "data/c.jsonl")
    assert read(tmp_path / "a.7z") == EXPECTED
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "c.parquet")
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as archive:
        archive.write(tmp_path / "c.parquet", "c.parquet")
    assert read(tmp_path / "p.zip") == EXPECTED


def test_a_packed_dump_is_one(tmp_path: Path) -> None:
    posts = '<?xml version="1.0"?>\n<posts>\n<row Id="1" PostTypeId="1" Title="Tea?" Body="Why" Tags="&lt;tea&gt;" />\n</posts>\n'
    comments = '<?xml version="1.0"?>\n<comments>\n<row Id="1" PostId="1" Text="So" UserId="2" />\n</comments>\n'
    with py7zr.SevenZipFile(tmp_path / "tea.7z", "w") as archive:
        for name, content in (("Posts.xml", posts), ("Comments.xml", comments), ("Users.xml", "<users></users>")):
            archive.writestr(content, name)
    corpus = open_corpus(tmp_path / "tea.7z")
    assert corpus.format == "stackexchange"
    assert [(document.text, set(document.labels)) for document in corpus] == [("Tea?\nWhy\nSo", {"tea"})]


def test_archives_that_cannot_be_read_say_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(tmp_path / "several.zip", "w") as archive:
        for name in ("train.jsonl", "test.jsonl"):
            archive.writestr(name, JSONL)
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        archive.writestr("../../evil.jsonl", JSONL)
    with zipfile.ZipFile(tmp_path / "none.zip", "w"):
        pass
    (tmp_path / "cut.zip").write_bytes((tmp_path / "several.zip").read_bytes()[:-40])
    with py7zr.SevenZipFile(tmp_path / "secret.7z", "w", password="x") as seven:
        seven.writestr(JSONL, "c.jsonl")
    (tmp_path / "cut.7z").write_bytes((tmp_path / "secret.7z").read_bytes()[:-40])
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(os.urandom(100_000))[:-100])
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("c.jsonl", bytes(4 << 20))
    with py7zr.SevenZipFile(tmp_path / "bomb.7z", "w") as seven:
        seven.writestr("x" * (4 << 20), "c.jsonl")
    (tmp_path / "bomb.jsonl.gz").write_bytes(gzip.compress(bytes(4 << 20)))
    monkeypatch.setattr(packed, "SMALLEST_BOUND", 1 << 20)
    monkeypatch.setattr(packed, "RATIO", 2)
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(DataError) as caught:
            open_corpus(path)
        assert caught.value.hint, path
        assert str(caught.value).isprintable(), path
    assert not (tmp_path.parent / "evil.jsonl").exists()


def test_what_is_no_corpus_is_named(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "database")
    connection.execute("create table t (text)")
    connection.commit()
    connection.close()
    with zipfile.ZipFile(tmp_path / "workbook", "w") as archive:
        archive.writestr("[Content_Types].xml", "<x/>")
        archive.writestr("xl/workbook.xml", "<x/>")
    with tarfile.open(tmp_path / "tar", "w") as tar:
        tar.add(tmp_path / "database", "database")
    (tmp_path / "pickle").write_bytes(pickle.dumps(ROWS))
    (tmp_path / "HTML").write_text("<!DOCTYPE html>\n<html><body>503, try later</body></html>")
    (tmp_path / "LFS").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 3\n")
    (tmp_path / "binary").write_bytes(bytes(range(256)) * 4)
    (tmp_path / "empty").write_bytes(b"")
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(DataError) as caught:
            open_corpus(path)
        assert path.name.casefold() in str(caught.value).replace(str(path), "").casefold() + path.name * (path.name == "workbook")
        assert str(caught.value).isprintable()
        assert caught.value.hint


def test_pipes_and_devices_are_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), Path("a\0b"), tmp_path / ("x" * 300)):
        for format in (None, "jsonl", "csv"):
            with pytest.raises(DataError):
                open_corpus(path, format=format)  # type: ignore[arg-type]
