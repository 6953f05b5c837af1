"""A small Parquet file that stands for gigabytes is read in bounded memory, and one that is no table of texts is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.data import open_corpus

_READ = """
import resource, sys
from harness.data import open_corpus
corpus = open_corpus(sys.argv[1])
first = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert len(corpus) == {rows}, len(corpus)
assert corpus[{rows} - 1].labels == frozenset("a") and corpus[0].text[:1] == "x"
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - first)
"""


def _repeated(path: Path, rows: int, length: int, **options: object) -> None:
    texts = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array(["x" * length]))
    pq.write_table(pa.table({"text": texts, "labels": pa.array([["a"]] * rows)}), path, compression="zstd", **options)


def test_one_long_text_for_many_rows(tmp_path: Path) -> None:
    path = tmp_path / "c.parquet"
    _repeated(path, 150, 4_000_000)
    assert path.stat().st_size < 10_000
    found = subprocess.run([sys.executable, "-c", _READ.format(rows=150), str(path)], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert int(found.stdout) < 150_000, "kilobytes more than after opening; all rows at once are 600,000"


def test_a_text_that_is_too_long_is_skipped(tmp_path: Path) -> None:
    texts = [*["x" * ((1 << 24) + 1)] * 3, "short"]
    pq.write_table(pa.table({"text": texts, "labels": [["a"], ["a"], ["a"], ["b"]]}), tmp_path / "c.parquet")
    corpus = open_corpus(tmp_path / "c.parquet")
    assert (len(corpus), corpus.n_skipped) == (1, 3)
    assert "16 MB" in corpus.skipped[0].reason


@pytest.mark.parametrize("rows", [5, 5000])
def test_long_and_short_rows_are_found_again(tmp_path: Path, rows: int) -> None:
    path = tmp_path / "c.parquet"
    texts = [f"text {number} " + "y" * (300_000 if number % 1000 == 4 else 10) for number in range(rows)]
    pq.write_table(pa.table({"text": texts, "labels": [[str(number % 7)] for number in range(rows)]}), path, row_group_size=1700)
    corpus = open_corpus(path)
    assert [document.text for document in corpus] == texts
    for place in (rows - 1, 0, rows // 2, 4):
        assert (corpus[place].text, corpus[place].labels) == (texts[place], {str(place % 7)})
