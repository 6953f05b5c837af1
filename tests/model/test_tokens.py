"""Token ids on disk: those of the model's own encoding, at random access, and after a kill."""

from __future__ import annotations

import os
import signal
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.forks import killed
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.errors import DataError, OptionError, StoreError
from harness.interventions import Site
from harness.model import SubjectModel, residuals
from harness.model.activations import row_lengths
from harness.model.tokens import TokenTable, write_tokens

TEXTS = ["Once upon a time", "", "<s> is a tag, </s> too", "naïve café 日本語 🙂", " leading", "word " * 40, "\n\n", "The end."] * 3


@pytest.fixture
def blocks_of_5(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.model.tokens.BLOCK_TEXTS", 5)


@pytest.mark.parametrize("limit", [1, 7, 1000])
def test_ids_are_those_of_encode(tiny_model: SubjectModel, tmp_path: Path, limit: int, blocks_of_5: None) -> None:
    seen: list[tuple[int, int]] = []
    table = write_tokens(tiny_model, iter(TEXTS), len(TEXTS), limit, tmp_path, lambda *state: seen.append(state))
    expected = [tiny_model.encode(text)[:limit] for text in TEXTS]
    for found in (table, TokenTable.load(tmp_path)):
        assert [row.tolist() for row in found] == expected
        assert found.lengths.tolist() == row_lengths(found).tolist() == [len(row) for row in expected]
        assert found.n_tokens == sum(map(len, expected))
        assert len(found) == len(TEXTS)
    assert seen == [(5, 24), (10, 24), (15, 24), (20, 24), (24, 24)]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(st.text(max_size=30), max_size=6), limit=st.integers(1, 20))
def test_any_text(tiny_model: SubjectModel, tmp_path_factory: pytest.TempPathFactory, texts: list[str], limit: int) -> None:
    table = write_tokens(tiny_model, texts, len(texts), limit, tmp_path_factory.mktemp("tokens"))
    assert [row.tolist() for row in table] == [tiny_model.encode(text)[:limit] for text in texts]


def test_a_table_is_a_sequence(tiny_model: SubjectModel, tmp_path: Path) -> None:
    table = write_tokens(tiny_model, TEXTS, len(TEXTS), 9, tmp_path)
    rows = [tiny_model.encode(text)[:9] for text in TEXTS]
    assert table[-1].tolist() == rows[-1]
    assert table[0].dtype == np.int64
    assert table[0].flags.writeable
    for part in (slice(2, 5), slice(None, None, -2), slice(20, 99)):
        assert [row.tolist() for row in table[part]] == rows[part]
    with pytest.raises(IndexError):
        table[len(TEXTS)]
    with pytest.raises(IndexError):
        table[-len(TEXTS) - 1]
    assert repr(table) == f"TokenTable(24 texts, {sum(map(len, rows))} tokens)"


def test_the_model_reads_a_table_as_it_reads_lists(tiny_model: SubjectModel, tmp_path: Path) -> None:
    table = write_tokens(tiny_model, TEXTS, len(TEXTS), 9, tmp_path)
    rows = [tiny_model.encode(text)[:9] for text in TEXTS]
    for one, other in zip(
        residuals(tiny_model, table, Site(1), token_budget=40), residuals(tiny_model, rows, Site(1), token_budget=40), strict=True
    ):
        assert one.rows == other.rows
        assert torch.equal(one.tokens, other.tokens)
        assert torch.equal(one.x, other.x)


def killed_at(moment: int, run: Callable[[], Any]) -> bool:
    """Whether a copy of this process was killed at the so-manyeth flush to the disk, with half of that file lost."""
    real = os.fsync

    def flushed() -> None:
        calls = 0

        def fsync(file: int) -> None:
            nonlocal calls
            regular = stat.S_ISREG(os.fstat(file).st_mode)
            calls += regular
            if calls == moment and regular:
                os.ftruncate(file, os.fstat(file).st_size // 2)
                os.kill(os.getpid(), signal.SIGKILL)
            real(file)

        os.fsync = fsync  # type: ignore[assignment]
        run()

    return killed(flushed)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills as POSIX has them")
def test_killed_and_gone_on_with(tiny_model: SubjectModel, tmp_path: Path, blocks_of_5: None) -> None:
    whole = write_tokens(tiny_model, TEXTS, len(TEXTS), 9, tmp_path / "whole")
    firsts: list[int] = []
    for moment in (1, 2, 4, 6, 7, 9, 14):
        folder = tmp_path / str(moment)
        assert killed_at(moment, lambda: write_tokens(tiny_model, TEXTS, len(TEXTS), 9, folder))  # noqa: B023
        seen: list[tuple[int, int]] = []
        again = write_tokens(tiny_model, TEXTS, len(TEXTS), 9, folder, lambda *state: seen.append(state))  # noqa: B023
        assert [row.tolist() for row in again] == [row.tolist() for row in whole]
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
            path.name: path.read_bytes() for path in (tmp_path / "whole").iterdir()
        }
        firsts.append(seen[0][0])
    assert firsts == sorted(firsts)
    assert firsts[-1] > firsts[0] == 5


def test_texts_are_not_held(tiny_model: SubjectModel, tmp_path: Path, blocks_of_5: None) -> None:
    alive = 0

    def texts() -> Iterator[str]:
        nonlocal alive
        for i in range(40):
            done = (tmp_path / "offsets.i64").stat().st_size // 8 - 1
            alive = max(alive, i - done)
            yield f"text {i}"

    write_tokens(tiny_model, texts(), 40, 9, tmp_path)
    assert alive <= 5


def test_what_does_not_fit(tiny_model: SubjectModel, tmp_path: Path) -> None:
    with pytest.raises(OptionError) as limit:
        write_tokens(tiny_model, TEXTS, len(TEXTS), 0, tmp_path / "a")
    assert limit.value.given == 0
    assert "at least 1" in str(limit.value.allowed)
    for n, count in ((30, "24"), (20, "more than 20")):
        with pytest.raises(DataError) as other:
            write_tokens(tiny_model, TEXTS, n, 9, tmp_path / str(n))
        assert other.value.given == 24
        assert count in other.value.message
        assert str(n) in str(other.value.allowed)
        assert other.value.hint
    with pytest.raises(StoreError) as error:
        TokenTable.load(tmp_path / "nowhere")
    assert error.value.given == tmp_path / "nowhere"
    assert error.value.hint
    write_tokens(tiny_model, TEXTS, len(TEXTS), 9, tmp_path / "b")
    with (tmp_path / "b" / "tokens.u32").open("r+b") as file:
        file.truncate(12)
    with pytest.raises(StoreError) as error:
        TokenTable.load(tmp_path / "b")
    assert "tokens.u32" in str(error.value)
    assert "12 bytes" in str(error.value)
    write_tokens(tiny_model, TEXTS, len(TEXTS), 8, tmp_path / "b")  # another limit: made anew
    assert TokenTable.load(tmp_path / "b").lengths.max() == 8
    (tmp_path / "b" / "offsets.i64").write_bytes(b"")
    with pytest.raises(StoreError) as error:
        TokenTable.load(tmp_path / "b")
    assert error.value.given == tmp_path / "b"
    assert error.value.hint
