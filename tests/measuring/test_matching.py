"""Directions held against each other: the best matching is the best of all matchings."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from helpers.synthetic import by_hand

from harness.measuring.matching import matched, nearest, unit_rows


def unit(n: int, d: int, seed: int) -> torch.Tensor:
    rows = torch.randn(n, d, generator=torch.Generator().manual_seed(seed))
    return rows / rows.norm(dim=-1, keepdim=True)


def test_the_best_of_all_matchings() -> None:
    one, other = unit(4, 3, 0), unit(6, 3, 1)
    cosines = (one @ other.T).numpy()
    for absolute in (False, True):
        worth = np.abs(cosines) if absolute else cosines
        best = max(sum(worth[i, j] for i, j in enumerate(places)) for places in itertools.permutations(range(6), 4))
        found = matched(one, other, absolute=absolute)
        assert len(found) == 4
        np.testing.assert_allclose(found.sum(), best, rtol=1e-5)
    np.testing.assert_allclose(nearest(one, other), cosines.max(axis=1), rtol=1e-5)


def test_rows_have_unit_length_and_zeros_stay() -> None:
    rows = unit_rows(by_hand(torch.tensor([[3.0, 4.0], [0.0, 0.0]])))
    np.testing.assert_allclose(rows.numpy(), [[0.6, 0.8], [0, 0]], rtol=1e-6)
