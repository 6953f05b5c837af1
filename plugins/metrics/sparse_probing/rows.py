"""Which rows of a data set train a probe, and which it is tried on."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.types import rng

from .options import SparseProbingOptions
from .sets import LabelledSet, Places

FEWEST_TRAIN, FEWEST_TEST = 2, 10
"""With fewer rows there is no number."""
KEPT_FOR_TEST, MOST_TRAIN = 100, 1024
"""sae-probes: rows that are never trained on, and the most that are."""
SAEBENCH_ROWS = (4000, 1000)
SIZES = tuple(np.unique(np.round(np.logspace(1, 10, num=20, base=2)).astype(int)).tolist())
"""Training rows of the setting ``scarcity``, as sae-probes has them."""
SHARES = tuple(round(float(share), 4) for share in np.linspace(0.05, 0.95, 19))
"""Shares of positives of the setting ``imbalance``, as sae-probes has them."""


@dataclass(frozen=True)
class Variant:
    """How many rows are drawn: the normal setting has one, the others one for each size or share.

    Attributes:
        name: for details; empty for the only one.
        train, test: rows.
        share: of positives among both.
    """

    name: str
    train: int
    test: int
    share: float = 0.5


@dataclass(frozen=True, eq=False)
class Drawn:
    """Rows of one variant.

    Attributes:
        name: the variant's.
        train, test: places of texts, in random order; those of ``test`` are of the other distribution under ``ood``.
    """

    name: str
    train: Places
    test: Places


def draw_rows(labelled: LabelledSet, options: SparseProbingOptions, seed: int) -> tuple[list[Drawn], str]:
    """Return the rows of each variant, and why there are none.

    The draw depends on the seed, the data set's name and the variant alone, so all dictionaries are probed on the same rows.
    """
    variants, why = _variants(labelled, options)
    return [_drawn(labelled, variant, seed) for variant in variants], why


def _variants(labelled: LabelledSet, options: SparseProbingOptions) -> tuple[list[Variant], str]:
    def at(share: float) -> list[Variant]:
        train, test = _sizes(labelled, options, share)
        return [Variant(f"{share:.2f} positive" if share != 0.5 or options.setting == "imbalance" else "", train, test, share)]

    if options.setting == "imbalance":
        found = [one for share in options.shares or SHARES for one in at(share)]
    elif options.setting == "scarcity":
        total = _available(labelled.target, labelled.train, 0.5)
        if labelled.train is labelled.test:
            found = [Variant(f"{n} rows", n, total - n) for n in options.sizes or SIZES if n <= total - KEPT_FOR_TEST]
        else:
            test = _available(labelled.target, labelled.test, 0.5)
            found = [Variant(f"{n} rows", n, test) for n in options.sizes or SIZES if n <= total]
        if options.test_rows is not None:
            found = [Variant(one.name, one.train, min(one.test, options.test_rows)) for one in found]
    else:
        found = at(0.5)
    usable = [one for one in found if one.train >= FEWEST_TRAIN and one.test >= FEWEST_TEST and _both(one.train, one) and _both(one.test, one)]
    if usable:
        return usable, ""
    n, positive = len(labelled.target), int(labelled.target.sum())
    return [], f"{n} texts, {positive} of them positive, do not give {FEWEST_TRAIN} training and {FEWEST_TEST} test rows with both classes"


def _sizes(labelled: LabelledSet, options: SparseProbingOptions, share: float) -> tuple[int, int]:
    """Return training and test rows, as asked for or as the protocol has them, within what there is."""
    total = _available(labelled.target, labelled.train, share)
    saebench = options.protocol == "saebench"
    if labelled.other is not None:
        return min(total, options.train_rows or MOST_TRAIN), len(labelled.other.texts)
    if labelled.train is not labelled.test:
        test = _available(labelled.target, labelled.test, share)
        most = SAEBENCH_ROWS if saebench else (MOST_TRAIN, test)
        return min(total, options.train_rows or most[0]), min(test, options.test_rows or most[1])
    if not saebench and options.train_rows is None:
        train = max(0, min(total - KEPT_FOR_TEST, MOST_TRAIN))
        return train, min(total - train, options.test_rows or total)
    train = options.train_rows or SAEBENCH_ROWS[0]
    test = options.test_rows or (SAEBENCH_ROWS[1] if saebench else max(FEWEST_TEST, total - train))
    if train + test > total:
        train = total * train // (train + test)
        test = total - train
    return train, test


def _available(target: NDArray[np.bool_], places: Places, share: float) -> int:
    """Return how many rows can be drawn with this share of positives."""
    positive = int(target[places].sum())
    return int(min(positive / share, (len(places) - positive) / (1 - share)) + 1e-9)


def _both(n: int, variant: Variant) -> bool:
    return 0 < math.ceil(variant.share * n - 1e-9) < n


def _drawn(labelled: LabelledSet, variant: Variant, seed: int) -> Drawn:
    draw = rng(seed, "probe-rows", f"{labelled.name}\x1f{variant.name}")
    train = _taken(labelled.target, labelled.train, variant.train, variant.share, draw)
    if labelled.other is not None:
        return Drawn(variant.name, train, draw.permutation(labelled.other.test))
    rest = np.setdiff1d(labelled.test, train) if labelled.train is labelled.test else labelled.test
    return Drawn(variant.name, train, _taken(labelled.target, rest, variant.test, variant.share, draw))


def _taken(target: NDArray[np.bool_], places: Places, n: int, share: float, draw: np.random.Generator) -> Places:
    """Return ``n`` places in random order, a share of them positive, rounded up, or as many as there are."""
    positive, negative = places[target[places]], places[~target[places]]
    wanted = math.ceil(share * n - 1e-9)
    chosen = [draw.permutation(positive)[:wanted], draw.permutation(negative)[: n - wanted]]
    return draw.permutation(np.concatenate(chosen)).astype(np.int64)
