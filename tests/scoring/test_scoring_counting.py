"""One sweep against the definition: every (feature, label, threshold) counted on the dense array, scikit-learn, and what must not matter."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.metrics import f1_score, roc_auc_score

from harness.scoring import ScoringError, auroc, calibrated_f1, columns, counting, f1
from harness.scoring.counting import auroc_pairs, best_pairs, confusion_at, count_blocks

Array = np.ndarray[Any, Any]
GRID = (0.0, 0.1, 0.2, 0.25, 1 / 3, 0.5, 0.9)
SETTINGS = settings(max_examples=60, deadline=None)


@st.composite
def cases(draw: st.DrawFn, negative: bool = False) -> tuple[Array, Array, Any, Any]:
    """(dense values, dense labels, the same as csr in one of many layouts, the labels as sparse); stored zeros, unsorted indices, empty rows."""
    seed = draw(st.integers(0, 2**32 - 1))
    r = np.random.default_rng(seed)
    shape = (draw(st.integers(1, 40)), draw(st.integers(1, 9)))
    n_labels = draw(st.integers(1, 5))
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    # shares of short texts, so that many lie exactly on a threshold, and thresholds themselves
    values = (r.integers(0, 11, shape) / r.integers(10, 13, (shape[0], 1))).astype(dtype)
    values = np.where(r.random(shape) < 0.3, r.choice(np.array(GRID, dtype=dtype), shape), values)
    if negative:
        values *= r.choice([-1, 1], shape)
    stored = r.random(shape) < draw(st.sampled_from([0.0, 0.2, 0.9]))
    labels = r.random((shape[0], n_labels)) < draw(st.sampled_from([0.0, 0.3, 1.0]))
    indptr = np.concatenate([[0], stored.sum(axis=1).cumsum()])
    indices = np.concatenate([r.permutation(np.flatnonzero(row)) for row in stored] or [[]])
    data = values[np.repeat(np.arange(shape[0]), np.diff(indptr)), indices.astype(int)]
    integer = draw(st.sampled_from([np.int32, np.int64]))
    matrix = sparse.csr_matrix(shape, dtype=dtype)
    matrix.data, matrix.indices, matrix.indptr = data, indices.astype(integer), indptr.astype(integer)
    if draw(st.booleans()):
        for array in (matrix.data, matrix.indices, matrix.indptr):
            array.flags.writeable = False
    by_text = draw(st.sampled_from([sparse.csr_matrix, sparse.csc_matrix, sparse.csr_array]))(labels)
    return np.where(stored, values, 0).astype(dtype), labels, matrix, by_text


grids = st.lists(st.sampled_from([*GRID, 1e-9, 0.1000001, 2.0]), min_size=1, max_size=8)


def counted(dense: Array, labels: Array, thresholds: list[float]) -> tuple[Array, Array]:
    """TP ``[features, labels, thresholds]`` and predicted ``[features, thresholds]`` by the definition."""
    above = np.stack([dense > threshold for threshold in thresholds], axis=-1)
    return np.einsum("xft,xl->flt", above.astype(int), labels.astype(int)), above.sum(axis=0)


@given(case=cases(), thresholds=grids, block=st.one_of(st.none(), st.integers(1, 12)))
@SETTINGS
def test_every_count_is_that_of_the_definition(case: tuple[Array, Array, Any, Any], thresholds: list[float], block: int | None) -> None:
    dense, labels, matrix, by_text = case
    tp, predicted = counted(dense, labels, thresholds)
    seen = 0
    for found in count_blocks(matrix, by_text, thresholds, block=block):
        assert found.first_feature == seen
        assert found.tp.dtype == found.predicted.dtype == np.int32
        part = slice(seen, seen + len(found.tp))
        np.testing.assert_array_equal(found.tp, tp[part])
        np.testing.assert_array_equal(found.predicted, predicted[part])
        np.testing.assert_array_equal(found.support, labels.sum(axis=0))
        assert found.n == len(dense)
        seen += len(found.tp)
        assert block is None or len(found.tp) <= block
    assert seen == dense.shape[1]


@given(case=cases(), thresholds=grids, pi0=st.sampled_from([1e-3, 0.05, 0.5, 0.99]), score=st.sampled_from(["calibrated-f1", "f1"]))
@SETTINGS
def test_the_best_threshold_of_each_pair(case: tuple[Array, Array, Any, Any], thresholds: list[float], pi0: float, score: Any) -> None:
    dense, labels, matrix, by_text = case
    tp, predicted = counted(dense, labels, thresholds)
    support, n = labels.sum(axis=0), len(dense)
    fp = predicted[:, None, :] - tp
    fn = support[None, :, None] - tp
    values = calibrated_f1(tp, fp, fn, n - tp - fp - fn, pi0=pi0) if score == "calibrated-f1" else f1(tp, fp, fn)
    found = best_pairs(matrix, by_text, thresholds, pi0, score=score)
    assert [array.dtype for array in (found.score, found.threshold, found.tp, found.fp)] == [np.float64, np.uint8, np.int32, np.int32]
    ascending = sorted(range(len(thresholds)), key=lambda place: thresholds[place])
    for label in range(labels.shape[1]):
        for feature in range(dense.shape[1]):
            got = [array[label, feature] for array in (found.score, found.threshold, found.tp, found.fp)]
            if support[label] in (0, n):
                assert np.isnan(got[0])
                assert got[1:] == [0, 0, 0]
                continue
            best = max(ascending, key=lambda place: values[feature, label, place])  # the first, so the lowest, of equals
            assert got[0] == values[feature, label, best]  # to the bit
            assert dense.dtype.type(thresholds[got[1]]) == dense.dtype.type(thresholds[best])
            assert got[2:] == [tp[feature, label, best], fp[feature, label, best]]


@given(case=cases(negative=True))
@SETTINGS
def test_auroc_of_each_pair(case: tuple[Array, Array, Any, Any]) -> None:
    dense, labels, matrix, by_text = case
    found = auroc_pairs(matrix, by_text)
    assert found.shape == (labels.shape[1], dense.shape[1])
    for label, truth in enumerate(labels.T):
        for feature, values in enumerate(dense.T):
            if truth.all() or not truth.any():
                assert np.isnan(found[label, feature])
            else:
                assert found[label, feature] == auroc(values, truth)  # to the bit
                if label == feature:  # it is slow
                    assert found[label, feature] == pytest.approx(roc_auc_score(truth, values), abs=1e-12)


@given(case=cases(), threshold=st.sampled_from(GRID))
@SETTINGS
def test_f1_is_that_of_scikit_learn(case: tuple[Array, Array, Any, Any], threshold: float) -> None:
    dense, labels, matrix, by_text = case
    found = best_pairs(matrix, by_text, [threshold], 0.5, score="f1")
    for label, truth in enumerate(labels.T):
        if truth.any() and not truth.all():
            for feature, values in enumerate(dense.T):
                predicted = values > values.dtype.type(threshold)
                assert found.score[label, feature] == pytest.approx(f1_score(truth, predicted, zero_division=0.0), abs=1e-12)
                tp, fp, *_ = confusion_at(values, truth, threshold)
                assert (found.tp[label, feature], found.fp[label, feature]) == (tp, fp)


@given(case=cases(), data=st.data())
@SETTINGS
def test_rows_are_the_matrix_of_these_rows(case: tuple[Array, Array, Any, Any], data: st.DataObject) -> None:
    _, labels, matrix, _ = case
    n, by_text = matrix.shape[0], sparse.csr_matrix(labels)
    if data.draw(st.booleans()):
        rows: Any = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)), dtype=bool)
    else:
        rows = data.draw(st.lists(st.integers(0, n - 1), max_size=30))  # any order, repeats
    part, part_labels = matrix[rows], by_text[rows]
    one, other = best_pairs(matrix, by_text, GRID, 0.1, rows=rows), best_pairs(part, part_labels, GRID, 0.1)
    for name in ("score", "threshold", "tp", "fp", "support", "n"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    np.testing.assert_array_equal(auroc_pairs(matrix, by_text, rows=rows), auroc_pairs(part, part_labels))
    for a, b in zip(count_blocks(matrix, by_text, GRID, rows=rows), count_blocks(part, part_labels, GRID), strict=True):
        np.testing.assert_array_equal(a.tp, b.tp)
        np.testing.assert_array_equal(a.predicted, b.predicted)


def load(texts: int = 3000, features: int = 300, labels: int = 40, seed: int = 0) -> tuple[Any, Any]:
    """A corpus that is larger than one tile, one piece and one group of ordered texts."""
    r = np.random.default_rng(seed)
    density = 0.3 / np.arange(1, features + 1) ** 0.5
    dense = np.where(r.random((texts, features)) < density, r.integers(1, 30, (texts, features)) / 50, 0)
    return sparse.csr_matrix(dense.astype(np.float32)), sparse.csr_matrix(r.random((texts, labels)) < 0.05)


@pytest.fixture(scope="module")
def whole() -> tuple[Any, Any, Any, Array, Array]:
    """:func:`load` and what is in it: the best pairs and AUROC by one thread in blocks of the usual size, and every TP by the definition."""
    matrix, labels = load()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        plain, plain_auroc = best_pairs(matrix, labels, GRID, 1e-2), auroc_pairs(matrix, labels)
    return matrix, labels, plain, plain_auroc, counted(matrix.toarray(), labels.toarray(), list(GRID))[0]


@pytest.mark.parametrize("threads", ["1", "2", "5"])
@pytest.mark.parametrize("entries", [1, 500, 1 << 27])
def test_neither_blocks_nor_threads_change_anything(
    monkeypatch: pytest.MonkeyPatch, threads: str, entries: int, whole: tuple[Any, Any, Any, Array, Array]
) -> None:
    matrix, labels, plain, plain_auroc, every_tp = whole
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    monkeypatch.setattr(columns, "ENTRIES", entries)
    monkeypatch.setattr(columns, "_NEAR", 700)
    monkeypatch.setattr(columns, "PACKED_TEXTS", 100)  # eight bytes an entry
    monkeypatch.setattr(counting, "_TILE", 1000)
    seen: list[tuple[int, int]] = []
    found = best_pairs(matrix, labels, GRID, 1e-2, progress=lambda *done: seen.append(done))
    for name in ("score", "threshold", "tp", "fp"):
        np.testing.assert_array_equal(getattr(found, name), getattr(plain, name))
    np.testing.assert_array_equal(auroc_pairs(matrix, labels), plain_auroc)
    assert seen == sorted(seen)
    assert seen[-1] == (300, 300)
    tp = np.concatenate([block.tp for block in count_blocks(matrix, labels, GRID, block=7)])
    np.testing.assert_array_equal(tp, every_tp)


def test_memory_mapped_files_are_read_where_they_lie(tmp_path: Path) -> None:
    matrix, labels = load(seed=1)
    parts = {}
    for name in ("data", "indices", "indptr"):
        np.save(tmp_path / f"{name}.npy", getattr(matrix, name))
        parts[name] = np.load(tmp_path / f"{name}.npy", mmap_mode="r")
    mapped = sparse.csr_matrix((parts["data"], parts["indices"], parts["indptr"]), shape=matrix.shape, copy=False)
    assert not mapped.data.flags.writeable
    read, _ = columns.read_matrix(mapped, labels)
    assert np.shares_memory(read.data, parts["data"])
    assert np.shares_memory(read.indices, parts["indices"])
    np.testing.assert_array_equal(best_pairs(mapped, labels, GRID, 0.1).score, best_pairs(matrix, labels, GRID, 0.1).score)
    np.testing.assert_array_equal(auroc_pairs(mapped, labels), auroc_pairs(matrix, labels))


def test_many_thresholds_and_large_values() -> None:
    """The whole range of a grid's length, values beyond it, infinities, and thresholds that share a cell of the table."""
    r = np.random.default_rng(5)
    thresholds = sorted({0.0, 1e-40, *r.random(200).tolist(), *(0.5 + r.random(50) * 1e-6).tolist(), 1.0, float("inf")})
    dense = np.concatenate([r.choice(thresholds, (60, 4)), r.random((60, 4)) * 3, [[np.inf, 1e30, 1.0, 0.0]]]).astype(np.float32)
    labels = r.random((121, 3)) < 0.4
    tp = np.concatenate([block.tp for block in count_blocks(sparse.csr_matrix(dense), sparse.csr_matrix(labels), thresholds)])
    np.testing.assert_array_equal(tp, counted(dense, labels, thresholds)[0])


@pytest.mark.parametrize("pi0", [1e-3, 0.1])
def test_calibrated_f1_ignores_the_support(pi0: float) -> None:
    """The positives taken ten times: equal recall and false-positive rate, ten times the support, an equal score; ordinary F1 rises."""
    r = np.random.default_rng(2)
    dense = (r.integers(0, 12, (400, 6)) / 12).astype(np.float32)
    truth = (dense[:, [0]] + r.random((400, 1)) > 1.2).astype(int)
    rows = np.concatenate([np.flatnonzero(truth == 0), np.tile(np.flatnonzero(truth), 10)])
    matrix, labels = sparse.csr_matrix(dense), sparse.csr_matrix(truth)
    once, often = best_pairs(matrix, labels, GRID, pi0), best_pairs(matrix, labels, GRID, pi0, rows=rows)
    assert often.support == 10 * once.support
    np.testing.assert_allclose(often.score, once.score, rtol=1e-12)
    plain = [best_pairs(matrix, labels, GRID, pi0, score="f1", rows=of).score for of in (None, rows)]
    assert (plain[1] > plain[0] + 0.01).all()


def test_nothing_to_count() -> None:
    for texts, features, labels in ((0, 2, 2), (3, 0, 2), (3, 2, 0)):
        matrix, by_text = sparse.csr_matrix((texts, features), dtype=np.float32), sparse.csr_matrix((texts, labels), dtype=bool)
        found = best_pairs(matrix, by_text, [0.1], 0.1)
        assert found.score.shape == found.tp.shape == auroc_pairs(matrix, by_text).shape == (labels, features)
        assert np.isnan(found.score).all()
        assert sum(len(block.tp) for block in count_blocks(matrix, by_text, [0.1])) == features


def test_what_has_no_meaning_is_refused() -> None:
    one = sparse.csr_matrix([[1.0], [0.0]])
    for thresholds in ([], [-0.1], [float("nan")], np.linspace(0, 1, 255).tolist()):
        with pytest.raises(ScoringError) as error:
            best_pairs(one, one, thresholds, 0.1)
        assert error.value.given is thresholds
        assert "1 to 254" in str(error.value.allowed)
    cases: list[tuple[Callable[[], Any], Any, str]] = [
        (lambda: count_blocks(one, sparse.csr_matrix([[1.0]]), [0.1]), 1, "2 texts"),
        (lambda: best_pairs(one, one, [0.1], 1.0), 1.0, "above 0 and below 1"),
        (lambda: best_pairs(one, one, [0.1], 0.1, score="auroc"), "auroc", "'calibrated-f1', 'f1'"),  # type: ignore[arg-type]
        (lambda: best_pairs(one, 2 * one, [0.1], 0.1), 2, "1/0"),
        (lambda: best_pairs(one.astype(np.int64), one, [0.1], 0.1), "int64", "'float32', 'float64'"),
        (lambda: auroc_pairs(one.toarray(), one), "ndarray", "scipy sparse matrix"),
        (lambda: count_blocks(one, one, [0.1], block=0), 0, "at least 1"),
        (lambda: best_pairs(one, one, [0.1], 0.1, rows=[2]), 2, "0 to 1"),
        (lambda: best_pairs(one, one, [0.1], 0.1, rows=[-1]), -1, "0 to 1"),
        (lambda: best_pairs(one, one, [0.1], 0.1, rows=[0.5]), (1,), "row numbers"),
        (lambda: best_pairs(one, one, [0.1], 0.1, rows=[True]), (1,), "2 texts"),
    ]
    for call, refused, allowed in cases:
        with pytest.raises(ScoringError) as error:
            call()
        assert error.value.given == refused
        assert allowed in str(error.value.allowed)
    with pytest.raises(ScoringError) as error:
        auroc_pairs(sparse.csr_matrix([[np.nan], [1.0]]), one)
    assert np.isnan(error.value.given)  # type: ignore[call-overload]
    assert error.value.hint


def test_a_damaged_matrix_is_an_error_not_a_crash() -> None:
    matrix, labels = load(seed=3)
    matrix.indices = matrix.indices.copy()
    for wrong in (matrix.shape[1], -1, 2**31 - 1):
        matrix.indices[5] = wrong
        with pytest.raises(ScoringError) as error:
            best_pairs(matrix, labels, GRID, 0.1)
        assert "0 to 299" in str(error.value.allowed)
        assert error.value.hint
    matrix, labels = load(seed=3)
    matrix.indptr = matrix.indptr.copy()
    matrix.indptr[7] = 2**30
    with pytest.raises(ScoringError) as error:
        best_pairs(matrix, labels, GRID, 0.1)
    assert error.value.allowed is None
    assert error.value.hint


PROGRAM = """
import sys
import numpy as np
from scipy import sparse
import harness.scoring.counting as counting
assert "numba" not in sys.modules
{prepare}
one = sparse.csr_matrix(np.array([[0.5, 0.0], [0.0, 0.2], [0.9, 0.0]], dtype=np.float32))
labels = sparse.csr_matrix([[1], [0], [1]])
{count}
"""
PAIRS = "found = counting.best_pairs(one, labels, [0.0, 0.3], 0.1)\nprint(found.score.tolist(), found.tp.tolist())"
AUROC = "print(counting.auroc_pairs(one, labels).tolist())"
"""Its three loops are made in half the time of the others' five."""
BROKEN = {
    "nothing": "",
    "no folder to keep machine code in": "import numba.core.caching as c\nc.CacheImpl._locator_classes = []",
    "a full disk": (
        "import errno, numba.core.caching as c\ndef full(*_): raise OSError(errno.ENOSPC, 'no space')\nc.IndexDataCacheFile.save = full"
    ),
    "an interpreter without the compiler": "",
}


@pytest.mark.parametrize("case", BROKEN)
def test_machine_code_that_cannot_be_kept_is_made_again(case: str, tmp_path: Path) -> None:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path), "OMP_NUM_THREADS": "2"}
    if case == "an interpreter without the compiler":
        environment["NUMBA_DISABLE_JIT"] = "1"

    def answer() -> str:
        program = PROGRAM.format(prepare=BROKEN[case], count=AUROC if BROKEN[case] else PAIRS)
        done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    expected = "[[1.0, 0.0]]" if BROKEN[case] else "[[1.0, 0.0]] [[2, 0]]"
    assert answer() == expected
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert bool(kept) == (case == "nothing")
    for path in kept:
        path.write_bytes(b"damaged")
    if kept:
        assert answer() == expected
