"""One pass over a corpus: how often and how strongly each feature fires in each text, and what the residual stream looks like there.

Everything is sparse in features: a dictionary of 131,072 features and a corpus of any length need memory for what is active, and no more.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from harness.contracts import Site
from harness.errors import DataError, DictionaryError, StoreError
from harness.sae.measure import Meter
from harness.sae.outliers import OUTLIER, usual_tokens

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix
    from torch import Tensor

    from harness.lm.model import SubjectModel
    from harness.sae.dictionary import Dictionary

_META = "statistics.json"
_ARRAYS = ("shares", "maxima", "indices", "indptr", "n_tokens", "document_means", "fired")
_FORMAT = 2


@dataclass(frozen=True, eq=False)
class CorpusStatistics:
    """What one pass over a corpus of ``n_docs`` texts found at a dictionary's site.

    Only counted tokens enter: real ones that are not among the first ``skip`` of their text and no outliers (see
    :mod:`harness.sae.outliers`: without that a few enormous tokens would own every maximum). A text without any has ``n_tokens`` 0, empty
    rows and a mean of zeros, and is listed in :attr:`empty`: leave it out of whatever is averaged over texts.

    Attributes:
        d_sae: number of features.
        n_tokens: ``[n_docs]`` int64, counted tokens of each text.
        document_means: ``[n_docs, d_model]`` float32, mean residual vector of each text.
        fired: ``[d_sae]`` int64, on how many counted tokens of the corpus each feature is active (f_j > 0).
        mean_norm: mean Euclidean norm of the residual vectors.
        l0: mean number of active features a token.
        explained_variance: 1 − Σ‖x − x̂‖² / Σ‖x − x̄‖² over all counted tokens.
        n_outliers: tokens that were left out as outliers.
        skip: leading tokens of each text that were not counted.
        dictionary_digest, model_digest: what it was measured with.
        shares, maxima, indices, indptr: the sparse matrices' parts (see :attr:`frequencies` and :attr:`document_maximum`).
    """

    d_sae: int
    n_tokens: npt.NDArray[np.int64]
    document_means: npt.NDArray[np.float32]
    fired: npt.NDArray[np.int64]
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

    @property
    def n_docs(self) -> int:
        return len(self.n_tokens)

    @cached_property
    def frequencies(self) -> csr_matrix:
        """``[n_docs, d_sae]`` float32: the share of a text's counted tokens on which a feature is active."""
        return self._matrix(self.shares)

    @cached_property
    def document_maximum(self) -> csr_matrix:
        """``[n_docs, d_sae]`` float32, of the same sparsity: the largest activation of a feature in a text."""
        return self._matrix(self.maxima)

    @cached_property
    def maximum(self) -> npt.NDArray[np.float32]:
        """``[d_sae]``: the largest activation of each feature in the corpus, 0 for one that never fires."""
        largest = np.zeros(self.d_sae, dtype=np.float32)
        np.maximum.at(largest, self.indices, self.maxima)
        return largest

    def quantile_maximum(self, q: float) -> npt.NDArray[np.float32]:
        """``[d_sae]``: the ``q`` quantile, over the texts in which a feature fires, of its largest activation there; 0 if it never fires.

        1 is the maximum. A high quantile below 1 (.99) is robust to one odd text (a list, a repeated phrase) that owns the maximum, and
        unlike a quantile over tokens it does not sink with the many weak activations of a text. Interpolated linearly between texts.

        Raises:
            DataError: ``q`` is not within 0 to 1.
        """
        if not 0 <= q <= 1:
            raise DataError(f"a quantile lies between 0 and 1, got {q}")
        values, starts = self._sorted_maxima
        n = np.diff(starts)
        fires = n > 0
        place = q * (n[fires] - 1)
        low = np.floor(place).astype(np.int64)
        high = np.minimum(low + 1, n[fires] - 1)
        first, share = starts[:-1][fires], (place - low).astype(np.float32)
        out = np.zeros(self.d_sae, dtype=np.float32)
        # weights rather than a difference, so that q = 1 gives the maximum itself
        out[fires] = values[first + low] * (1 - share) + values[first + high] * share
        return out

    @property
    def density(self) -> npt.NDArray[np.float64]:
        """``[d_sae]``: share of the corpus' counted tokens on which each feature is active."""
        return self.fired / max(1, int(self.n_tokens.sum()))

    @property
    def live(self) -> npt.NDArray[np.int64]:
        """The features that fire at all, ascending."""
        return np.flatnonzero(self.fired)

    @property
    def empty(self) -> npt.NDArray[np.int64]:
        """The texts without a counted token."""
        return np.flatnonzero(self.n_tokens == 0)

    @cached_property
    def _sorted_maxima(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """Per-text maxima grouped by feature, ascending within each, and where each feature's begin."""
        order = np.lexsort((self.maxima, self.indices))
        starts = np.concatenate([[0], np.cumsum(np.bincount(self.indices, minlength=self.d_sae))])
        return np.asarray(self.maxima)[order], starts.astype(np.int64)

    def _matrix(self, data: npt.NDArray[np.float32]) -> csr_matrix:
        from scipy.sparse import csr_matrix

        return csr_matrix((data, self.indices, self.indptr), shape=(self.n_docs, self.d_sae), copy=False)

    # -- on disk

    def save(self, folder: Path) -> None:
        """Write to ``folder`` as plain arrays and one JSON file, which is written last: a folder without it is no statistics.

        Raises:
            StoreError: the disk is full or cannot be written.
        """
        meta = {item.name: getattr(self, item.name) for item in fields(self) if item.name not in _ARRAYS}
        meta = {key: None if value != value else value for key, value in meta.items()}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name in _ARRAYS:
                np.save(folder / f"{name}.npy", getattr(self, name), allow_pickle=False)
            (folder / _META).write_text(json.dumps({"format": _FORMAT, **meta}, allow_nan=False), encoding="utf-8")
        except OSError as error:
            raise StoreError(f"cannot write the corpus statistics to {folder}: {error.strerror or error}") from error

    @classmethod
    def load(cls, folder: Path) -> CorpusStatistics:
        """Read what :meth:`save` wrote; the large arrays stay on disk until they are used.

        Raises:
            StoreError: there are none, they are damaged, or of another version's format.
        """
        try:
            meta = json.loads((folder / _META).read_text(encoding="utf-8"))
            found = meta.pop("format")
            arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in _ARRAYS}
        except (OSError, ValueError, KeyError) as error:
            raise StoreError(f"no readable corpus statistics in {folder} ({error}): remove the folder to have them made again") from error
        if found != _FORMAT:
            raise StoreError(
                f"the corpus statistics in {folder} are of format {found}, not {_FORMAT}: remove the folder to have them made again"
            )
        meta = {key: float("nan") if value is None else value for key, value in meta.items()}
        return cls(**arrays, **meta)


def collect(
    model: SubjectModel,
    dictionary: Dictionary,
    documents_tokens: Sequence[Sequence[int]],
    *,
    skip: int = 1,
    outlier: float = OUTLIER,
    token_budget: int = 4096,
    progress: Callable[[int, int], None] | None = None,
) -> CorpusStatistics:
    """Measure a dictionary's features on a corpus, in one pass of the model up to the dictionary's layer.

    Args:
        model: the subject model.
        dictionary: on the model's device, or the vectors travel to its own.
        documents_tokens: token ids of each text, as the model shall see them. A text may be empty or shorter than ``skip``.
        skip: leading tokens of each text that are not counted; at least the first, whose norm is often a hundred times the others'.
        outlier: as in :func:`~harness.sae.outliers.usual_tokens`; 0 counts every token.
        token_budget: tokens a forward pass.
        progress: called with (texts done, texts in all).

    Raises:
        DataError: no text has a counted token; a text is longer than the model's context.
        DictionaryError: the dictionary's width is not the model's.
    """
    from harness.lm.activations import residuals

    if dictionary.d_in != model.d_model:
        raise DictionaryError(
            f"{dictionary.source} reads width {dictionary.d_in}, but {model.name} has a residual stream of {model.d_model}"
        )
    texts = [i for i, tokens in enumerate(documents_tokens) if len(tokens) > skip]
    if not texts:
        raise DataError(
            f"none of {len(documents_tokens)} texts has more than {skip} tokens: there is nothing to measure; give longer texts"
        )
    found = _Collector(Meter(dictionary), len(documents_tokens), model.d_model)
    done = len(documents_tokens) - len(texts)
    rows = [documents_tokens[i] for i in texts]
    for batch in residuals(model, rows, Site(dictionary.layer), token_budget=token_budget, skip=skip):
        usual = usual_tokens(batch.x, batch.counted, outlier)
        found.n_outliers += int((batch.counted & ~usual).sum())
        found.add([texts[row] for row in batch.rows], batch.x[usual], usual.sum(dim=1).tolist())
        done += len(batch.rows)
        if progress is not None:
            progress(done, len(documents_tokens))
    return found.statistics(skip, dictionary.digest, model.digest)


class _Collector:
    """Per-text results as they come, in whatever order the batches are."""

    def __init__(self, meter: Meter, n_docs: int, d_model: int) -> None:
        self.meter = meter
        self.n_outliers = 0
        self.n_tokens = np.zeros(n_docs, dtype=np.int64)
        self.means = np.zeros((n_docs, d_model), dtype=np.float32)
        # per text: features, on how many tokens each is active, largest activation
        self.parts: list[tuple[npt.NDArray[Any], ...] | None] = [None] * n_docs

    def add(self, docs: Sequence[int], x: Tensor, lengths: Sequence[int]) -> None:
        """The counted tokens ``x`` ``[tokens, d_model]`` of texts ``docs``, ``lengths`` of them each."""
        ends = torch.tensor(lengths).cumsum(0)
        for doc, part in zip(docs, x.float().split(list(lengths)), strict=True):  # type: ignore[no-untyped-call]
            self.n_tokens[doc], self.means[doc] = len(part), part.mean(dim=0).cpu().numpy()
        ends = ends.to(x.device)
        for start, active in self.meter.add(x):
            owner = torch.searchsorted(ends, active.tokens.to(x.device) + start, right=True).to(active.features.device)
            # one key for each (text, feature) that is active here
            keys, place = torch.unique(owner * self.meter.dictionary.d_sae + active.features, return_inverse=True)
            counts = torch.bincount(place, minlength=len(keys))
            maxima = torch.zeros(len(keys), dtype=active.values.dtype, device=keys.device).scatter_reduce_(0, place, active.values, "amax")
            self._keep(docs, keys.cpu().numpy(), counts.cpu().numpy(), maxima.float().cpu().numpy())

    def _keep(
        self, docs: Sequence[int], keys: npt.NDArray[np.int64], counts: npt.NDArray[np.int64], maxima: npt.NDArray[np.float32]
    ) -> None:
        d_sae = self.meter.dictionary.d_sae
        owners, features = keys // d_sae, keys % d_sae
        borders = np.searchsorted(owners, np.arange(len(docs) + 1))
        for i, doc in enumerate(docs):
            part = slice(borders[i], borders[i + 1])
            if part.start == part.stop:
                continue
            new = (features[part].astype(np.int32), counts[part].astype(np.int32), maxima[part].astype(np.float32))
            old = self.parts[doc]
            self.parts[doc] = new if old is None else _merge(old, new)

    def statistics(self, skip: int, dictionary_digest: str, model_digest: str) -> CorpusStatistics:
        none = (np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0, np.float32))
        parts = [part or none for part in self.parts]
        indptr = np.concatenate([[0], np.cumsum([len(part[0]) for part in parts])])
        # scipy wants one integer type for both
        integer = np.int32 if indptr[-1] <= np.iinfo(np.int32).max else np.int64
        counts = np.concatenate([part[1] for part in parts])
        return CorpusStatistics(
            d_sae=self.meter.dictionary.d_sae,
            n_tokens=self.n_tokens,
            document_means=self.means,
            fired=self.meter.fired.numpy(),
            mean_norm=self.meter.mean_norm,
            l0=self.meter.l0,
            explained_variance=self.meter.explained_variance,
            n_outliers=self.n_outliers,
            skip=skip,
            dictionary_digest=dictionary_digest,
            model_digest=model_digest,
            shares=(counts / np.repeat(self.n_tokens, np.diff(indptr))).astype(np.float32),
            maxima=np.concatenate([part[2] for part in parts]),
            indices=np.concatenate([part[0] for part in parts]).astype(integer),
            indptr=indptr.astype(integer),
        )


def _merge(one: tuple[npt.NDArray[Any], ...], other: tuple[npt.NDArray[Any], ...]) -> tuple[npt.NDArray[Any], ...]:
    """The parts of one text that was measured in two slices: counts added, the larger maximum kept."""
    features, place = np.unique(np.concatenate([one[0], other[0]]), return_inverse=True)
    counts, maxima = np.zeros(len(features), np.int32), np.zeros(len(features), np.float32)
    np.add.at(counts, place, np.concatenate([one[1], other[1]]))
    np.maximum.at(maxima, place, np.concatenate([one[2], other[2]]))
    return features, counts, maxima
