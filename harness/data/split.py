"""The one split of a task's corpus: texts that choose and fit, texts that set thresholds, texts that are reported on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from harness.types import Json, digest

Part = Literal["train", "threshold", "report"]
PARTS: tuple[Part, ...] = ("train", "threshold", "report")

FORMAT = 2
"""Version of how texts are split; part of the key under which a split is kept."""

TRAIN_SHARE = 0.5
"""Share of the corpus that labelers choose by and methods are fitted on; the rest is halved into threshold and report."""

Places = np.ndarray[Any, np.dtype[np.int64]]

_FILE = "split.npz"


@dataclass(frozen=True, eq=False)
class TextSplit:
    """Places of texts in the corpus, ascending, each ``[texts]`` int64; every text is in one part at most.

    Attributes:
        train: what labelers choose by and methods are fitted on.
        threshold: what thresholds are chosen on.
        report: what is reported on.
        n_copies: texts that have a copy or near-copy in the corpus, which is in the same part.
    """

    train: Places
    threshold: Places
    report: Places
    n_copies: int = 0

    @cached_property
    def digest(self) -> str:
        """Return the identity of the split, a hash of its three parts."""
        return digest([part.tolist() for part in (self.train, self.threshold, self.report)])

    def part(self, name: Part) -> Places:
        """Return one part by its name."""
        return {"train": self.train, "threshold": self.threshold, "report": self.report}[name]

    def as_json(self) -> dict[str, Json]:
        """Return sizes and digest as the manifest keeps them."""
        return {"digest": self.digest, **{name: len(self.part(name)) for name in PARTS}, "copies": self.n_copies}

    def save(self, folder: Path) -> None:
        """Write the split to ``folder``."""
        with (folder / _FILE).open("wb") as file:
            np.savez(file, train=self.train, threshold=self.threshold, report=self.report, n_copies=self.n_copies)

    @classmethod
    def load(cls, folder: Path) -> TextSplit:
        """Read the split that :meth:`save` wrote."""
        with np.load(folder / _FILE, allow_pickle=False) as saved:
            return cls(saved["train"], saved["threshold"], saved["report"], int(saved["n_copies"]))


Stated = Literal["", "train", "evaluation"]
"""What a corpus says of a text's part: nothing, for methods to be fitted on, or for thresholds and the report."""


def split_texts(
    rows: Sequence[np.ndarray[Any, Any]], texts: Iterable[str], order: Places, stated: Sequence[str] | None = None
) -> TextSplit:
    """Split a corpus into train, threshold and report.

    Train begins as what labelers choose by with ``held_out`` = 1 − :data:`TRAIN_SHARE` (:func:`choosing`), or with any larger ``held_out`` a
    superset of it. Texts are joined into groups where they are the same to the model (equal tokens) or nearly the same to a reader
    (:func:`~harness.data.near_copies.near_copies`). A group of which one text is in train is in train; the others go, in the same random order,
    each to the smaller of threshold and report. So no near-copy of a text is in another part, and train may exceed its share.

    Where the corpus states the parts of its texts, these hold: a text for evaluation is in train only as a near-copy of one for training.

    Args:
        rows: token ids of each text as the model sees it.
        texts: the same texts, read once.
        order: the places of all texts in the run's random order, ``bench.rng("held-out-texts").permutation(n)``.
        stated: each text's part as the corpus states it (:data:`Stated`); None where it states none.
    """
    from harness.data.near_copies import near_copies

    n = len(rows)
    first = originals(rows)
    chosen = choosing(order, 1 - TRAIN_SHARE)[first]
    if stated is not None:
        said = np.array(stated, dtype=object)
        chosen = (chosen & (said != "evaluation")) | (said == "train")
    copies = np.flatnonzero(first != np.arange(n))
    group = _groups(n, np.concatenate([np.stack([first[copies], copies], axis=1), near_copies(texts)]))
    sizes = np.bincount(group, minlength=n)
    train = np.bincount(group, weights=chosen, minlength=n)[group] > 0
    reported = np.zeros(n, dtype=bool)
    threshold = report = 0
    for number in dict.fromkeys(group[order[~train[order]]].tolist()):
        if report < threshold:
            reported[number], report = True, report + int(sizes[number])
        else:
            threshold += int(sizes[number])
    in_report = reported[group]
    n_copies = int((sizes[group] > 1).sum())
    return TextSplit(np.flatnonzero(train), np.flatnonzero(~train & ~in_report), np.flatnonzero(in_report), n_copies)


def choosing(order: Places, held_out: float) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return which texts choose where a share ``held_out`` is only reported on, copies aside: bool ``[texts]``.

    ``order`` is the run's random order; a larger share leaves a subset of the texts.
    """
    n = len(order)
    chosen = np.zeros(n, dtype=bool)
    chosen[order[: n - round(n * held_out)]] = True
    return chosen


def originals(rows: Sequence[np.ndarray[Any, Any]]) -> Places:
    """Return for each text the place of the first text with the same tokens, which may be itself; ``[texts]`` int64."""
    first: dict[bytes, int] = {}
    found = np.empty(len(rows), dtype=np.int64)
    for text in range(len(rows)):
        content = hashlib.blake2b(np.ascontiguousarray(rows[text]).tobytes(), digest_size=12).digest()
        found[text] = first.setdefault(content, text)
    return found


def _groups(n: int, pairs: np.ndarray[Any, Any]) -> Places:
    """Return the group of each text as a number below ``n``; the texts of a pair ``[pairs, 2]`` are in one group."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    graph = coo_matrix((np.ones(len(pairs), dtype=bool), (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)
