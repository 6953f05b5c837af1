"""Neuronpedia's explanations as labels: what others wrote about a feature, usually a language model that saw where it fires.

Chosen mode: explained live features, each labelled by its own explanation. Fixed mode: for each concept the features whose explanation is
most similar to its text. A feature without a usable explanation is unlabelled: it is counted, and never an answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from pydantic import Field, model_validator

from harness import hookimpl
from harness.data.neuronpedia.explanations import Explanation, Labels, explained_features
from harness.data.neuronpedia.open import check_belongs, open_explanations
from harness.errors import DataError, OptionError
from harness.labelling.drawing import in_drawn_order
from harness.labelling.options import FilterOptions, traits_of
from harness.options import filter_field, input_field
from harness.types import Abstention, Concept, FeatureRef, Json, Labeling, digest

if TYPE_CHECKING:
    from harness.contracts import Bench
    from harness.data.neuronpedia.api import ApiLabels
    from harness.labelling.filters import CausalFilter

Floats = np.ndarray[Any, np.dtype[np.float32]]
Indices = np.ndarray[Any, np.dtype[np.int64]]

LEAST = {"embedding": 0.55, "words": 0.5, "search": 0.5}
"""Default of ``min_similarity``. Ours, by reading the best matches of 100 concepts among 857 real labels: of some 40 by embedding at .55 or more
five in six were right, of 17 between .5 and .55 one in three; of 12 by words at .5 or more ten. That of ``search`` was not measured."""
MOST_REQUESTS = 2000
"""Fixed mode matches against every live feature; with more than this, asking the API for each is refused."""
RUNNERS_UP = 3
_PAGES = 5
_CACHED_FROM = 2000
_EMBEDDED_AT_ONCE = 4096
"""Explanations after whose embedding an interrupted labeling goes on."""
_VECTORS = "vectors.f32"


class NeuronpediaOptions(FilterOptions):
    """Options of ``neuronpedia``."""

    source: str = input_field("bulk", words=("bulk", "api"))
    """Where explanations come from: `bulk` (the public bucket), `api` (feature by feature), or a local export (a file or folder)."""
    model_id: str | None = None
    """Neuronpedia's name of the model, e.g. `gemma-2-2b`; none takes it from the dictionary's metadata, or from a local export of one source."""
    source_id: str | None = None
    """Neuronpedia's name of the SAE, e.g. `20-gemmascope-res-16k` (or `gemma-2-2b/20-gemmascope-res-16k`); none as for model_id."""
    base_url: str | None = None
    """Another server in place of Neuronpedia's API or bucket."""
    features_per_label: int = filter_field(1, ge=1)
    """Fixed mode: features that one concept gets at most. In chosen mode each pair has one."""
    count: int = Field(100, ge=1)
    """Chosen mode: the number of explained live features that are labelled."""
    order: Literal["random", "index"] = "random"
    """Chosen mode: drawn uniformly, or the first in order of index."""
    match: Literal["embedding", "words", "search"] = "embedding"
    """Fixed mode: how alike concept and explanation are: by a small embedding model, by shared words, or by Neuronpedia's own search (`api`)."""
    min_similarity: float | None = Field(None, ge=-1, le=1)
    """Fixed mode: least similarity of an answer; none takes .55 for `embedding`, .5 for `words` and for `search` (ours)."""

    @model_validator(mode="after")
    def _search_is_the_apis(self) -> NeuronpediaOptions:
        if self.match == "search" and self.source != "api":
            raise ValueError(f"match is search, which only the API has, and source is {self.source}; set source=api, or match=embedding")
        return self


@dataclass(frozen=True)
class _Work:
    """What one call of ``label`` uses: the dictionary's name, its explanations, and the filter that needs the model."""

    bench: Bench
    name: str
    labels: Labels
    causal: CausalFilter


class NeuronpediaLabeler:
    """Labels by Neuronpedia's explanations; implements :class:`harness.contracts.Labeler`."""

    def __init__(self, options: NeuronpediaOptions) -> None:
        self.options = options
        self.traits = traits_of(options, None if options.min_cosine is not None else "nothing")

    def label(self, bench: Bench, concepts: Sequence[Concept]) -> list[Labeling | Abstention]:
        """Label the concepts of a task.

        Raises:
            DataError: there are no explanations, or they cannot be fetched.
            DictionaryError: the explanations are of another SAE.
            OptionError: ``min_cosine`` is set in chosen mode.
        """
        from harness.labelling.filters import CausalFilter

        options = self.options
        name = bench.dictionary_name(options.dictionary)
        labels, note = open_explanations(
            bench.dictionaries[name],
            options.source,
            model_id=options.model_id,
            source_id=options.source_id,
            base_url=options.base_url,
        )
        if note:
            bench.warn(f"neuronpedia: {note}")
        work = _Work(bench, name, labels, CausalFilter(bench, name, options, "neuronpedia"))
        if bench.concept_mode == "chosen":
            answers: list[Labeling | Abstention] = list(self._choose(work))
        elif options.match == "search":
            allowed = self._allowed(work, concepts)
            answers = [self._search(work, concept, mine) for concept, mine in zip(concepts, allowed, strict=True)]
        else:
            answers = self._match(work, concepts)
        if labels.n_unlabelled:
            bench.warn(f"neuronpedia: {labels.summary()}")
        return answers

    def _allowed(self, work: _Work, concepts: Sequence[Concept]) -> list[Indices]:
        """Return the features that may be chosen, one row per concept, ascending: those that fire on the corpus and pass the cosine filter."""
        live = np.asarray(work.bench.statistics(self.options.dictionary).live)
        if self.options.min_cosine is None:
            return [live] * len(concepts)
        from harness.labelling.splits import label_cosines, split_texts

        cosines = label_cosines(work.bench, work.name, concepts, split_texts(work.bench, self.options.held_out)[0])
        return [live[row[live] >= self.options.min_cosine] for row in cosines]

    @property
    def _least(self) -> float:
        own = self.options.min_similarity
        return LEAST[self.options.match] if own is None else own

    # --------------------------------------------------------------------------------------------------------- chosen mode

    def _choose(self, work: _Work) -> Iterator[Labeling]:
        """Yield the first ``count`` features of the order that are explained and pass the filters, each as a concept of its own."""
        if self.options.min_cosine is not None:
            message = (
                f"min_cosine={self.options.min_cosine:g} of labeler neuronpedia compares a feature with the texts of a label, and in chosen mode "
                "its concepts are explanations, which have no texts"
            )
            raise OptionError(message, given=self.options.min_cosine, hint="leave out min_cosine, or use a task in fixed mode")
        bench, labels, options = work.bench, work.labels, self.options
        live = np.asarray(bench.statistics(options.dictionary).live)
        order = live if options.order == "index" else in_drawn_order(bench.rng("neuronpedia-features"), live)
        if options.source == "api":  # the filters are cheaper than requests
            drawn: Iterable[Any] = islice(explained_features(labels, work.causal.passing(order)), options.count)
            drawn = bench.track(drawn, "asking Neuronpedia for explanations", total=options.count)
        else:
            explained = [feature for feature, _ in explained_features(labels, order)]
            drawn = ((feature, labels.of(feature)) for feature in work.causal.first(explained, options.count))
        found = 0
        for feature, explanations in drawn:
            found += 1
            evidence = self._evidence(work, feature, explanations[0], explanations, None)
            concept = Concept(f"{labels.source}/{feature}", explanations[0].text)
            yield Labeling(concept, (FeatureRef(work.name, feature),), None, {"source": str(labels.source), "features": [evidence]})
        passing = f"of the {len(live)} features that fire on the corpus {found} are explained{' and pass the filters' * work.causal.active}"
        if not found:
            raise DataError(f"{passing} ({labels.summary()})", given=self.options.source, hint="give another source")
        if found < options.count:
            bench.warn(f"neuronpedia: {passing}; count is {options.count}")

    # ---------------------------------------------------------------------------------------------------------- fixed mode

    def _match(self, work: _Work, concepts: Sequence[Concept]) -> list[Labeling | Abstention]:
        """Compare each concept with every explanation of every allowed feature; a feature is as similar as its most similar explanation."""
        allowed = self._allowed(work, concepts)
        every = np.unique(np.concatenate([*allowed, np.zeros(0, dtype=np.int64)]))
        if self.options.source == "api" and len(every) > MOST_REQUESTS:
            message = f"matching concepts needs the explanations of {len(every)} features, too many to ask the API for one by one"
            raise DataError(message, given=len(every), allowed=f"at most {MOST_REQUESTS}", hint="set match=search, or source=bulk")
        features: Iterable[int] = every
        if self.options.source == "api":
            features = work.bench.track(features, "asking Neuronpedia for explanations", total=len(every))
        explanations = [item for _, items in explained_features(work.labels, features) for item in items]
        if not explanations:
            return [Abstention(concept, "no feature that may be chosen is explained") for concept in concepts]
        owners = np.array([item.feature for item in explanations])
        starts = np.flatnonzero(np.diff(owners, prepend=-1))
        wanted, texts = [concept.text for concept in concepts], [item.text for item in explanations]
        rows = self._embedding(work, wanted, texts) if self.options.match == "embedding" else word_overlap(wanted, texts)
        answers: list[Labeling | Abstention] = []
        for concept, row, mine in zip(concepts, rows, allowed, strict=True):
            best = np.where(np.isin(owners[starts], mine), np.maximum.reduceat(row, starts), -np.inf)
            near = max(int((best >= self._least).sum()), self.options.features_per_label) + RUNNERS_UP
            ranked: list[tuple[Explanation, float]] = []
            for group in np.argsort(-best, kind="stable")[:near]:
                if best[group] == -np.inf:
                    break
                end = starts[group + 1] if group + 1 < len(starts) else len(row)
                place = int(starts[group]) + int(row[starts[group] : end].argmax())
                ranked.append((explanations[place], round(float(row[place]), 6)))
            answers.append(self._answer(work, concept, ranked))
        return answers

    def _search(self, work: _Work, concept: Concept, allowed: Indices) -> Labeling | Abstention:
        """Answer with the nearest explanations by the server's own search, as far as their features may be chosen."""
        from harness.data.neuronpedia.api import SEARCH_PAGE, SHORTEST_QUERY

        if len(concept.text.strip()) < SHORTEST_QUERY:
            reason = f"Neuronpedia's search takes at least {SHORTEST_QUERY} characters, and the concept is {concept.text!r}"
            return Abstention(concept, reason)
        may = {int(feature) for feature in allowed}
        ranked: dict[int, tuple[Explanation, float]] = {}
        for page in range(_PAGES):
            hits = cast("ApiLabels", work.labels).search(concept.text, page * SEARCH_PAGE)
            largest = max((hit.explanation.feature for hit in hits), default=-1)
            check_belongs(work.labels.source, work.bench.dictionaries[work.name], largest)
            for hit in hits:
                if hit.explanation.feature in may:
                    ranked.setdefault(hit.explanation.feature, (hit.explanation, round(hit.similarity, 6)))
            enough = len(ranked) >= self.options.features_per_label + RUNNERS_UP and not work.causal.active
            if not hits or enough or hits[-1].similarity < self._least:
                break
        return self._answer(work, concept, sorted(ranked.values(), key=lambda item: (-item[1], item[0].feature)))

    def _answer(self, work: _Work, concept: Concept, ranked: Sequence[tuple[Explanation, float]]) -> Labeling | Abstention:
        """Answer with the best of ``ranked`` (best first) that are similar enough and pass the filters, and the next ones as evidence."""
        if not ranked:
            return Abstention(concept, "no explanation that is near is of a feature that may be chosen")
        similar = [item for item in ranked if item[1] >= self._least]
        if not similar:
            best, similarity = ranked[0]
            nearest = f"{best.text!r} of feature {best.feature}, has similarity {similarity:.3g}"
            return Abstention(concept, f"the most similar explanation, {nearest}; {self._least:g} is needed")
        kept = set(work.causal.first([item.feature for item, _ in similar], self.options.features_per_label))
        if not kept:
            return Abstention(concept, f"none of the {len(similar)} features with a similar explanation passes the filters")
        passing = [item for item in similar if item[0].feature in kept]
        known = self.options.match != "search"  # other explanations of a feature that was searched for would take one more request each
        labels, name = work.labels, work.name
        evidence = [self._evidence(work, e.feature, e, labels.of(e.feature) if known else (), similarity) for e, similarity in passing]
        others = [{"feature": e.feature, "explanation": e.text, "similarity": s} for e, s in ranked if e.feature not in kept]
        found = {"source": str(labels.source), "match": self.options.match, "features": evidence, "runners_up": others[:RUNNERS_UP]}
        return Labeling(concept, tuple(FeatureRef(name, item.feature) for item, _ in passing), passing[0][1], found)

    def _evidence(
        self, work: _Work, feature: int, best: Explanation, explanations: Sequence[Explanation], similarity: float | None
    ) -> dict[str, Json]:
        density = float(work.bench.statistics(self.options.dictionary).density[feature])
        others = [{"explanation": item.text, "by": item.by} for item in explanations if item != best]
        found: dict[str, Json] = {"feature": feature, "explanation": best.text, "by": best.by, "explanation_score": best.score}
        return found | {"similarity": similarity, "density": density, "other_explanations": others}

    def _embedding(self, work: _Work, wanted: Sequence[str], texts: Sequence[str]) -> Iterator[Floats]:
        """Yield cosines of sentence embeddings, one row per concept; many explanations' are kept, since an SAE's take minutes on a CPU."""
        from harness.files.shards import ShardedFiles, map_file
        from harness.model.sentences import MODEL, SentenceEmbedder

        embedder = SentenceEmbedder(work.bench.dictionaries[work.name].device)
        distinct = sorted(set(texts))
        if len(distinct) < _CACHED_FROM:
            vectors = embedder.embed(distinct)
        else:

            def compute(folder: Path) -> None:
                files = ShardedFiles(folder, [_VECTORS], None)
                for start in range(len(files.notes) * _EMBEDDED_AT_ONCE, len(distinct), _EMBEDDED_AT_ONCE):
                    files.append({_VECTORS: embedder.embed(distinct[start : start + _EMBEDDED_AT_ONCE])}, None)

            key = {"kind": "explanation-embeddings", "version": 2, "embedder": MODEL, "texts": digest(distinct)}
            vectors = map_file(work.bench.artifact(key, compute) / _VECTORS, "<f4", (len(distinct), embedder.width))
        place = {text: number for number, text in enumerate(distinct)}
        places = np.array([place[text] for text in texts])
        for vector in embedder.embed(wanted):
            yield np.einsum("ij,j->i", vectors, vector)[places]  # a BLAS product's last bits would depend on the number of rows


def word_overlap(wanted: Sequence[str], texts: Sequence[str]) -> Iterator[Floats]:
    """Yield the cosines of one wanted text's set of words with those of all ``texts``, one row ``[texts]`` per wanted text, 0 to 1.

    A word that n of N texts have weighs log((N + 1) / (n + 0.5)), so rare words count more. Case and a plural s are ignored.
    """
    from scipy.sparse import csr_matrix

    sets = [_words(text) for text in texts]
    known = {word: column for column, word in enumerate(sorted(set().union(*sets)))}
    holders = np.zeros(len(known))
    for words in sets:
        holders[[known[word] for word in words]] += 1
    weight = np.log((len(texts) + 1) / (holders + 0.5))
    unknown = float(np.log((len(texts) + 1) / 0.5))  # a word that no text has makes every overlap smaller
    columns = [known[word] for words in sets for word in sorted(words)]
    matrix = csr_matrix((weight[columns] ** 2, columns, np.cumsum([0, *map(len, sets)])), shape=(len(sets), len(known)))
    norms = np.sqrt(np.asarray(matrix.sum(axis=1)).ravel())
    for text in wanted:
        words = _words(text)
        own = np.zeros(len(known))
        own[[known[word] for word in words if word in known]] = 1.0
        norm = float(np.sqrt((own * weight**2).sum() + unknown**2 * sum(word not in known for word in words)))
        bottom = norms * norm
        yield np.divide(matrix @ own, bottom, out=np.zeros(len(sets)), where=bottom > 0).astype(np.float32)


def _words(text: str) -> set[str]:
    words = re.findall(r"[^\W_]+", text.casefold())
    return {word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word for word in words}


@hookimpl
def harness_register_labelers(registry: Any) -> None:
    registry.add(
        "neuronpedia", NeuronpediaLabeler, options=NeuronpediaOptions, summary="Neuronpedia's explanations of features as their labels"
    )
