"""Texts as token ids in one file: what is written is read, small, the same each time, and refused by a model of another tokenizer."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import DataError
from harness.model.token_file import read_token_file, tokenizer_digest, write_token_file


def model(vocab: int = 512, name: str = "m", shift: int = 0) -> Any:
    """What a file of token ids asks of a model. Its tokenizer knows 512 of them at most: all of a large vocabulary are digested anew at each turn."""
    known = {f"t{i + shift}": i for i in range(min(vocab, 512))}
    return SimpleNamespace(name=name, vocab_size=vocab, tokenizer=SimpleNamespace(get_vocab=lambda: known))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.integers(0, 70_000), max_size=9), min_size=1, max_size=9).filter(any))
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, rows: list[list[int]]) -> None:
    path = tmp_path_factory.mktemp("tokens") / "t.npz"
    written = write_token_file(path, model(70_001), rows, 2, "texts")
    first = path.read_bytes()
    found = read_token_file(path)
    assert [row.tolist() for row in found.rows] == rows
    assert (found.skip, found.source, found.model, found.digest) == (2, "texts", "m", written.digest)
    largest = max(max(row) for row in rows if row)
    assert found.ids.dtype == np.min_scalar_type(largest)
    write_token_file(path, model(70_001), rows, 2, "texts")
    assert path.read_bytes() == first
    found.check_fits(model(70_001, "another name of the same tokenizer"))


def test_600_000_tokens_take_less_than_2_mb(tmp_path: Path) -> None:
    ids = np.random.default_rng(0).zipf(1.2, 600_000) % 49_152  # words are about so unequal
    write_token_file(tmp_path / "t.npz", model(49_152), np.split(ids, 3000), 1)
    assert (tmp_path / "t.npz").stat().st_size < 2e6


def test_what_does_not_fit_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "t.npz"
    file = write_token_file(path, model(), [[1, 2, 500]], 1)
    with pytest.raises(DataError) as error:
        file.check_fits(model(shift=1, name="other"))
    assert error.value.given == tokenizer_digest(model())
    assert all(word in str(error.value) for word in (str(path), "other", "harness data tokens"))
    beyond = model()
    beyond.vocab_size = 500
    with pytest.raises(DataError) as error:
        file.check_fits(beyond)
    assert (error.value.given, error.value.allowed) == (500, "0 to 499")
    with pytest.raises(DataError):
        write_token_file(path, model(), [[], []], 1)


@pytest.mark.parametrize(
    "arrays",
    [
        {"ids": np.array([1, 2], np.uint8), "lengths": np.array([2], np.uint8)},
        {"ids": np.array([1, 2], np.int64), "lengths": np.array([2], np.uint8), "about": np.frombuffer(b"{}", np.uint8)},
        {"ids": np.array([1, 2], np.uint8), "lengths": np.array([3], np.uint8), "about": np.frombuffer(b"{}", np.uint8)},
        {"ids": np.array([1, 2], np.uint8), "lengths": np.array([[2]], np.uint8), "about": np.frombuffer(b"{}", np.uint8)},
        {
            "ids": np.array([1, 2], np.uint8),
            "lengths": np.array([3], np.uint8),
            "about": np.frombuffer(b'{"format":1,"model":"m","tokenizer":"t","skip":1}', np.uint8),
        },
        {
            "ids": np.array([1, 2], np.uint8),
            "lengths": np.array([2], np.uint8),
            "about": np.frombuffer(b'{"format":9,"model":"m","tokenizer":"t","skip":1}', np.uint8),
        },
    ],
)
def test_what_is_no_such_file_is_refused(tmp_path: Path, arrays: dict[str, Any]) -> None:
    np.savez(tmp_path / "t.npz", **arrays)
    with pytest.raises(DataError) as error:
        read_token_file(tmp_path / "t.npz")
    assert error.value.given == tmp_path / "t.npz"
    (tmp_path / "t.npz").write_bytes(b"PK no archive")
    with pytest.raises(DataError):
        read_token_file(tmp_path / "t.npz")
