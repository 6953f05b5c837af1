"""A forest of regression trees as arrays of numbers, evaluated in numpy: no library that fitted it is needed, and nothing is unpickled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
LEAF = -1


@dataclass(frozen=True, eq=False)
class Forest:
    """Trees one after another in flat arrays.

    Attributes:
        feature: ``[nodes]``: the feature that a node asks for; :data:`LEAF` in a leaf.
        threshold: ``[nodes]``: a value up to it goes left, any other right; in a leaf the tree's answer.
        right: ``[nodes]``: how far behind a node its right child stands; the left one follows at once.
        roots: ``[trees]``: where each tree begins.
    """

    feature: NDArray[np.int16]
    threshold: NDArray[np.float32]
    right: NDArray[np.uint16]
    roots: NDArray[np.int32]

    def predict(self, rows: Values) -> Values:
        """Return the mean answer of the trees ``[n]`` for ``rows`` of features ``[n, features]``; a row's answer does not depend on the others."""
        values = np.asarray(rows, dtype=np.float32)
        places = np.broadcast_to(self.roots.astype(np.int64), (len(values), len(self.roots))).copy()
        numbers = np.arange(len(values))[:, None]
        while True:
            feature = self.feature[places]
            inner = feature != LEAF
            if not inner.any():
                return np.array([float(row.mean()) for row in self.threshold[places].astype(np.float64)])
            left = values[numbers, np.maximum(feature, 0)] <= self.threshold[places]
            places += np.where(inner, np.where(left, 1, self.right[places].astype(np.int64)), 0)

    def arrays(self, name: str) -> dict[str, NDArray[np.generic]]:
        """Return the arrays as :func:`load` reads them."""
        return {f"{name}.{key}": getattr(self, key) for key in ("feature", "threshold", "right", "roots")}


def load(path: Path) -> tuple[Mapping[str, Forest], tuple[str, ...]]:
    """Return the forests of a safetensors file, by name, and the names of the features that they read."""
    from safetensors import safe_open

    with safe_open(str(path), framework="numpy") as file:
        names = tuple(file.metadata()["features"].split("\n"))
        arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping)
    forests = {key.split(".")[0] for key in arrays}
    return {
        name: Forest(*(arrays[f"{name}.{part}"] for part in ("feature", "threshold", "right", "roots"))) for name in sorted(forests)
    }, names
