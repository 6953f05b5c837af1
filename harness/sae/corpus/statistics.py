"""What a pass over a corpus found: how often and how strongly each feature fires in each text, kept sparse and memory-mapped."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from harness.errors import DataError, StoreError
from harness.files.shards import map_file, replace_file

if TYPE_CHECKING:
    from scipy.sparse import csc_matrix, csr_matrix

FORMAT = 3
"""Version of the files; part of the key under which they are kept."""

META = "statistics.json"
BY_TEXT = {"shares": "<f4", "maxima": "<f4", "indices": "<i4", "indptr": "<i8", "n_tokens": "<i8", "document_means": "<f4"}
BY_FEATURE = {"fired": "<i8", "maximum": "<f4"}
"""The arrays, each a flat file, and their types there."""

_REMOVE = "remove the folder to have them made again"
_ARRAYS = {**BY_TEXT, **BY_FEATURE}
_INT32 = np.iinfo(np.int32).max
_BLOCK = 1 << 22


@dataclass(frozen=True, eq=False)
class CorpusStatistics:
    """What one pass over a corpus of ``n_docs`` texts found at a dictionary's site.

    Only counted tokens enter: real ones that are not among the first ``skip`` of their text and not outliers (see
    :mod:`harness.sae.corpus.outliers`: without that a few enormous tokens would own every maximum). A text without any has ``n_tokens`` 0, empty
    rows and a mean of zeros, and is listed in :attr:`empty`: leave it out of whatever is averaged over texts.

    Attributes:
        d_sae: number of features.
        n_tokens: ``[n_docs]`` int64, counted tokens of each text.
        document_means: ``[n_docs, d_model]`` float32, mean residual vector of each text.
        fired: ``[d_sae]`` int64, on how many counted tokens of the corpus each feature is active (f_j ≠ 0).
        maximum: ``[d_sae]`` float32, the largest activation of each feature in the corpus, 0 for one that never fires. In a signed
            dictionary it is that of the largest magnitude, with its sign.
        mean_norm: mean Euclidean norm of the residual vectors.
        l0: mean number of active features per token.
        explained_variance: 1 − Σ‖x − x̂‖² / Σ‖x − x̄‖² over all counted tokens.
        n_outliers: tokens that were left out as outliers.
        skip: leading tokens of each text that were not counted.
        dictionary_digest, model_digest: what it was measured with.
        shares, maxima, indices, indptr: the sparse matrices' parts (see :attr:`frequencies` and :attr:`document_maximum`); ``maxima`` keep
            the sign, as ``maximum`` does.
        signed: whether the dictionary's activations may be negative.
    """

    d_sae: int
    n_tokens: npt.NDArray[np.int64]
    document_means: npt.NDArray[np.float32]
    fired: npt.NDArray[np.int64]
    maximum: npt.NDArray[np.float32]
    mean_norm: float
    l0: float
    explained_variance: float
    n_outliers: int
    skip: int
    dictionary_digest: str
    model_digest: str
    shares: npt.NDArray[np.float32] = field(repr=False)
    maxima: npt.NDArray[np.float32] = field(repr=False)
    indices: npt.NDArray[np.signedinteger[Any]] = field(repr=False)
    indptr: npt.NDArray[np.signedinteger[Any]] = field(repr=False)
    signed: bool = False

    @property
    def n_docs(self) -> int:
        return len(self.n_tokens)

    @cached_property
    def frequencies(self) -> csr_matrix:
        """Return ``[n_docs, d_sae]`` float32: the share of a text's counted tokens on which a feature is active.

        A view of the arrays, which may be memory-mapped and read-only. Features ascend within each text. From 2³¹ entries on the row
        borders are int64 and the features int32: scipy's own operations copy the features then, so take blocks of texts.
        """
        return self._matrix(self.shares)

    @cached_property
    def document_maximum(self) -> csr_matrix:
        """Return ``[n_docs, d_sae]`` float32, of the same sparsity: the largest activation of a feature in a text, in magnitude."""
        return self._matrix(np.abs(self.maxima) if self.signed else self.maxima)

    def texts_of(self, features: Sequence[int] | npt.NDArray[np.integer], what: Literal["shares", "maxima"] = "shares") -> csc_matrix:
        """Return columns ``features`` of :attr:`frequencies` (or of :attr:`document_maximum`, in magnitude), ``[n_docs, len(features)]`` float32.

        One walk over the features of all texts, whatever the number of columns (half a second for 10⁸ entries), and no copy of the matrix:
        ask for all the features that you need at once.

        Raises:
            DataError: a feature does not exist, or is given twice.
        """
        from scipy.sparse import csc_matrix

        wanted = self._checked(features)
        column = np.full(self.d_sae, -1, dtype=np.int32)
        column[wanted] = np.arange(len(wanted), dtype=np.int32)
        places, columns = [np.empty(0, np.int64)], [np.empty(0, np.int32)]
        for start in range(0, len(self.indices), _BLOCK):
            found = column[self.indices[start : start + _BLOCK]]
            hits = np.flatnonzero(found >= 0)
            places.append(hits + start)
            columns.append(found[hits])
        place, order = np.concatenate(places), np.argsort(np.concatenate(columns), kind="stable")
        texts = np.searchsorted(self.indptr, place, side="right") - 1
        starts = np.concatenate([[0], np.cumsum(np.bincount(np.concatenate(columns), minlength=len(wanted)))])
        data = (self.shares if what == "shares" else self.maxima)[place[order]]
        if self.signed and what == "maxima":
            data = np.abs(data)
        return csc_matrix((data, texts[order].astype(np.int32), starts), shape=(self.n_docs, len(wanted)))

    def quantile_maximum(self, q: float, features: Sequence[int] | npt.NDArray[np.integer]) -> npt.NDArray[np.float32]:
        """Return the ``q`` quantile, over the texts in which a feature fires, of its largest activation there, ``[len(features)]``.

        It is 0 for a feature that never fires.

        In a signed dictionary of the largest magnitudes, with the sign of the feature's :attr:`maximum`.

        1 is the maximum. A high quantile below 1 (.99) is robust to one odd text (a list, a repeated phrase) that owns the maximum, and
        unlike a quantile over tokens it does not sink with the many weak activations of a text. Interpolated linearly between texts.

        Raises:
            DataError: ``q`` is not within 0 to 1; a feature does not exist, or is given twice.
        """
        if not 0 <= q <= 1:
            raise DataError(f"the quantile is {q}", given=q, allowed="0 to 1")
        columns = self.texts_of(features, "maxima")
        n, starts = np.diff(columns.indptr), columns.indptr[:-1]
        values = columns.data[np.lexsort((columns.data, np.repeat(np.arange(len(n)), n)))]
        fires = n > 0
        place = q * (n[fires] - 1)
        low = np.floor(place).astype(np.int64)
        high = np.minimum(low + 1, n[fires] - 1)
        first, share = starts[fires], (place - low).astype(np.float32)
        out = np.zeros(len(n), dtype=np.float32)
        # weights rather than a difference, so that q = 1 gives the maximum itself
        out[fires] = values[first + low] * (1 - share) + values[first + high] * share
        return np.where(self.maximum[self._checked(features)] < 0, -out, out) if self.signed else out

    @property
    def density(self) -> npt.NDArray[np.float64]:
        """Return ``[d_sae]``: share of the corpus' counted tokens on which each feature is active."""
        return self.fired / max(1, int(self.n_tokens.sum()))

    @property
    def live(self) -> npt.NDArray[np.int64]:
        """Return the features that fire at all, ascending."""
        return np.flatnonzero(self.fired)

    @property
    def empty(self) -> npt.NDArray[np.int64]:
        """Return the texts without a counted token."""
        return np.flatnonzero(self.n_tokens == 0)

    def _checked(self, features: Sequence[int] | npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
        wanted = np.asarray(features, dtype=np.int64).reshape(-1)
        bad = wanted[(wanted < 0) | (wanted >= self.d_sae)]
        if len(bad):
            raise DataError(f"feature {bad[0]} does not exist", given=int(bad[0]), allowed=f"0 to {self.d_sae - 1}")
        if len(np.unique(wanted)) != len(wanted):
            unique, counts = np.unique(wanted, return_counts=True)
            repeated = int(unique[counts > 1][0])
            raise DataError(f"feature {repeated} is given more than once", given=repeated, allowed="each feature once")
        return wanted

    def _matrix(self, data: npt.NDArray[np.float32]) -> csr_matrix:
        from scipy.sparse import csr_matrix

        matrix = csr_matrix((self.n_docs, self.d_sae), dtype=np.float32)
        # set one by one: scipy's constructor would read all of the arrays, and copy the indices to the type of the row borders
        matrix.data, matrix.indices = data, self.indices
        matrix.indptr = self.indptr.astype(np.int32) if len(data) <= _INT32 else self.indptr
        matrix.has_sorted_indices = matrix.has_canonical_format = True
        return matrix

    # -- on disk

    def save(self, folder: Path) -> None:
        """Write to ``folder`` as flat arrays and one JSON file, which is written last: a folder without it does not hold statistics.

        Raises:
            StoreError: the disk is full or cannot be written.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name, dtype in _ARRAYS.items():
                np.ascontiguousarray(getattr(self, name), dtype=dtype).tofile(folder / f"{name}.bin")
        except OSError as error:
            message = f"cannot write the corpus statistics to {folder}: {error.strerror or error}"
            raise StoreError(message, given=folder, hint="free some space, or choose another folder") from error
        scalars = {item.name: getattr(self, item.name) for item in fields(self) if item.name not in _ARRAYS}
        if not self.signed:
            del scalars["signed"]  # files of unsigned dictionaries are those of before there was the word
        write_meta(folder, scalars, self.n_docs, self.document_means.shape[1], len(self.indices))

    @classmethod
    def load(cls, folder: Path, *, memory_map: bool = True) -> CorpusStatistics:
        """Read what :meth:`save` or :func:`harness.sae.corpus.collect.measure` wrote; the arrays stay on disk until they are used.

        Raises:
            StoreError: there are none, they are damaged, or of another version's format.
        """
        try:
            meta = json.loads((folder / META).read_text(encoding="utf-8"))
            found = meta["format"]
            if found == FORMAT:
                n_docs, d_model, active, scalars = meta["n_docs"], meta["d_model"], meta["active"], meta["scalars"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StoreError(f"no readable corpus statistics in {folder} ({error})", given=folder, hint=_REMOVE) from error
        if found != FORMAT:
            raise StoreError(f"the corpus statistics in {folder} are of format {found}", given=found, allowed=FORMAT, hint=_REMOVE)
        shapes: dict[str, tuple[int, ...]] = dict.fromkeys(("shares", "maxima", "indices"), (active,))
        shapes |= {"indptr": (n_docs + 1,), "n_tokens": (n_docs,), "document_means": (n_docs, d_model)}
        shapes |= dict.fromkeys(("fired", "maximum"), (scalars["d_sae"],))
        values: dict[str, Any] = {key: float("nan") if value is None else value for key, value in scalars.items()}
        values |= {name: map_file(folder / f"{name}.bin", dtype, shapes[name], memory_map=memory_map) for name, dtype in _ARRAYS.items()}
        return cls(**values)


def write_meta(folder: Path, scalars: dict[str, Any], n_docs: int, d_model: int, active: int) -> None:
    """Finishes statistics in ``folder``: writes the scalars, the arrays' sizes, and the number of ``active`` (text, feature) pairs."""
    kept = {key: None if value != value else value for key, value in scalars.items()}
    meta = {"format": FORMAT, "n_docs": n_docs, "d_model": d_model, "active": active, "scalars": kept}
    replace_file(folder / META, json.dumps(meta, allow_nan=False).encode())
