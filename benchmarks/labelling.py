"""Counting every (feature, label, threshold) in one sweep, against a dense product and a scipy-sparse product for each threshold.

    python benchmarks/labelling.py [--texts 100000] [--features 65536] [--labels 300] [--active 1000] [--thresholds 30] [--linear] [--others]
    python benchmarks/labelling.py --real PATH/cooking.stackexchange.txt --dense-features 4096 [--model M] [--dictionary tasks/demo/sae]

Without ``--real`` a load of the paper's size is drawn: features by a Zipf law, 1 to 5 labels a text (skewed), values that are counts over lengths,
in memory-mapped files in a temporary folder (8 bytes a non-zero). With it, a model reads a fastText file; what it finds stays in the artifact cache.

Ours is ``best_pairs``, scores included, in a process of its own whose largest resident memory is printed (memory-mapped pages count). The others
count TP and FP and score nothing, on a slice of features (those drawn are in no order), scaled to all: their time is linear in features. All answers
are compared. The sides run in turn; figures are medians, by the clock and by the processors' time (what a busy machine disturbs less). All use
``OMP_NUM_THREADS`` threads, but scipy's product, which has one. Bandwidth is that of copying a large array (bytes read and written); the bytes that
counting must move are those of the matrix (index and value of each non-zero) and of the labels, once. The files are in the system's cache.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from harness.scoring.columns import in_threads, n_threads
from harness.scoring.counting import best_pairs, count_blocks
from harness.types import rng

Array = NDArray[Any]
PI0 = 1e-3
PARTS = ("data", "indices", "indptr")


def draw(folder: Path, texts: int, features: int, labels: int, active: int) -> None:
    """The synthetic load, written a thousand texts at a time."""
    random = rng(0, "benchmark")
    place, weights = random.permutation(features).astype(np.int32), 1 / np.arange(1, features + 1)
    weights /= weights.sum()
    low, high = 1, 100 * features
    while high - low > 1:  # draws a text that give `active` different features on average
        middle = (low + high) // 2
        low, high = (middle, high) if (1 - (1 - weights) ** middle).sum() < active else (low, middle)
    border, indptr = np.cumsum(weights), [0]
    with (folder / "data").open("wb") as data, (folder / "indices").open("wb") as indices:
        for start in range(0, texts, 1000):
            n = min(1000, texts - start)
            drawn = np.searchsorted(border, random.random((n, high)).astype(np.float32)).astype(np.int32)
            drawn = np.sort(np.minimum(drawn, features - 1), axis=1)
            first = np.diff(drawn, axis=1, prepend=-1) > 0
            found, lengths = first.sum(axis=1), random.integers(20, 400, n)
            of = np.repeat(lengths, found)
            data.write((np.minimum(random.geometric(0.15, len(of)), of) / of).astype(np.float32).tobytes())
            indices.write(place[drawn[first]].tobytes())
            indptr.extend((indptr[-1] + found.cumsum()).tolist())
    np.array(indptr, dtype=np.int64).tofile(folder / "indptr")
    skew = 1 / np.arange(1, labels + 1) ** 0.7
    own = [random.choice(labels, random.integers(1, min(5, labels) + 1), replace=False, p=skew / skew.sum()) for _ in range(texts)]
    keep_labels(folder, own, labels)
    (folder / "shape").write_text(json.dumps([texts, features]), encoding="utf-8")


def read_model(folder: Path, path: Path, model_name: str, dictionary: str, min_support: int) -> None:
    """A model's own frequencies on a fastText file, from the artifact cache or by a pass over it."""
    from harness import sae
    from harness.files.artifacts import ArtifactCache
    from harness.files.cache_dir import cache_root
    from harness.files.progress import Progress
    from harness.model import load_model
    from harness.sae.corpus.collect import FORMAT, CorpusStatistics, measure

    words = [line.split() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    titles = [" ".join(word for word in line if not word.startswith("__label__")) for line in words]
    tags = [{word for word in line if word.startswith("__label__")} for line in words]
    names = sorted({tag for of in tags for tag in of})
    support = {name: sum(name in of for of in tags) for name in names}
    wanted = {name: i for i, name in enumerate(name for name in names if support[name] >= min_support)}
    model, target = load_model(model_name), sae.load(dictionary)

    def compute(where: Path) -> None:
        with Progress().gauge("reading the corpus") as gauge:
            measure(model, target, [np.array(model.encode(title)[:256]) for title in titles], where, progress=gauge)

    key: Any = {
        "kind": "benchmark-labelling",
        "version": FORMAT,
        "dictionary": target.digest,
        "model": [model.name, model.digest],
        "texts": titles,
    }
    found = CorpusStatistics.load(ArtifactCache(cache_root() / "artifacts").get(key, compute, "the benchmark's statistics"))
    for name in PARTS:
        part = np.asarray(getattr(found.frequencies, name))
        (part.astype(np.int64) if name == "indptr" else part).tofile(folder / name)
    keep_labels(folder, [np.array([wanted[tag] for tag in of if tag in wanted], dtype=int) for of in tags], len(wanted))
    (folder / "shape").write_text(json.dumps(found.frequencies.shape), encoding="utf-8")


def keep_labels(folder: Path, own: list[Array], labels: int) -> None:
    ptr, ids = np.concatenate([[0], np.cumsum([len(of) for of in own])]), np.concatenate(own)
    np.savez(folder / "labels.npz", ptr=ptr, ids=ids, labels=labels)


def opened(folder: Path, texts: int | None = None) -> tuple[Any, Any]:
    """(frequencies, labels) of the first ``texts`` texts; the matrix stays in its files."""
    shape = json.loads((folder / "shape").read_text(encoding="utf-8"))
    n = shape[0] if texts is None else texts
    indptr = np.fromfile(folder / "indptr", np.int64)[: n + 1]
    matrix = sparse.csr_matrix((n, shape[1]), dtype=np.float32)
    matrix.indptr = indptr
    matrix.indices = np.memmap(folder / "indices", np.int32, "r", shape=(int(indptr[-1]),))
    matrix.data = np.memmap(folder / "data", np.float32, "r", shape=(int(indptr[-1]),))
    kept = np.load(folder / "labels.npz")
    ptr = kept["ptr"][: n + 1]
    ids = kept["ids"][: ptr[-1]]
    return matrix, sparse.csr_matrix((np.ones(len(ids), dtype=np.int8), ids, ptr), shape=(n, int(kept["labels"])))


def dense_products(dense: Array, labels: Any, thresholds: list[float]) -> list[tuple[Array, Array]]:
    """(TP, FP) ``[labels, features]`` at each threshold, by one BLAS product each."""
    by_label, counted = np.ascontiguousarray(labels.toarray().T, dtype=np.float32), []
    for threshold in thresholds:
        predicted = (dense > threshold).astype(np.float32)
        tp = by_label @ predicted
        counted.append((tp, predicted.sum(axis=0) - tp))
    return counted


def sparse_products(matrix: Any, labels: Any, thresholds: list[float]) -> list[tuple[Array, Array]]:
    """(TP, FP) ``[labels, features]`` at each threshold, by one product of scipy's sparse matrices each."""
    by_label, counted = labels.T.tocsr().astype(np.int64), []
    for threshold in thresholds:
        predicted = matrix.copy()
        predicted.data = (matrix.data > threshold).astype(np.int64)
        predicted.eliminate_zeros()
        tp = (by_label @ predicted).toarray()
        counted.append((tp, np.asarray(predicted.sum(axis=0)) - tp))
    return counted


def feature_bins(matrix: Any, thresholds: list[float]) -> Array:
    """For the other ways to make one sweep: a number for each non-zero's (feature, bin)."""
    bins = np.searchsorted(np.array(thresholds, dtype=np.float32), matrix.data, side="left")
    return matrix.indices.astype(np.int64) * (len(thresholds) + 1) + bins


def cumulated(histogram: Array) -> Array:
    """TP ``[…, thresholds]`` from counts ``[…, bins]``."""
    return np.cumsum(histogram[..., :0:-1], axis=-1)[..., ::-1]


def one_product(matrix: Any, labels: Any, thresholds: list[float]) -> Array:
    """One sweep by scipy: a single sparse product with a column for each (feature, bin)."""
    column = feature_bins(matrix, thresholds)
    n_bins = len(thresholds) + 1
    wide = sparse.csr_matrix((np.ones(len(column), np.int32), column, matrix.indptr), shape=(matrix.shape[0], matrix.shape[1] * n_bins))
    return cumulated((labels.T.tocsr().astype(np.int32) @ wide).toarray().reshape(labels.shape[1], -1, n_bins).transpose(1, 0, 2))


def label_keys(matrix: Any, labels: Any, thresholds: list[float]) -> Array:
    text = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    n_own = np.diff(labels.indptr)[text]
    within = np.arange(n_own.sum()) - np.repeat(np.cumsum(n_own) - n_own, n_own)
    return (
        np.repeat(feature_bins(matrix, thresholds), n_own) * labels.shape[1]
        + labels.indices[np.repeat(labels.indptr[text], n_own) + within]
    )


def numpy_bincount(matrix: Any, labels: Any, thresholds: list[float]) -> Array:
    """One sweep by numpy: a key for each (feature, bin, label)."""
    shape = (matrix.shape[1], len(thresholds) + 1, labels.shape[1])
    counts = np.bincount(label_keys(matrix, labels, thresholds), minlength=int(np.prod(shape))).reshape(shape)
    return cumulated(counts.transpose(0, 2, 1))


def torch_bincount(matrix: Any, labels: Any, thresholds: list[float]) -> Array:
    """The same by torch."""
    import torch

    shape = (matrix.shape[1], len(thresholds) + 1, labels.shape[1])
    counts = torch.bincount(torch.from_numpy(label_keys(matrix, labels, thresholds)), minlength=int(np.prod(shape)))
    return cumulated(counts.numpy().reshape(shape).transpose(0, 2, 1))


def timed(run: Callable[[], Any]) -> tuple[Array, Any]:
    """([seconds by the clock, seconds of this process' processors], what ``run`` gave)."""
    start = np.array([time.perf_counter(), time.process_time()])
    found = run()
    return np.array([time.perf_counter(), time.process_time()]) - start, found


def bandwidth() -> float:
    """Bytes a second, read and written, of copying 512 MB with all threads; the best of five."""
    source, threads = np.ones(1 << 26), n_threads()
    target = np.zeros_like(source)
    parts = np.linspace(0, len(source), threads + 1).astype(int)

    def copy(i: int) -> None:
        np.copyto(target[parts[i] : parts[i + 1]], source[parts[i] : parts[i + 1]])

    return 2 * source.nbytes / min(timed(lambda: in_threads(copy, threads))[0][0] for _ in range(5))


def largest_resident() -> int:
    """Bytes. Linux' ``ru_maxrss`` would count what the parent process held when it started this one."""
    status = Path("/proc/self/status")
    if status.exists():
        return next(int(line.split()[1]) * 1024 for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def child(folder: Path, texts: int | None, thresholds: list[float]) -> None:
    """What the process of our side does: compile, bring the files into memory, count, and print times and its largest resident memory."""
    few, of_few = opened(folder, 2)
    first = timed(lambda: best_pairs(few, of_few, thresholds, PI0))[0][0]
    matrix, labels = opened(folder, texts)
    matrix.data.max(initial=0), matrix.indices.max(initial=0)
    took, found = timed(lambda: best_pairs(matrix, labels, thresholds, PI0))
    peak = largest_resident()
    np.savez(folder / "found.npz", threshold=found.threshold, tp=found.tp, fp=found.fp)
    print(json.dumps({"first": first, "took": took.tolist(), "peak": peak, "nnz": int(matrix.indptr[-1])}))


def in_child(args: argparse.Namespace, folder: Path, texts: int | None = None) -> Any:
    command = [sys.executable, __file__, "--child", str(folder), "--thresholds", str(args.thresholds)]
    done = subprocess.run([*command, *(["--texts", str(texts)] if texts else [])], check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


def check(folder: Path, counted: list[tuple[Array, Array]], low: int, high: int) -> None:
    """Ours found the counts that the other side has at our threshold."""
    kept = np.load(folder / "found.npz")
    place = kept["threshold"][:, low:high].astype(int)
    for name, i in (("tp", 0), ("fp", 1)):
        theirs = np.take_along_axis(np.stack([pair[i] for pair in counted]), place[None], axis=0)[0]
        assert (theirs == kept[name][:, low:high]).all(), f"{name} differs"


def compare(args: argparse.Namespace, folder: Path, thresholds: list[float]) -> None:
    matrix, labels = opened(folder)
    (texts, features), nnz = matrix.shape, int(matrix.indptr[-1])
    own = labels.nnz / texts
    print(f"{texts:,} texts × {features:,} features, {labels.shape[1]} labels ({own:.2f} a text), {len(thresholds)} thresholds")
    print(f"{nnz:,} non-zeros ({nnz / texts:,.0f} a text), {n_threads()} threads", flush=True)
    wide = sparse.csr_matrix((matrix.data, matrix.indices, matrix.indptr), shape=matrix.shape)
    widths = {"dense": min(args.dense_features, features), "scipy": min(args.scipy_features, features)}
    dense, part = wide[:, : widths["dense"]].toarray(), wide[:, : widths["scipy"]]
    ours, others = [], {name: np.zeros((args.repeats, 2)) for name in widths}
    for turn in range(args.repeats):
        ours.append(in_child(args, folder))
        others["dense"][turn], counted = timed(lambda: dense_products(dense, labels, thresholds))
        check(folder, counted, 0, widths["dense"])
        others["scipy"][turn], counted = timed(lambda: sparse_products(part, labels, thresholds))
        check(folder, counted, 0, widths["scipy"])
    took, cpu = np.median([run["took"] for run in ours], axis=0)
    peak, needed, speed = max(run["peak"] for run in ours), nnz * 8 + labels.nnz * 8, bandwidth()
    print(f"first call of a process: {ours[0]['first']:.2f} s, then {ours[-1]['first']:.2f} s; largest resident memory {peak / 1e9:.2f} GB")
    print(f"ours: {took:.3f} s by the clock, {cpu:.3f} s of processors (clock: {[round(run['took'][0], 3) for run in ours]})")
    print(f"rate: {nnz * own / took / 1e6:,.0f} million (non-zeros × labels a text) a second, {nnz * own / cpu / 1e6:,.0f} a processor")
    print(f"bandwidth of a copy {speed / 1e9:.1f} GB/s; ours must move {needed / 1e9:.3f} GB: {needed / took / speed:.1%} of it")
    for name, width in widths.items():
        clock, processors = np.median(others[name], axis=0) * features / width
        print(
            f"{name} product for each threshold, from {width:,} features: {clock:.1f} s by the clock, {processors:.1f} s of processors: "
            f"ours is {clock / took:.1f} times as fast by the clock, {processors / cpu:.1f} times by processors"
        )


def compare_sweeps(folder: Path, thresholds: list[float], width: int) -> None:
    """Other ways to make the sweep, on a slice of features; all equal."""
    matrix, labels = opened(folder)
    matrix = sparse.csr_matrix((matrix.data, matrix.indices, matrix.indptr), shape=matrix.shape)[:, :width]
    print(f"one sweep over {matrix.nnz:,} non-zeros of {matrix.shape[1]:,} features, counts of every threshold (processors' time):")

    def ours() -> Array:
        return np.concatenate([block.tp for block in count_blocks(matrix, labels, thresholds)])

    expected = ours()
    best_pairs(matrix, labels, thresholds, PI0)
    print(f"  ours, best threshold only {timed(lambda: best_pairs(matrix, labels, thresholds, PI0))[0][1]:.3f} s")
    for run in (ours, numpy_bincount, one_product, torch_bincount):
        took, found = timed(run if run is ours else lambda run=run: run(matrix, labels, thresholds))
        assert (found == expected).all()
        print(f"  {run.__name__.replace('_', ' ')} {took[1]:.3f} s")


def linear(args: argparse.Namespace, folder: Path, texts: int) -> None:
    """Processors' time against non-zeros: the exponent, and a straight line (what all pairs cost, and what a non-zero)."""
    sizes = (texts // 10, texts * 3 // 10, texts)
    found = [[in_child(args, folder, n) for n in sizes] for _ in range(args.repeats)]
    nnz, took = np.array([run["nnz"] for run in found[0]]), np.median([[run["took"][1] for run in turn] for turn in found], axis=0)
    slope, fixed = np.polyfit(nnz, took, 1)
    print(
        "processors' time: "
        + "; ".join(f"{n:,} non-zeros {t:.3f} s ({fixed + slope * n:.3f} on the line)" for n, t in zip(nnz, took, strict=True))
    )
    exponents = [np.log(took[i + 1] / took[i]) / np.log(nnz[i + 1] / nnz[i]) for i in (0, 1)]
    print(f"exponent {np.polyfit(np.log(nnz), np.log(took), 1)[0]:.2f} ({exponents[0]:.2f}, then {exponents[1]:.2f})")
    print(f"line: {fixed:.3f} s for all pairs and {slope * 1e9:.1f} ns a non-zero")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--texts", type=int)
    parser.add_argument("--features", type=int, default=65_536)
    parser.add_argument("--labels", type=int, default=300)
    parser.add_argument("--active", type=int, default=1000, help="active features a text, on average")
    parser.add_argument("--thresholds", type=int, default=30)
    parser.add_argument("--dense-features", type=int, default=256, help="features of the dense product's slice")
    parser.add_argument("--scipy-features", type=int, default=4096, help="features of the scipy product's slice")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--linear", action="store_true", help="also time a tenth and three tenths of the texts")
    parser.add_argument("--others", action="store_true", help="also time other ways to make the sweep")
    parser.add_argument("--real", type=Path, metavar="PATH", help="a fastText file that the model reads")
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--dictionary", default="tasks/demo/sae")
    parser.add_argument("--min-support", type=int, default=50)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    thresholds = [float(threshold) for threshold in np.linspace(0, 0.9, args.thresholds)]
    if args.child:
        child(args.child, args.texts, thresholds)
        return
    with tempfile.TemporaryDirectory(prefix="harness-labelling-") as name:
        folder = Path(name)
        if args.real:
            read_model(folder, args.real, args.model, args.dictionary, args.min_support)
        else:
            draw(folder, args.texts or 100_000, args.features, args.labels, args.active)
        compare(args, folder, thresholds)
        if args.linear:
            linear(args, folder, opened(folder)[0].shape[0])
        if args.others:
            compare_sweeps(folder, thresholds, 1024)


if __name__ == "__main__":
    main()
