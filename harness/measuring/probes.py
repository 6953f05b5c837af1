"""Sparse probes: a label predicted from the few latents whose means differ most between the classes.

Latents of one table are compared, chosen and fitted together: one pass over the table's non-zero entries serves every number of latents, and all
penalties and validation splits of a fit are solved at once (:mod:`harness.scoring.logistic`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from harness.scoring.classification import auroc
from harness.scoring.logistic import Penalty, fit_logistic

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from harness.measuring.readings import Readings
    from harness.sae.dictionary import Dictionary

Array = NDArray[Any]
Bools = NDArray[np.bool_]
Selection = Literal["mean-difference", "scaled-mean-difference"]

PENALTIES = tuple(float(c) for c in np.logspace(5, -5, 10))
"""The values of C that validation chooses from, the weakest penalty first: of those alike it wins."""
VALIDATION, MOST_VALIDATION = 0.2, 100
"""The share of the training rows that validates, and how many at most, from :data:`ONE_SPLIT` rows up."""
ONE_SPLIT, FOLDS, PAIRS = 128, 6, 12
"""With fewer rows there are so many folds; with 12 rows or fewer each pair of rows validates once."""
FEWEST_TO_CHOOSE = 4
"""With fewer rows nothing is chosen, and C is 1."""
_TINY = 1e-6
_HELD = 1 << 22


@dataclass(frozen=True)
class Probed:
    """How well a probe does on rows that it was not fitted on.

    Attributes:
        auc: area under the ROC curve.
        accuracy: share of rows predicted rightly, with a probability of one half as the border.
        f1: F1 of each class, weighted by the class's rows.
        c: inverse strength of the penalty.
        latents: what the probe reads, the largest difference first.
    """

    auc: float
    accuracy: float
    f1: float
    c: float
    latents: tuple[int, ...]


def encode_rows(dictionary: Dictionary, readings: Readings, n: int) -> csr_matrix:
    """Return the mean activations of each text over its vectors, ``[n, d_sae]`` float32 sparse: for one vector a text, its activations.

    Work and memory go with the active latents, not with n · d_sae. A text without a vector is a row of zeros.
    """
    from scipy.sparse import csr_matrix

    from harness.sae.corpus.counts import Meter

    meter, size = Meter(dictionary), (n, dictionary.d_sae)
    counts = np.bincount(readings.owners, minlength=n)
    found, held = csr_matrix(size, dtype=np.float32), 0
    waiting: list[tuple[Array, Array, Array]] = []

    def together() -> csr_matrix:
        rows, columns, values = (np.concatenate(part) for part in zip(*waiting, strict=True))
        return found + csr_matrix((values, (rows, columns)), shape=size)

    for x, numbers in readings.parts():
        owners = readings.owners[numbers]
        for start, active in meter.active(x):
            rows = owners[start + active.tokens.cpu().numpy()]
            values = (active.values.float().cpu().numpy() / counts[rows]).astype(np.float32)
            waiting.append((rows, active.features.cpu().numpy(), values))
            held += len(rows)
            if held > _HELD:  # the entries of a text are added up before there are too many of them
                found, waiting, held = together(), [], 0
    return together() if waiting else found


def channel_rows(readings: Readings, n: int) -> csr_matrix:
    """Return the mean vector of each text, as :func:`encode_rows` has it for the channels of the residual stream themselves."""
    from scipy.sparse import csr_matrix

    counts, means = np.bincount(readings.owners, minlength=n), np.zeros((n, readings.vectors.width))
    for x, numbers in readings.parts():
        np.add.at(means, readings.owners[numbers], x.cpu().numpy().astype(np.float64))
    return csr_matrix((means / np.maximum(1, counts)[:, None]).astype(np.float32))


def largest_differences(table: csr_matrix, y: Bools, k: int, selection: Selection) -> NDArray[np.int64]:
    """Return the ``k`` latents whose means differ most between the classes, the largest difference first; of those alike the first.

    Args:
        table: ``[rows, latents]``.
        y: ``[rows]`` bool.
        k: at most the latents there are.
        selection: ``scaled-mean-difference`` divides each latent by the mean magnitude of its entries that are not 0 before.
    """
    n_positive = int(y.sum())
    ones = np.stack([y / n_positive, ~y / (len(y) - n_positive)])
    means = np.asarray(table.T.astype(np.float64) @ ones.T)
    difference = np.abs(means[:, 0] - means[:, 1])
    if selection == "scaled-mean-difference":
        entries = np.bincount(table.indices[table.data != 0], minlength=table.shape[1])
        sums = np.bincount(table.indices, weights=np.abs(table.data), minlength=table.shape[1])
        difference = difference / (sums / (entries + _TINY) + _TINY)
    return np.argsort(-difference, kind="stable")[:k].astype(np.int64)


def probe(
    train: csr_matrix, y_train: Bools, test: csr_matrix, y_test: Bools, ks: Sequence[int], *,
    selection: Selection, penalty: Penalty, draw: np.random.Generator, c: float | None = None,
) -> dict[int, Probed]:  # fmt: skip
    """Fit a probe on the first k of the latents that differ most, for each k, and try it on other rows.

    Args:
        train, test: ``[rows, latents]``.
        y_train, y_test: ``[rows]`` bool, each with both classes.
        ks: numbers of latents.
        selection: see :func:`largest_differences`; on training rows alone.
        penalty: of the regression.
        draw: shuffles the folds where there are few rows.
        c: its inverse strength; None chooses it from :data:`PENALTIES` by the AUROC on part of the training rows.
    """
    chosen = largest_differences(train, y_train, max(ks), selection)
    x_train, x_test = (np.asarray(table[:, chosen].todense(), dtype=np.float64) for table in (train, test))
    folds = None if c is not None else validation(y_train, draw)
    found = {}
    for k in ks:
        best = c if c is not None else choose_c(x_train[:, :k], y_train, folds or [], penalty)
        margins = fit_logistic(x_train[:, :k], y_train, best, penalty=penalty).margins(x_test[:, :k])[0]
        predicted = margins > 0
        accuracy = float((predicted == y_test).mean())
        found[k] = Probed(auroc(margins, y_test), accuracy, weighted_f1(predicted, y_test), best, tuple(chosen[:k].tolist()))
    return found


def validation(y: Bools, draw: np.random.Generator) -> list[NDArray[np.int64]]:
    """Return the rows that validate, split by split, as ``sae-probes`` has them; none where nothing can be chosen.

    From 128 rows up the last fifth (100 at most): the rows come in random order. Below that six folds with the classes spread over them; with 12 rows
    or fewer each pair of a positive and a negative row.
    """
    n = len(y)
    if n < FEWEST_TO_CHOOSE:
        return []
    if n <= PAIRS:
        return [np.array([i, j]) for i in range(n) for j in range(i + 1, n) if y[i] != y[j]]
    if n < ONE_SPLIT:
        fold = np.empty(n, dtype=np.int64)
        for own in (np.flatnonzero(y), np.flatnonzero(~y)):
            fold[draw.permutation(own)] = np.arange(len(own)) % FOLDS
        splits = [np.flatnonzero(fold == number) for number in range(FOLDS)]
        return [rows for rows in splits if 0 < y[rows].sum() < len(rows)]
    size = min(int(VALIDATION * n), MOST_VALIDATION)
    last = np.arange(n - size, n)
    return [last] if 0 < y[last].sum() < size else []


def choose_c(x: Array, y: Bools, splits: Sequence[NDArray[np.int64]], penalty: Penalty) -> float:
    """Return the C of :data:`PENALTIES` with the best mean AUROC on the rows that validate; 1 where there are none."""
    if not splits:
        return 1.0
    kept = np.ones((len(splits), len(y)))
    for row, held_out in zip(kept, splits, strict=True):
        row[held_out] = 0
    usable = (kept @ y > 0) & (kept @ ~y > 0)  # a fold that trains on one class alone says nothing: .5 for every C
    scores = np.full((len(splits), len(PENALTIES)), 0.5)
    if usable.any():
        weights = np.repeat(kept[usable], len(PENALTIES), axis=0)
        fitted = fit_logistic(x, y, np.tile(PENALTIES, int(usable.sum())), weights, penalty)
        margins = fitted.margins(x).reshape(-1, len(PENALTIES), len(y))
        for place, split in enumerate(np.flatnonzero(usable).tolist()):
            rows = splits[split]
            scores[split] = [auroc(one, y[rows]) for one in margins[place][:, rows]]
    return PENALTIES[int(scores.mean(axis=0).argmax())]


def weighted_f1(predicted: Bools, y: Bools) -> float:
    """Return the F1 of each class, weighted by its share of the rows; a class that is never predicted has 0."""
    total = 0.0
    for side in (True, False):
        hit = int(((predicted == side) & (y == side)).sum())
        both = int((predicted == side).sum()) + int((y == side).sum())
        total += float((y == side).mean()) * (2 * hit / both if both else 0.0)
    return total
