"""The split into texts that choose and texts that report: a share, by the seed, and copies of a text on one side."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from harness.labelling.splits import split_texts
from harness.types import rng


def bench(rows: list[list[int]], seed: int = 0) -> Any:
    warnings: list[str] = []
    tokens = [np.array(row, dtype=np.int64) for row in rows]
    return SimpleNamespace(
        corpus=rows, corpus_tokens=tokens, rng=lambda purpose, item="": rng(seed, purpose, item), warn=warnings.append, warnings=warnings
    )


@given(rows=st.lists(st.lists(st.integers(0, 2), max_size=3), min_size=1, max_size=40), held_out=st.sampled_from([0.0, 0.25, 0.5, 0.9]))
def test_every_text_is_on_one_side_and_copies_on_the_same(rows: list[list[int]], held_out: float) -> None:
    at = bench(rows)
    choose, report = split_texts(at, held_out)
    assert sorted([*choose, *report]) == list(range(len(rows)))
    assert not {tuple(rows[i]) for i in choose} & {tuple(rows[i]) for i in report}
    copies = len(rows) - len({tuple(row) for row in rows})
    assert at.warnings == ([] if not copies or not held_out else at.warnings)
    assert bool(at.warnings) == bool(copies and held_out)


def test_without_copies_the_share_is_exact_and_the_seeds() -> None:
    rows = [[i] for i in range(200)]
    choose, report = split_texts(bench(rows), 0.25)
    assert (len(choose), len(report)) == (150, 50)
    assert split_texts(bench(rows), 0.25)[1].tolist() == report.tolist()
    assert split_texts(bench(rows, seed=1), 0.25)[1].tolist() != report.tolist()
