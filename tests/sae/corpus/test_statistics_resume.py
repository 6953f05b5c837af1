"""The pass over a corpus is killed, torn, damaged, and goes on: the files are those of an undisturbed pass, byte for byte."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import signal
import stat
import sys
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.forks import killed

from harness.errors import DataError, OptionError, StoreError
from harness.files.shards import JOURNAL, ShardedFiles
from harness.model.loading import SubjectModel
from harness.model.memory import TokenBudget
from harness.model.tokens import TokenTable, write_tokens
from harness.sae.corpus.collect import CorpusStatistics, measure
from harness.sae.corpus.outliers import usual_tokens
from harness.sae.dictionary import Dictionary

WORDS = ("dog", "big red ball", "sun", "girl named Lily", "old tree", "cake", "bird", "sea")
TEXTS = [f"{'Once upon a time' * (i % 3)} the {WORDS[i % 8]} and the {WORDS[i % 5]} went {'far ' * (i % 7)}away." for i in range(22)]
SHARD = 5


class Stopped(Exception):
    pass


@pytest.fixture(scope="module")
def rows(model: SubjectModel) -> list[list[int]]:
    found = [model.encode(text) for text in TEXTS]
    found[6], found[20] = [], found[20][:1]
    return found


@pytest.fixture(scope="module")
def whole(model: SubjectModel, dictionary: Dictionary, rows: list[list[int]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an undisturbed pass."""
    folder = tmp_path_factory.mktemp("whole")
    measure(model, dictionary, rows, folder, token_budget=80, shard_texts=SHARD)
    return folder


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def read(
    model: SubjectModel, dictionary: Dictionary, rows: Sequence[Sequence[int]], folder: Path, stop: int | None = None, budget: int = 80
) -> list[int]:
    """Measure, up to a shard whose texts begin at ``stop`` or after; answers with the texts that were reported as done."""
    seen: list[int] = []

    def progress(done: int, total: int) -> None:
        assert total == len(rows)
        seen.append(done)
        if stop is not None and done > stop:
            raise Stopped

    with contextlib.suppress(Stopped):
        measure(model, dictionary, rows, folder, token_budget=budget, shard_texts=SHARD, progress=progress)
    return seen


def killed_at(moment: int, run: Callable[[Callable[[int, int], None]], Any]) -> tuple[bool, int | None]:
    """In a copy of this process: killed at the so-manyeth flush to the disk, every second time with some bytes of that file lost.

    Returns whether it was, and the first progress that ``run`` reported to what it is given, or None.
    """
    real, (reading, writing) = os.fsync, os.pipe()

    def flushed() -> None:
        calls = 0

        def fsync(file: int) -> None:
            nonlocal calls
            regular = stat.S_ISREG(os.fstat(file).st_mode)
            calls += regular
            if calls == moment and regular:
                if moment % 2 and os.fstat(file).st_size > 3:
                    os.ftruncate(file, os.fstat(file).st_size - 3)
                os.kill(os.getpid(), signal.SIGKILL)
            real(file)

        os.fsync = fsync  # type: ignore[assignment]
        run(lambda done, total: os.write(writing, b"%d " % done) and None)

    was = killed(flushed)
    os.close(writing)
    with open(reading, encoding="ascii") as pipe:
        seen = pipe.read().split()
    return was, int(seen[0]) if seen else None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills as POSIX has them")
def test_killed_at_any_moment(tmp_path: Path, whole: Path, rows: list[list[int]], model: SubjectModel, dictionary: Dictionary) -> None:
    def measured(folder: Path, moment: int) -> tuple[bool, int | None]:
        return killed_at(
            moment, lambda progress: measure(model, dictionary, rows, folder, token_budget=80, shard_texts=SHARD, progress=progress)
        )

    firsts, expected = [], content(whole)
    for moment in range(1, 60, 3):
        folder = tmp_path / f"once-{moment}"
        if not measured(folder, moment)[0]:
            break
        was, first = measured(folder, 0)
        assert not was
        assert content(folder) == expected, moment
        firsts.append(first)
    for step in (9, 13):
        folder = tmp_path / f"often-{step}"
        if all(measured(folder, step)[0] for _ in range(12)):  # where it gets no further before that flush
            assert not measured(folder, 0)[0]
        assert content(folder) == expected, step
    # five shards of seven files and the journal each, and the three files of the end
    assert len(firsts) >= 13
    # later kills have lost less: the pass went on, it did not begin again
    assert firsts == sorted(firsts)
    assert firsts[0] == 0
    assert firsts[-1] == len(rows)


def test_an_interrupted_pass_reads_only_what_is_missing(
    model: SubjectModel, dictionary: Dictionary, rows: list[list[int]], whole: Path, tmp_path: Path
) -> None:
    first = read(model, dictionary, rows, tmp_path, stop=2 * SHARD)
    assert first[-1] > 2 * SHARD
    assert not (tmp_path / "statistics.json").exists()
    with pytest.raises(StoreError) as error:
        CorpusStatistics.load(tmp_path)
    assert error.value.given == tmp_path
    again = read(model, dictionary, rows, tmp_path)
    assert again == sorted(again)
    assert again[0] == 2 * SHARD
    assert again[-1] == len(rows)
    assert content(tmp_path) == content(whole)


def test_a_small_corpus_on_a_cpu_is_gone_on_with(model: SubjectModel, dictionary: Dictionary, tmp_path: Path) -> None:
    """A shard is some seconds of a CPU's work: what a GPU reads in one, an interrupted pass would begin again at text 0."""
    rows, seen = [[1, *range(100, 163)]] * 400, []

    def progress(done: int, total: int) -> None:
        seen.append(done)
        if 300 < done < total and len(seen) > 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure(model, dictionary, rows, tmp_path, progress=progress)
    seen.clear()
    assert measure(model, dictionary, rows, tmp_path, progress=lambda done, total: seen.append(done)).n_docs == 400
    assert seen[0] == 256


@pytest.mark.parametrize(
    "name", ["shares.bin", "maxima.bin", "indices.bin", "indptr.bin", "n_tokens.bin", "document_means.bin", "sums.bin"]
)
def test_a_flipped_byte_in_a_committed_shard(
    name: str, model: SubjectModel, dictionary: Dictionary, rows: list[list[int]], whole: Path, tmp_path: Path
) -> None:
    read(model, dictionary, rows, tmp_path, stop=3 * SHARD)
    header = json.loads((tmp_path / JOURNAL).read_text().splitlines()[0].split(" ", 1)[1])
    second = json.loads((tmp_path / JOURNAL).read_text().splitlines()[2].split(" ", 1)[1])
    with (tmp_path / name).open("r+b") as file:
        file.seek(second["ends"][header["files"].index(name)] - 1)
        last = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([last ^ 1]))
    again = read(model, dictionary, rows, tmp_path)
    assert again[0] == SHARD  # the first shard stays, the second is made again
    assert content(tmp_path) == content(whole)


@pytest.mark.parametrize(
    ("damage", "kept"),
    [
        (lambda journal: journal[:-7], 3),
        (lambda journal: journal + b'00000000 {"crc32":[', 4),
        (lambda journal: journal.replace(b'"note":', b'"nota":', 1), 0),
        (lambda journal: journal[:1] + b"x" + journal[2:], 0),
        (lambda journal: b"", 0),
    ],
)
def test_a_damaged_journal(
    damage: object, kept: int, model: SubjectModel, dictionary: Dictionary, rows: list[list[int]], whole: Path, tmp_path: Path
) -> None:
    shutil.copytree(whole, tmp_path / "a")
    lines = (whole / JOURNAL).read_bytes().splitlines(keepends=True)
    (tmp_path / "a" / JOURNAL).write_bytes(damage(b"".join(lines[:5])))  # type: ignore[operator]
    again = read(model, dictionary, rows, tmp_path / "a")
    assert again[0] == kept * SHARD
    assert content(tmp_path / "a") == content(whole)


def test_a_finished_pass_is_only_checked(
    model: SubjectModel, dictionary: Dictionary, rows: list[list[int]], whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(whole, tmp_path / "a")
    (tmp_path / "a" / "statistics.json").unlink()  # a kill between the last shard and the end
    with monkeypatch.context() as patch:
        patch.setattr("harness.sae.corpus.shard.sweep", None)
        assert read(model, dictionary, rows, tmp_path / "a") == [len(rows)]
    assert content(tmp_path / "a") == content(whole)


def test_another_corpus_or_option_is_not_gone_on_with(
    model: SubjectModel, dictionary: Dictionary, rows: list[list[int]], whole: Path, tmp_path: Path
) -> None:
    shutil.copytree(whole, tmp_path / "a")
    changed = [*rows[:7], [*rows[7][:-1], 300], *rows[8:]]
    assert read(model, dictionary, changed, tmp_path / "a", stop=12)[0] == SHARD
    assert not (tmp_path / "a" / "statistics.json").exists()
    read(model, dictionary, changed, tmp_path / "b")
    read(model, dictionary, changed, tmp_path / "a")
    assert content(tmp_path / "a") == content(tmp_path / "b") != content(whole)
    assert read(model, dictionary, rows, tmp_path / "a", budget=81)[0] == 0
    assert read(model, dictionary, rows[:-1], tmp_path / "a")[0] == 0


def test_shards_change_no_number(model: SubjectModel, dictionary: Dictionary, rows: list[list[int]], whole: Path, tmp_path: Path) -> None:
    one = measure(model, dictionary, rows, tmp_path / "one", token_budget=80)
    many = CorpusStatistics.load(whole)
    assert (one.frequencies != many.frequencies).nnz == 0
    for name in ("n_tokens", "fired", "indptr", "indices"):
        np.testing.assert_array_equal(getattr(one, name), getattr(many, name))
    for name in ("maximum", "maxima", "document_means"):
        np.testing.assert_allclose(getattr(one, name), getattr(many, name), rtol=1e-3, atol=1e-4)
    assert many.l0 == one.l0
    assert many.explained_variance == pytest.approx(one.explained_variance, abs=1e-6)
    np.testing.assert_array_equal(many.maximum, many.document_maximum.max(axis=0).toarray()[0])
    counts = np.asarray(many.frequencies.multiply(many.n_tokens[:, None]).sum(axis=0))[0]
    np.testing.assert_array_equal(many.fired, np.rint(counts))


def test_shards_end_after_so_many_tokens(
    model: SubjectModel, dictionary: Dictionary, rows: list[list[int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.sae.corpus.collect.SHARD_TOKENS", 60)
    measure(model, dictionary, rows, tmp_path)
    header, *shards = [json.loads(line.split(" ", 1)[1]) for line in (tmp_path / JOURNAL).read_text().splitlines()]
    ends = [0, *(shard["ends"][header["files"].index("n_tokens.bin")] // 8 for shard in shards)]
    assert ends[-1] == len(rows)
    assert len(ends) > 5
    for start, stop in itertools.pairwise(ends):
        assert stop - start == 1 or sum(map(len, rows[start:stop])) <= 60


def test_rows_from_a_table_of_tokens(model: SubjectModel, dictionary: Dictionary, whole: Path, tmp_path: Path) -> None:
    table = write_tokens(model, TEXTS, len(TEXTS), 30, tmp_path / "tokens")
    rows = [model.encode(text)[:30] for text in TEXTS]
    measure(model, dictionary, rows, tmp_path / "lists", token_budget=80, shard_texts=SHARD)
    measure(model, dictionary, table, tmp_path / "table", token_budget=80, shard_texts=SHARD)
    assert isinstance(table, TokenTable)
    assert content(tmp_path / "lists") == content(tmp_path / "table") != content(whole)


def test_a_batch_that_does_not_fit_stays_halved_in_the_next_shards(
    model: SubjectModel, dictionary: Dictionary, rows: list[list[int]], whole: Path, tmp_path: Path
) -> None:
    failed: list[int] = []

    def check(module: object, args: object, kwargs: dict[str, torch.Tensor]) -> None:
        x = args[0] if args else kwargs["hidden_states"]  # type: ignore[index]
        if x.shape[:2].numel() > 90:
            failed.append(x.shape[:2].numel())
            raise torch.OutOfMemoryError("out of memory")

    handle = model.layers[0].register_forward_pre_hook(check, with_kwargs=True)
    try:
        found = measure(model, dictionary, rows, tmp_path, token_budget=1000, shard_texts=SHARD)
    finally:
        handle.remove()
    assert 0 < len(failed) < 4
    assert (found.frequencies != CorpusStatistics.load(whole).frequencies).nnz == 0


@pytest.mark.parametrize("step", ["usual_tokens", "torch.where", "torch.unique", "torch.cat"])
def test_memory_that_runs_out_behind_the_forward_pass(
    step: str, model: SubjectModel, dictionary: Dictionary, rows: list[list[int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batch's work is done again in halves: nothing of the failed attempt counts, and no text is read by the model twice."""
    monkeypatch.setattr("harness.sae.corpus.counts.CHUNK_ELEMENTS", 20 * 512)  # several slices a batch, so that some are counted before the end
    forwards: list[int] = []
    handle = model.layers[0].register_forward_pre_hook(lambda *_: forwards.append(1))
    try:
        expected = measure(model, dictionary, rows, tmp_path / "a", token_budget=200)
        n_forwards, calls = len(forwards), [0]
        name = f"harness.sae.corpus.counts.{step}" if step.startswith("torch") else f"harness.sae.corpus.sweep.{step}"
        real = getattr(torch, step.removeprefix("torch.")) if step.startswith("torch") else usual_tokens

        def fails_once(*args: Any, **options: Any) -> Any:
            caller = sys._getframe(1).f_code.co_name
            calls[0] += caller in ("_add", "_grouped", "mark")
            if calls[0] == 3 and caller in ("_add", "_grouped", "mark"):
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return real(*args, **options)

        monkeypatch.setattr(name, fails_once)
        budget = TokenBudget(200)
        monkeypatch.setattr("harness.sae.corpus.collect.TokenBudget", lambda tokens: budget)
        found = measure(model, dictionary, rows, tmp_path / "b", token_budget=200)
    finally:
        handle.remove()
    assert calls[0] > 3
    assert budget.size < 200
    assert 2 * n_forwards <= len(forwards) <= 3 * n_forwards
    for attribute in ("indptr", "indices", "shares", "n_tokens", "fired"):
        np.testing.assert_array_equal(getattr(found, attribute), getattr(expected, attribute))
    for attribute in ("maxima", "maximum", "document_means"):
        np.testing.assert_allclose(getattr(found, attribute), getattr(expected, attribute), rtol=1e-4, atol=1e-5)
    assert (found.l0, found.n_outliers) == (expected.l0, expected.n_outliers)
    assert found.mean_norm == pytest.approx(expected.mean_norm, rel=1e-6)
    assert found.explained_variance == pytest.approx(expected.explained_variance, abs=1e-6)


def test_shards_with_other_borders_are_not_gone_on_with(
    model: SubjectModel, dictionary: Dictionary, rows: list[list[int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many texts of another length: fewer or more shards than those that the folder holds."""
    monkeypatch.setattr("harness.sae.corpus.collect.SHARD_TOKENS", 60)
    short = [row[:4] for row in rows]
    for name, given in (("short", short), ("long", rows)):
        measure(model, dictionary, given, tmp_path / name, token_budget=80)
    counts = {name: len((tmp_path / name / JOURNAL).read_text().splitlines()) - 1 for name in ("short", "long")}
    assert counts["short"] < counts["long"]
    for name, other in (("long", short), ("short", rows)):
        shutil.copytree(tmp_path / name, tmp_path / "a")
        measure(model, dictionary, other, tmp_path / "a", token_budget=80)
        assert content(tmp_path / "a") == content(tmp_path / ("short" if name == "long" else "long"))
        shutil.rmtree(tmp_path / "a")


def test_memory_is_that_of_one_shard(model: SubjectModel, dictionary: Dictionary, tmp_path: Path) -> None:
    """Eight times as many texts take the same memory (numpy's and Python's; torch's is that of one batch)."""
    random = np.random.default_rng(0)

    def peak(n: int) -> int:
        ends = np.arange(n + 1) * 12
        table = TokenTable(random.integers(3, 500, ends[-1]).astype(np.uint32), ends)
        tracemalloc.start()
        try:
            found = measure(model, dictionary, table, tmp_path / str(n), shard_texts=64)
            return tracemalloc.get_traced_memory()[1] - n * 3 * 8  # the lengths of all texts are looked at once
        finally:
            tracemalloc.stop()
            assert found.n_docs == n

    peak(64)  # what is imported and made once
    few, many = peak(128), peak(1024)
    assert many < 1.2 * few


def test_what_cannot_be_measured_touches_no_folder(model: SubjectModel, dictionary: Dictionary, tmp_path: Path) -> None:
    with pytest.raises(DataError) as none:
        measure(model, dictionary, [[], [1]], tmp_path / "a")
    assert none.value.given == 2
    assert none.value.hint
    with pytest.raises(DataError) as long:
        measure(model, dictionary, [[1, 2], [1] * 9999], tmp_path / "a")
    assert long.value.given == 9999
    assert "text 1 " in long.value.message
    for name, value, allowed in (("token_budget", 0, "at least 1"), ("skip", -1, "at least 0"), ("shard_texts", 0, "at least 1")):
        with pytest.raises(OptionError) as option:
            measure(model, dictionary, [[1, 2]], tmp_path / "a", **{name: value})  # type: ignore[arg-type]
        assert (option.value.given, option.value.allowed) == (value, allowed)
        assert name in option.value.message
    assert not (tmp_path / "a").exists()
    (tmp_path / "file").touch()
    with pytest.raises(StoreError) as error:
        measure(model, dictionary, [[1, 2]], tmp_path / "file" / "a")
    assert str(tmp_path / "file" / "a") in str(error.value)


# ------------------------------------------------------------------------------------------------------------------------- the files


def test_files_that_grow_together(tmp_path: Path) -> None:
    files = ShardedFiles(tmp_path, ("a", "b"), {"x": 1})
    files.append({"a": np.arange(3, dtype="<i4"), "b": np.empty((0, 4))}, "first")
    files.append({"a": np.arange(2, dtype="<i4"), "b": np.ones((1, 4))}, {"second": 2})
    assert (files.size("a"), files.size("b"), files.size("a", 1)) == (20, 32, 12)
    again = ShardedFiles(tmp_path, ("a", "b"), {"x": 1})
    assert again.notes == ["first", {"second": 2}]
    assert again.read("a", 1, "<i4").tolist() == [0, 1]
    assert again.read("b", 0, "<f8").size == 0
    again.cut(1)
    assert (tmp_path / "a").stat().st_size == 12
    assert ShardedFiles(tmp_path, ("a", "b"), {"x": 1}).notes == ["first"]
    (tmp_path / "a").write_bytes(b"")  # shorter than was committed
    files = ShardedFiles(tmp_path, ("a", "b"), {"x": 1})
    assert files.notes == []
    files.append({"a": np.arange(2, dtype="<i4"), "b": np.ones(2)}, "third")
    assert ShardedFiles(tmp_path, ("a", "b"), {"x": 2}).notes == []
