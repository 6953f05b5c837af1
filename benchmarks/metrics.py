"""How long do sparse probes of one dictionary take, against sae-probes' own loop on the same vectors, and how does that grow with the width?

    python benchmarks/metrics.py [--quick] [--sae-probes FOLDER] [--record FILE]

Vectors are made up: some rows of each data set lie along a few decoder rows. Both sides encode them, choose latents and fit probes; the loop is
`sae_probes.run_sae_evals`' (dense encodings, one scikit-learn regression for each C and k). Its results must agree with ours: the largest difference
of AUROC is printed. `sae_probes` is imported from FOLDER (an unpacked wheel: `pip download --no-deps sae-probes==0.4.2`, then `unzip`), or from where
it is installed; of its dependencies xgboost alone is not needed here, and is replaced by an empty module where it is absent.

`--record` writes vectors of real texts, their labels and sae-probes' numbers to FILE: what tests/plugins/metrics/test_sparse_probes_oracle.py reads.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import sys
import tempfile
import time
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_matrix

from harness.measuring.probes import encode_rows, probe
from harness.measuring.readings import Readings
from harness.measuring.vectors import KeptVectors
from harness.sae.dictionary import Dictionary
from harness.types import rng

D_IN, L0, ROUNDS = 576, 32, 5


def made_up(width: int) -> Dictionary:
    """Return a dictionary of random unit rows with a tied encoder, of which about 32 latents are active at a random vector."""
    from sae_lens import JumpReLUSAE, JumpReLUSAEConfig

    sae: Any = JumpReLUSAE(JumpReLUSAEConfig(d_in=D_IN, d_sae=width, dtype="float32", device="cpu", apply_b_dec_to_input=True))
    rows = torch.from_numpy(rng(0, "benchmark-rows", str(width)).standard_normal((width, D_IN))).float()
    rows = rows / rows.norm(dim=-1, keepdim=True)
    with torch.no_grad():
        sae.W_dec.copy_(rows)
        sae.W_enc.copy_(rows.T)
        sae.b_enc.zero_()
        sae.b_dec.zero_()
        sae.threshold.fill_(float(np.sqrt(2) * _inverse_tail(L0 / width)))
    return Dictionary(sae, 0, f"random rows, width {width}")


def _inverse_tail(share: float) -> float:
    """Return where a normal distribution has this share above it, over the square root of two."""
    from scipy.special import erfcinv

    return float(erfcinv(2 * share))


def made_up_set(dictionary: Dictionary, number: int, rows: int) -> tuple[torch.Tensor, np.ndarray[Any, np.dtype[np.bool_]]]:
    """Return vectors ``[rows, 576]``, half of which lie along eight decoder rows, and which do."""
    draw = rng(0, "benchmark-set", str(number))
    y = draw.permutation(np.arange(rows) % 2 == 0)
    x = draw.standard_normal((rows, D_IN))
    along = dictionary.sae.W_dec[draw.permutation(dictionary.d_sae)[:8]].numpy().astype(np.float64)
    x[y] += draw.exponential(2.0, (int(y.sum()), 8)) * draw.integers(0, 2, (int(y.sum()), 8)) @ along
    return torch.from_numpy(x).float(), y


def kept(x: torch.Tensor, folder: Path, number: int) -> Readings:
    """Return vectors as the metric finds them: on disk."""
    path = folder / f"{number}.bin"
    path.write_bytes(x.numpy().tobytes())
    vectors = KeptVectors(path, len(x), x.shape[1], "float32", torch.device("cpu"))
    return Readings(vectors, np.arange(len(x)), np.zeros(len(x), dtype=np.int64))


def ours(dictionary: Dictionary, sets: list[Any], train: int, ks: tuple[int, ...], penalty: Any = "l2") -> list[dict[int, Any]]:
    """Return what our probes get, set by set, by k."""
    found = []
    for readings, _, y in sets:
        table = encode_rows(dictionary, readings, len(y))
        draw = rng(0, "benchmark-folds")
        found.append(
            probe(table[:train], y[:train], table[train:], y[train:], ks, selection="scaled-mean-difference", penalty=penalty, draw=draw)
        )
    return found


def theirs(package: Any, dictionary: Dictionary, sets: list[Any], train: int, ks: tuple[int, ...], penalty: str = "l2") -> list[dict[int, Any]]:
    """Return what sae-probes gets: its functions in the order in which its ``run_sae_eval`` calls them."""
    evals, training = package
    found = []
    for _, x, y in sets:
        with torch.inference_mode():
            codes = torch.cat([dictionary.sae.encode(part).float() for part in x.split(128)])
        labels = torch.from_numpy(y.astype(np.int64))
        order = evals.get_sorted_indices(codes[:train], labels[:train], evals.mean_act_normalization)
        found.append(
            {
                k: training.find_best_reg(
                    X_train=codes[:train, order[:k]], y_train=labels[:train], X_test=codes[train:, order[:k]], y_test=labels[train:],
                    penalty=penalty, seed=42,
                )
                for k in ks
            }
        )  # fmt: skip
    return found


def import_sae_probes(folder: str | None) -> Any:
    """Return the modules of sae-probes whose functions are called; ends the script where it cannot be had."""
    if folder is not None:
        sys.path.insert(0, folder)
    if importlib.util.find_spec("xgboost") is None:
        sys.modules["xgboost"] = types.ModuleType("xgboost")  # of methods that are not called
    warnings.simplefilter("ignore")
    try:
        # by import_module: the package has a function of the first one's name, which `import … as` would bind
        evals, training = (importlib.import_module(f"sae_probes.{name}") for name in ("run_sae_evals", "utils_training"))
    except ImportError as error:
        sys.exit(
            f"sae-probes cannot be imported ({error}); get it with `pip download --no-deps sae-probes==0.4.2`, unzip the wheel and give its folder "
            "as --sae-probes, or compare nothing with --alone"
        )
    return evals, training


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    found = work()
    return time.perf_counter() - start, found


def compare(package: Any, folder: Path, n_sets: int, train: int, test: int, ks: tuple[int, ...], rounds: int) -> None:
    dictionary = made_up(4096)
    sets = [(kept(x, folder, number), x, y) for number in range(n_sets) for x, y in [made_up_set(dictionary, number, train + test)]]
    ours(dictionary, sets[:1], train, ks)
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        own_time, own = timed(lambda: ours(dictionary, sets, train, ks))
        loop_time, loop = timed(lambda: theirs(package, dictionary, sets, train, ks))
        times[0].append(own_time)
        times[1].append(loop_time)
    a, b = (float(np.median(part)) for part in times)
    off = [abs(x[k].auc - y[k].metrics.test_auc) for x, y in zip(own, loop, strict=True) for k in ks]
    print(f"{n_sets} sets, {train}/{test} rows, width 4,096, k {', '.join(map(str, ks))}: {a:.2f} s; sae-probes {b:.2f} s; ratio {b / a:.1f}")
    mean = np.mean([x[k].auc for x in own for k in ks])
    print(f"AUROC: mean {mean:.4f}; largest difference {max(off):.5f}; {sum(o > 1e-3 for o in off)} above .001")


def by_width(folder: Path, widths: tuple[int, ...], train: int, test: int, rounds: int) -> None:
    base = None
    for width in widths:
        dictionary = made_up(width)
        x, y = made_up_set(dictionary, 0, train + test)
        sets = [(kept(x, folder, 0), x, y)] * 4
        ours(dictionary, sets[:1], train, (1, 5))
        seconds = float(np.median([timed(lambda: ours(dictionary, sets, train, (1, 5)))[0] for _ in range(rounds)]))  # noqa: B023
        base = base or (width, seconds)
        print(f"width {width:>7,}: {seconds:.3f} s for 4 sets, {seconds / base[1]:.2f} of the first for {width / base[0]:.0f} times its width")


def record(package: Any, path: Path) -> None:
    """Write real latents of a small dictionary, labels, and sae-probes' numbers: one table for each data set, sparse."""
    from harness.data.probe_sets import open_probe_folder
    from harness.interventions import Site
    from harness.model.activations import residuals
    from harness.model.loading import load_model
    from harness.sae.loading import load

    shared = Path(os.environ.get("HARNESS_TEST_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
    model = load_model(str(shared / "lm" / "stories260K"), device="cpu", dtype="float32")
    dictionary = load(shared / "sae" / "stories260K_l2_batchtopk", device="cpu")
    folder, arrays = open_probe_folder(str(Path(package[0].__file__).parent)), {}
    for name in ("87_glue_cola", "105_click_bait", "56_wikidatasex_or_gender"):
        found = folder.read(name)
        rows = [model.encode(text)[-64:] for text in found.texts[:450]]
        y = found.target[:450]
        x = torch.zeros(len(rows), model.d_model)
        for batch in residuals(model, rows, Site(2), skip=0):
            x[list(batch.rows)] = batch.x[torch.arange(len(batch.rows)), batch.real.sum(dim=1) - 1].float()
        codes = dictionary.encode(x)
        table = csr_matrix(codes.numpy())
        arrays |= {f"{name}/data": table.data, f"{name}/indices": table.indices.astype(np.int16), f"{name}/indptr": table.indptr, f"{name}/y": y}
        for penalty, ks in (("l2", (1, 2, 5, 20)), ("l1", (1, 5))):  # its lasso takes long
            got = theirs_on(package, codes, y, 300, ks, penalty)
            arrays[f"{name}/{penalty}"] = np.array([[k, one.metrics.test_auc, one.metrics.test_acc, one.metrics.test_f1] for k, one in got.items()])
    np.savez_compressed(path, **arrays)
    print(f"wrote {path}")


def theirs_on(package: Any, codes: torch.Tensor, y: np.ndarray[Any, Any], train: int, ks: tuple[int, ...], penalty: str) -> dict[int, Any]:
    evals, training = package
    labels = torch.from_numpy(y.astype(np.int64))
    order = evals.get_sorted_indices(codes[:train], labels[:train], evals.mean_act_normalization)
    fit = lambda k: training.find_best_reg(  # noqa: E731
        X_train=codes[:train, order[:k]], y_train=labels[:train], X_test=codes[train:, order[:k]], y_test=labels[train:], penalty=penalty, seed=42
    )
    return {k: fit(k) for k in ks}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer data sets, rows and rounds")
    parser.add_argument("--sae-probes", metavar="FOLDER", help="the unpacked wheel of sae-probes 0.4.2")
    parser.add_argument("--alone", action="store_true", help="time ours alone")
    parser.add_argument("--record", metavar="FILE", type=Path, help="write the tests' recorded numbers")
    given = parser.parse_args()
    package = None if given.alone else import_sae_probes(given.sae_probes)
    if given.record:
        return record(package, given.record)
    rounds = 1 if given.quick else ROUNDS
    with tempfile.TemporaryDirectory() as folder:
        if package is not None:
            compare(package, Path(folder), 3 if given.quick else 20, 400, 200, (1, 5), rounds)
            if not given.quick:
                compare(package, Path(folder), 3, 1024, 475, (1, 2, 5, 20), rounds)
        by_width(Path(folder), (4096, 16384) if given.quick else (4096, 16384, 65536), 400, 200, rounds)
    return None


if __name__ == "__main__":
    main()
