"""The texts of a detection run: those that choose thresholds, those that are reported on, and the latter without each concept's keywords."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from harness.data.aspects import AspectText, aspects_digest, open_aspects
from harness.data.examples import Picked
from harness.data.keywords import KeywordMatcher
from harness.data.split import Part
from harness.data.texts import TextSet
from harness.evaluations.detection.aspects import ASPECTS, variants_of
from harness.evaluations.detection.records import Truth
from harness.run.bench import TaskBench
from harness.run.concept_check import concept_problems
from harness.types import Concept, digest

CHANGED = "report without keywords"
"""Name of the set in which a concept's keywords are taken out."""

@dataclass(frozen=True, eq=False)
class Changed:
    """The reported texts in which a keyword of one concept stood, without its keywords.

    Attributes:
        texts: what is left of them; those of which no token that counts is left are not among them.
        rows: their places among the reported texts, ``[texts]``, ascending.
        emptied: places of those that are not among them.
    """

    texts: TextSet
    rows: NDArray[np.int64]
    emptied: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class DetectionTexts:
    """What the concepts of a run are detected in. Made by :func:`detection_texts`.

    Attributes:
        threshold: texts on which thresholds are chosen.
        report: texts of which everything is reported.
        concepts: the concepts that can be detected, by id.
        left_out: why a concept cannot be, whatever the method, by id.
        aspects: base texts of the task's aspect set, by concept; those of concepts that cannot be detected are not among them.
        aspects_digest: of that set; empty without one.
    """

    bench: TaskBench
    threshold: TextSet
    report: TextSet
    concepts: Mapping[str, Concept]
    left_out: Mapping[str, str] = field(default_factory=dict)
    aspects: Mapping[str, Sequence[AspectText]] = field(default_factory=dict)
    aspects_digest: str = ""

    def aspect_texts(self, concept_id: str) -> TextSet | None:
        """Return the variants of a concept's base texts, four of each; None without any."""
        own = self.aspects.get(concept_id, ())
        return changed_texts(self.bench, f"{ASPECTS}: {concept_id}", variants_of(own)) if own else None

    def truth(self, concept_id: str) -> Truth:
        """Return which of the texts have a concept, which are its hard negatives, and from which keywords are taken."""
        concept = self.concepts[concept_id]
        masks = {}
        for name, texts in (("threshold", self.threshold), ("report", self.report)):
            assert texts.places is not None  # both are of the corpus
            positive = np.isin(texts.places, self.bench.labels.of(concept.label))
            masks[name] = positive
            masks[f"{name}_hard"] = np.isin(texts.places, self.bench.labels.of(concept.hard_negatives)) & ~positive
        changed, emptied = None, np.zeros(len(self.report), dtype=bool)
        if (found := self.changed(concept_id)) is not None:
            changed = np.zeros(len(self.report), dtype=bool)
            changed[found.rows] = True
            emptied[found.emptied] = True
        return Truth(
            **masks,
            changed=changed,
            emptied=emptied,
            threshold_plain=_some(self._n_labels("threshold") == 0),
            plain=_some(self._n_labels("report") == 0),
            others=_some((self._n_concepts > 0) & ~masks["report"] & ~masks["report_hard"]),
        )

    def _n_labels(self, name: str) -> NDArray[np.int64]:
        """Return how many labels each text of a part has."""
        places = {"threshold": self.threshold, "report": self.report}[name].places
        return np.asarray(self.bench.labels.counts[places])

    @cached_property
    def _n_concepts(self) -> NDArray[np.int64]:
        """Return how many labels each reported text has that are not those of hard negatives: concepts of the same writer."""
        assert self.report.places is not None
        hard = sum((np.isin(self.report.places, self.bench.labels.of(label)).astype(np.int64) for label in self.bench.hard_labels), start=0)
        return np.asarray(self._n_labels("report") - hard)

    def changed(self, concept_id: str) -> Changed | None:
        """Return the reported texts that change where the concept's keywords are taken out, positives and negatives alike; None without keywords.

        What is not among them keeps its score: nothing was taken from it.
        """
        concept = self.concepts[concept_id]
        if not concept.keywords:
            return None
        if concept_id not in self._changed:
            matcher = KeywordMatcher(concept.keywords)
            left = [(row, new) for row, text in enumerate(self._read) if (new := matcher.without(text)) != text]
            assert self.report.places is not None  # they are of the corpus
            rows = _tokens(self.bench, [text for _, text in left], [int(self.report.places[row]) for row, _ in left])
            kept = [place for place, row in enumerate(rows) if len(row) > self.bench.skip]
            texts = text_set(f"{CHANGED}: {concept_id}", [left[place][1] for place in kept], [rows[place] for place in kept])
            places = np.array([row for row, _ in left], dtype=np.int64)
            self._changed[concept_id] = Changed(texts, places[kept], np.delete(places, kept))
        return self._changed[concept_id]

    @cached_property
    def _read(self) -> Sequence[str]:
        return list(self.report.texts)

    @cached_property
    def _changed(self) -> dict[str, Changed]:
        return {}


def detection_texts(bench: TaskBench, concepts: Sequence[Concept]) -> DetectionTexts:
    """Return the texts in which ``concepts`` are detected; a concept that some part has no positive or no negative of is left out, with a warning.

    Args:
        bench: whose corpus and split they are.
        concepts: with their labels; those with ``keywords`` are also detected without them.
    """
    labels = bench.labels
    found = {part: corpus_texts(bench, part) for part in ("threshold", "report")}
    left_out, kept = {}, {}
    problems = concept_problems(bench, concepts)
    for concept in concepts:
        hard = labels.of(concept.hard_negatives)
        if reason := _undetectable(bench, concept, hard, found):
            problem = problems.get(concept.id)
            left_out[concept.id] = reason if problem is None or concept.label in labels.names else problem.text
        else:
            kept[concept.id] = concept
    for name, reason in left_out.items():
        bench.warn(f"detection leaves out concept {name!r}: {reason}")
    aspects, name = _aspects(bench, kept)
    return DetectionTexts(bench, found["threshold"], found["report"], kept, left_out, aspects, name)


def _aspects(bench: TaskBench, concepts: Mapping[str, Concept]) -> tuple[dict[str, list[AspectText]], str]:
    """Return the task's aspect texts by concept, and the digest of the set."""
    file = bench.task.file.evaluation.aspects
    if file is None:
        return {}, ""
    path = bench.task.path(file)
    found: dict[str, list[AspectText]] = {}
    for one in open_aspects(path):
        if one.concept in concepts:
            found.setdefault(one.concept, []).append(one)
    return found, aspects_digest(path)


def corpus_texts(bench: TaskBench, part: Part) -> TextSet:
    """Return the corpus' texts of one part of the split that have a token that counts, as far as the model reads them."""
    from harness.labelling.pooling import texts_read

    tokens = bench.corpus_tokens
    every = bench.split.part(part)
    places = every[tokens.lengths[every] > bench.skip]
    if len(places) < len(every):
        bench.warn(f"detection: {len(every) - len(places)} of {len(every)} {part} texts have no token that counts; they are left out")
    identity = digest(["corpus", bench.corpus_digest, bench.model.digest, bench.split.digest, part])
    return TextSet(part, identity, texts_read(bench, places), Picked(places, lambda place: tokens[place]), places)


def changed_texts(bench: TaskBench, name: str, texts: Sequence[str]) -> TextSet:
    """Return texts that are not in the corpus, cut as the corpus' own are. Each must have two tokens at least, of which the second counts."""
    return text_set(name, list(texts), _tokens(bench, texts))


def text_set(name: str, texts: Sequence[str], rows: Sequence[NDArray[np.int64]]) -> TextSet:
    """Return texts and their tokens as a set, whose digest covers both."""
    state = hashlib.sha256()
    for text, row in zip(texts, rows, strict=True):
        encoded = text.encode("utf-8", "surrogatepass")
        state.update(f"{len(encoded)},{len(row)}:".encode() + encoded + np.asarray(row, dtype="<i8").tobytes())
    return TextSet(name, state.hexdigest()[:16], texts, rows)


def _tokens(bench: TaskBench, texts: Sequence[str], places: Sequence[int] = ()) -> list[NDArray[np.int64]]:
    """Return token ids of texts; ``places`` are those of the texts of the corpus whose instructions they answer."""
    from harness.model.conversations import Turns, encoded_turns
    from harness.model.tokens import encoded

    if not texts:
        return []
    if bench.conversations:
        asked = [bench.corpus[place].instruction for place in places] or [""] * len(texts)
        rows = encoded_turns(bench.model, list(map(Turns, asked, texts)), bench.token_limit)
    else:
        rows = encoded(bench.model, list(texts), bench.token_limit)
    return [np.array(row, dtype=np.int64) for row in rows]


def _some(mask: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
    """Return a mask, or None where it is of no text."""
    return mask if mask.any() else None


def _undetectable(bench: TaskBench, concept: Concept, hard: NDArray[np.int64], found: Mapping[str, TextSet]) -> str:
    """Returns why no method can be right or wrong on a concept, or learn it; empty where one can."""
    if concept.label is None:
        return "it names no label of the corpus"
    labelled = bench.labels.of(concept.label)
    parts = {"train": bench.split.train, **{name: texts.places for name, texts in found.items() if texts.places is not None}}
    for name, places in parts.items():
        positive = np.isin(places, labelled)
        plain = ~positive & ~np.isin(places, hard)
        if not positive.any() or not plain.any():
            what = "no text" if not positive.any() else "every text"
            return f"{what} of the corpus' {name} part has label {concept.label!r}"
    return ""
