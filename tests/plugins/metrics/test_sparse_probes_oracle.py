"""sae-probes' own code found these numbers on the latents of a real dictionary; benchmarks/metrics.py --record wrote them down.

450 texts of each of three of its data sets, read by stories260K: the first 300 fit, the others test.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from harness.measuring.probes import probe

RECORDED = Path(__file__).with_name("sae_probes.npz")
TRAIN = 300


@pytest.fixture(scope="module")
def recorded() -> Any:
    with np.load(RECORDED, allow_pickle=False) as saved:
        return dict(saved)


@pytest.mark.parametrize("name", ["87_glue_cola", "105_click_bait", "56_wikidatasex_or_gender"])
@pytest.mark.parametrize(("penalty", "within"), [("l2", 1e-3), ("l1", 2e-2)])
def test_the_numbers_are_theirs(recorded: Any, name: str, penalty: Any, within: float) -> None:
    """Their lasso stops before the optimum, so its numbers are near ours and no more.

    Where the latents tell nothing (about .50), l2 is off by up to .0015, and rows differ; why has not been looked into.
    """
    y = recorded[f"{name}/y"]
    parts = tuple(recorded[f"{name}/{part}"] for part in ("data", "indices", "indptr"))
    table = csr_matrix((parts[0], parts[1].astype(np.int32), parts[2]), shape=(len(y), 512))
    theirs = recorded[f"{name}/{penalty}"]
    ks = [int(k) for k in theirs[:, 0]]
    found = probe(
        table[:TRAIN], y[:TRAIN], table[TRAIN:], y[TRAIN:], ks, selection="scaled-mean-difference", penalty=penalty, draw=np.random.default_rng(0)
    )
    for k, auc, accuracy, f1 in theirs:
        one = found[int(k)]
        assert one.auc == pytest.approx(auc, abs=within if auc > 0.55 else max(within, 1.5e-3))
        if auc > 0.55:
            assert one.accuracy == pytest.approx(accuracy, abs=within + 1 / 150)  # a row on the border is on either side
            assert one.f1 == pytest.approx(f1, abs=within + 1 / 150)
