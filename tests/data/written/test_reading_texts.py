"""The texts that a dictionary is trained on: generated rows with their prompts, or any corpus, in any usual encoding."""

from __future__ import annotations

import gzip
import json
import logging
from pathlib import Path

import pytest

from harness.data.written.generate import read_conversations, read_rows, write_rows
from harness.errors import DataError

ROW = json.dumps({"id": "1", "prompt": "p", "text": "a\u2028b", "labels": []}, ensure_ascii=False)


@pytest.mark.parametrize(
    "content", [b"\xef\xbb\xbf" + ROW.encode(), b"# about\n\n" + ROW.encode() + b"\r\n", (ROW + "\n").encode("utf-16"), ROW.encode() + b"\n"]
)
def test_generated_rows_keep_their_prompts(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(content)
    assert list(read_conversations(path)) == [("p", "a\u2028b")]


def test_rows_that_were_written_are_read(tmp_path: Path) -> None:
    rows = [{"id": str(number), "prompt": "p", "text": f"a{sign}b", "labels": []} for number, sign in enumerate("\u2028\u2029\x85\x1c\x0b\x0c\r\n")]
    write_rows(tmp_path / "x.jsonl", rows)
    assert read_rows(tmp_path / "x.jsonl") == rows


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_any_other_corpus_is_read_and_what_is_skipped_is_said(tmp_path: Path, pack: type[bytes], caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(pack(b'{"text": "ok"}\n{"text": "K\xe4se"}\n'))
    with caplog.at_level(logging.WARNING):
        assert list(read_conversations(path)) == [(None, "ok")]
    assert "1 records skipped" in caplog.text


@pytest.mark.parametrize("content", [b"<html>", b"[" * 100_000, b"\n", b'{"id":1,"prompt":"p","text":3,"labels":[]}\n', b"\xff\xfe"])
def test_what_is_no_corpus_is_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        list(read_conversations(path))
    assert str(caught.value).isprintable()
