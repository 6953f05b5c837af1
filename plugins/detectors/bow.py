"""A bag of words (AxBench's BoW): logistic regression on counts of words. What one gets without looking into the model.

Fitted on the training texts as far as the model reads them; words are those of scikit-learn's CountVectorizer (two letters or more, lower case).
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from harness import hookimpl
from harness.contracts import DetectorTraits
from harness.options import Options
from harness.types import Json, Labeling

if TYPE_CHECKING:
    from harness.contracts import Bench
    from harness.data.texts import TextSet

_WORDS, _WEIGHTS, _NOTES = "words.json", "weights.npz", "notes.json"
_STEPS = 2000


class BowOptions(Options):
    """Options of ``bow``."""

    C: float = Field(100.0, gt=0)
    """Inverse strength of the L2 penalty; 100 as in AxBench."""
    max_words: int = Field(20_000, ge=1)
    """Only so many of the training texts' words are used, the most frequent (ours: it bounds the memory)."""


class BagOfWords:
    """See the module. Implements :class:`harness.contracts.Detector`; a score is a log-odds."""

    traits = DetectorTraits(trivial=True)

    def __init__(self, options: BowOptions) -> None:
        self.options = options

    def prepare(self, bench: Bench, labelings: Sequence[Labeling]) -> None:
        import sklearn

        from harness.labelling.pooling import learnable_labels

        labels = learnable_labels(bench, labelings, "detector bow")
        key: Json = {
            "kind": "bag-of-words", "version": 1, "sklearn": sklearn.__version__, "split": bench.split.digest, "labels": labels,
            **self.options.model_dump(),
        }  # fmt: skip
        folder = bench.artifact(key, lambda folder: self._fit(bench, labels, folder))
        self._words: list[str] = json.loads((folder / _WORDS).read_text(encoding="utf-8"))
        with np.load(folder / _WEIGHTS, allow_pickle=False) as saved:
            self._weights, self._offsets = saved["weights"], saved["offsets"]
        self._row = {label: place for place, label in enumerate(labels)}
        for note in json.loads((folder / _NOTES).read_text(encoding="utf-8")):
            bench.warn(f"bow: {note}")

    def scores(self, labelings: Sequence[Labeling], texts: TextSet) -> NDArray[np.float64]:
        from sklearn.feature_extraction.text import CountVectorizer

        counts = CountVectorizer(vocabulary=self._words).transform(texts.texts)
        rows = [self._row[str(labeling.concept.label)] for labeling in labelings]
        found = counts @ self._weights[rows].T + self._offsets[rows]
        return np.ascontiguousarray(found.T, dtype=np.float64)

    def _fit(self, bench: Bench, labels: Sequence[str], folder: Path) -> None:
        """Fits one regression per label: weights ``[labels, words]``, offsets ``[labels]``."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.feature_extraction.text import CountVectorizer
        from sklearn.linear_model import LogisticRegression

        from harness.labelling.pooling import texts_read

        train = bench.split.train
        vectorizer = CountVectorizer(max_features=self.options.max_words)
        counts = vectorizer.fit_transform(texts_read(bench, train))
        weights, offsets, notes = np.empty((len(labels), counts.shape[1])), np.empty(len(labels)), []
        for place, label in enumerate(bench.track(labels, "counting words", len(labels))):
            regression = LogisticRegression(C=self.options.C, max_iter=_STEPS)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", ConvergenceWarning)
                regression.fit(counts, np.isin(train, bench.labels.of(label)))
            if any(issubclass(warning.category, ConvergenceWarning) for warning in caught):
                notes.append(f"the regression of label {label!r} was still changing after {_STEPS} steps")
            weights[place], offsets[place] = regression.coef_[0], regression.intercept_[0]
        with (folder / _WEIGHTS).open("wb") as file:
            np.savez(file, weights=weights, offsets=offsets)
        (folder / _WORDS).write_text(json.dumps(vectorizer.get_feature_names_out().tolist(), ensure_ascii=False), encoding="utf-8")
        (folder / _NOTES).write_text(json.dumps(notes), encoding="utf-8")


@hookimpl
def harness_register_detectors(registry: Any) -> None:
    registry.add("bow", BagOfWords, options=BowOptions, summary="a bag of words: logistic regression on counts of words (trivial rival)")
