"""What detectors share: features and residuals of texts, pooled over tokens, and the texts as far as the model reads them.

For the corpus' own texts the one pass over the corpus holds most of it already. Other texts get a pass of their own, which counts the same tokens
(no first one, no outlier) and is kept as an artifact, so that all methods of all runs share it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from harness.data.examples import Picked
from harness.errors import DataError, OptionError
from harness.files.timing import CLOCK, ENCODING

if TYPE_CHECKING:
    from harness.contracts import Bench
    from harness.data.texts import TextSet
    from harness.sae.corpus.collect import CorpusStatistics
    from harness.types import Labeling

Pool = Literal["frequency", "max", "mean"]
"""One number per feature and text: the share of its tokens on which the feature fires, its largest or its mean activation there (in magnitude)."""


def pooled_features(
    bench: Bench, dictionary: str, features: Sequence[int] | NDArray[np.int64], texts: TextSet, pool: Pool
) -> NDArray[np.float64]:
    """Return one number per feature and text: ``[features, texts]``, 0 where the feature does not fire.

    Args:
        bench: whose dictionary it is.
        dictionary: its name.
        features: without repetitions.
        texts: each with at least one token that counts.
        pool: how tokens become one number. ``mean`` always needs a pass of its own: the pass over the corpus keeps no means.
    """
    if pool not in get_args(Pool):
        raise OptionError(f"pool is {pool!r}", given=pool, allowed=get_args(Pool))
    if not len(texts):
        return np.zeros((len(features), 0))
    if pool == "mean":
        return _means(bench, dictionary, features, texts)
    statistics, places = text_statistics(bench, dictionary, texts)
    found = statistics.texts_of(features, "shares" if pool == "frequency" else "maxima")
    return np.asarray(found.tocsr()[places].toarray().T, dtype=np.float64)


def text_statistics(bench: Bench, dictionary: str, texts: TextSet) -> tuple[CorpusStatistics, NDArray[np.int64]]:
    """Return what a pass over ``texts`` found at a dictionary's site, and the row of each text in it, ``[texts]``."""
    if texts.places is not None:
        return bench.statistics(dictionary), texts.places
    from harness.sae.corpus.collect import FORMAT, CorpusStatistics, measure

    target = bench.dictionaries[dictionary]

    def compute(folder: Path) -> None:
        measure(bench.model, target, texts.tokens, folder, skip=bench.skip)

    key = {"kind": "text-statistics", "version": FORMAT, "dictionary": target.digest, "texts": texts.digest}
    return CorpusStatistics.load(bench.artifact(key, compute)), np.arange(len(texts))


def mean_residuals(bench: Bench, texts: TextSet) -> NDArray[np.float32]:
    """Return the mean residual of each text at ``bench.site``, ``[texts, d_model]``, over the tokens that count in the corpus, too."""
    if texts.places is not None:
        return np.asarray(bench.residual_means().means[texts.places], dtype=np.float32)
    if not len(texts):
        return np.zeros((0, bench.model.d_model), dtype=np.float32)
    for name, dictionary in bench.dictionaries.items():
        if dictionary.layer == bench.site.layer:
            statistics, places = text_statistics(bench, name, texts)
            return np.asarray(statistics.document_means[places], dtype=np.float32)
    means = np.zeros((len(texts), bench.model.d_model), dtype=np.float32)
    for place, x in bench.activations(bench.site, texts):
        if len(x):
            means[place] = x.mean(dim=0).cpu().numpy()
    return means


def texts_read(bench: Bench, places: NDArray[np.int64]) -> Sequence[str]:
    """Return the corpus' texts at ``places`` as far as the model reads them, cut where their tokens are; each is read when it is asked for."""
    from harness.model.activations import row_lengths

    rows, corpus = bench.corpus_tokens, bench.corpus
    lengths: NDArray[np.int64] = row_lengths(rows)
    longest = int(lengths.max(initial=0))

    def read(place: int) -> str:
        # only a text that is as long as any can have been cut
        if lengths[place] < longest:
            return corpus[place].text
        own = bench.answer_start(place) if bench.skip > 1 else 0  # of a conversation, the answer alone
        return bench.model.decode(rows[place][own:].tolist())

    return Picked(places, read)


def _means(bench: Bench, dictionary: str, features: Sequence[int] | NDArray[np.int64], texts: TextSet) -> NDArray[np.float64]:
    from harness.interventions import Site

    target = bench.dictionaries[dictionary]
    columns = target.columns([int(feature) for feature in features])
    found = np.zeros((len(features), len(texts)))
    for place, x in bench.activations(Site(target.layer), texts):
        if not len(x):
            continue
        with CLOCK.part(ENCODING):
            f = columns.activations(x)
            found[:, place] = (f.abs() if target.signed else f.clamp_min(0)).cpu().double().mean(dim=0).numpy()
    return found


def learnable_labels(bench: Bench, labelings: Sequence[Labeling], who: str) -> list[str]:
    """Return the corpus labels of all concepts, sorted, each once.

    Raises:
        DataError: a concept does not name a label, or all or none of the training texts have its label, so that it cannot be learned.
    """
    train = bench.split.train
    found = set()
    for concept in {labeling.concept.id: labeling.concept for labeling in labelings}.values():
        if concept.label is None:
            message = f"{who} learns from labelled texts, and concept {concept.id!r} does not name a label of the corpus"
            raise DataError(message, given=concept.id, hint="leave the concept out")
        n = int(np.isin(train, bench.labels.of(concept.label)).sum())
        if not 0 < n < len(train):
            message = (
                f"{who} learns from training texts with and without a concept, and {n} of {len(train)} have label {concept.label!r} of concept "
                f"{concept.id!r}"
            )
            hint = "leave the concept out, or give a corpus with more texts"
            raise DataError(message, given=n, allowed=f"1 to {len(train) - 1} texts", hint=hint)
        found.add(concept.label)
    return sorted(found)
