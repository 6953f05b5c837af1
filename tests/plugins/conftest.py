"""A bench over data that a test makes: real statistics, real documents, the real tiny dictionary; no model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from harness.contracts import ResidualMeans
from harness.data.corpora.labels import LabelTable
from harness.interventions import Positions, Site
from harness.sae.corpus.collect import CorpusStatistics
from harness.sae.dictionary import Dictionary
from harness.types import Concept, Document, rng

LAYER, D_SAE, D_IN = 2, 512, 64


@dataclass
class DataBench:
    """Implements as much of :class:`harness.contracts.Bench` as labelers and steerers need."""

    corpus: Sequence[Document]
    found: CorpusStatistics
    dictionaries: Mapping[str, Dictionary]
    concept_mode: str = "fixed"
    min_support: int = 1
    seed: int = 0
    warnings: list[str] = field(default_factory=list)
    site: Site = field(default_factory=lambda: Site(LAYER))
    positions: Positions = field(default_factory=Positions)
    answered: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    @property
    def corpus_tokens(self) -> Sequence[np.ndarray[Any, Any]]:
        return [np.array([place]) for place in range(len(self.corpus))]

    def answers(self, labeler: str) -> Sequence[Any]:
        return self.answered[labeler]

    def dictionary_name(self, name: str | None = None) -> str:
        return name or next(iter(self.dictionaries))

    @property
    def labels(self) -> LabelTable:
        return label_table(self.corpus)

    def statistics(self, dictionary: str | None = None) -> CorpusStatistics:
        assert dictionary in (None, *self.dictionaries)
        return self.found

    def residual_means(self) -> ResidualMeans:
        return ResidualMeans(self.found.document_means, self.found.n_tokens, self.found.mean_norm)

    def rng(self, purpose: str, item: str = "") -> np.random.Generator:
        return rng(self.seed, purpose, item)

    def warn(self, message: str) -> None:
        self.warnings.append(message)

    @property
    def concepts(self) -> tuple[Concept, ...]:
        labels = sorted({label for document in self.corpus for label in document.labels})
        return tuple(Concept(label, f"about {label}", label) for label in labels)


def label_table(documents: Sequence[Document]) -> LabelTable:
    """The labels of documents in memory, as an index of a file would have them."""
    names = sorted({label for document in documents for label in document.labels})
    has = np.array([[name in document.labels for name in names] for document in documents], dtype=bool).reshape(len(documents), len(names))
    return LabelTable(
        names,
        {
            "row-ends": has.sum(axis=1).cumsum(), "columns": has.nonzero()[1].astype(np.int32),
            "label-ends": has.sum(axis=0).cumsum(), "documents": has.T.nonzero()[1].astype(np.int32),
        },
    )  # fmt: skip


def statistics_of(
    counts: np.ndarray[Any, Any], n_tokens: np.ndarray[Any, Any], means: np.ndarray[Any, Any] | None = None, mean_norm: float = 10.0
) -> CorpusStatistics:
    """Statistics of ``counts[text, feature]``: on how many of a text's ``n_tokens`` a feature is active (padded to the tiny width)."""
    texts, features = counts.shape
    wide = np.zeros((texts, max(D_SAE, features)), dtype=np.int64)
    wide[:, :features] = counts
    rows = sparse.csr_matrix(wide)
    shares = (rows.data / np.repeat(n_tokens, np.diff(rows.indptr))).astype(np.float32)
    values: dict[str, Any] = {
        "d_sae": wide.shape[1], "n_tokens": n_tokens.astype(np.int64), "fired": wide.sum(axis=0), "mean_norm": mean_norm, "l0": 1.0,
        "maximum": wide.max(axis=0, initial=0).astype(np.float32),
        "document_means": (np.zeros((texts, D_IN)) if means is None else means).astype(np.float32), "explained_variance": 0.5, "skip": 1,
        "dictionary_digest": "d", "model_digest": "m", "shares": shares, "maxima": rows.data.astype(np.float32), "indices": rows.indices,
        "indptr": rows.indptr,
    }  # fmt: skip
    missing = {name for name in CorpusStatistics.__dataclass_fields__ if name not in values}
    return CorpusStatistics(**values, **dict.fromkeys(missing, 0))


@pytest.fixture(scope="session")
def tiny_dictionary(tiny_sae_path: Path) -> Dictionary:
    """The tiny model's dictionary: 512 features of width 64."""
    from harness.sae import load

    return load(tiny_sae_path)


@pytest.fixture
def make_bench(tiny_dictionary: Dictionary) -> Callable[..., DataBench]:
    """A function: counts ``[texts, features]``, tokens ``[texts]`` and each text's labels ↦ a bench."""

    def make(
        counts: np.ndarray[Any, Any], n_tokens: np.ndarray[Any, Any], labels: Sequence[Sequence[str]], *,
        means: np.ndarray[Any, Any] | None = None, mean_norm: float = 10.0, **options: Any,
    ) -> DataBench:  # fmt: skip
        documents = [Document(str(place), f"text {place}", frozenset(its)) for place, its in enumerate(labels)]
        return DataBench(documents, statistics_of(counts, n_tokens, means, mean_norm), {"sae": tiny_dictionary}, **options)

    return make
