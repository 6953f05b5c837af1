"""The texts that a method is fitted on: for each concept those that have it, and as many that have not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from harness.errors import DataError
from harness.types import Concept, Json, Labeling, digest

if TYPE_CHECKING:
    from harness.contracts import Bench

Places = np.ndarray[Any, np.dtype[np.int64]]

Negatives = Literal["auto", "plain", "others"]
"""Which texts stand against a concept's: those without any concept (AxBench's), those of other concepts, too, or the first where there are any."""


@dataclass(frozen=True, eq=False)
class ConceptTexts:
    """The training texts of one concept, as places in the corpus.

    Attributes:
        concept: whose.
        positive: texts that have it, ``[positives]`` int64, ascending.
        negative: texts that have it not, ``[negatives]`` int64, ascending; disjoint from ``positive``.
    """

    concept: Concept
    positive: Places
    negative: Places

    @property
    def places(self) -> Places:
        """Return both, positives first."""
        return np.concatenate([self.positive, self.negative])

    @property
    def identity(self) -> Json:
        """Return what a fit on these texts depends on, beside the corpus: for the key of an artifact."""
        return [self.concept.id, digest([self.positive.tolist(), self.negative.tolist()])]


def concept_texts(
    bench: Bench,
    labelings: Sequence[Labeling],
    who: str,
    *,
    negatives: Negatives = "auto",
    balance: bool = True,
    answers: bool = False,
) -> list[ConceptTexts]:
    """Return the training texts of all concepts of some labelings, each concept once, in their order.

    Args:
        bench: whose corpus and split it is; texts are of its train part, and have a token that counts.
        labelings: of the concepts.
        who: is fitted, e.g. ``steerer reft-r1``, for messages.
        negatives: see :data:`Negatives`; of the positives' genres, where the corpus states genres.
        balance: at most as many negatives as positives, drawn by (seed, concept).
        answers: only texts that answer an instruction, with a token of the answer's own, will do.

    Raises:
        DataError: a concept that names no label; one without a positive or a negative text; and with ``answers`` a corpus whose texts are not read
            as conversations.
    """
    if answers and not bench.conversations:
        message = f"{who} learns from instructions and answers, and the task reads its texts without instructions"
        hint = "give a corpus that has them, with corpus.conversations = true in the task"
        raise DataError(message, given="corpus.conversations = false", allowed="true", hint=hint)
    usable = _usable(bench, answers)
    concepts = {labeling.concept.id: labeling.concept for labeling in labelings}
    return [_of_concept(bench, concept, who, negatives, balance, usable) for concept in concepts.values()]


def _usable(bench: Bench, answers: bool) -> Places:
    """Return the training texts with a token that counts; with ``answers`` those with one of the answer's own."""
    from harness.model.activations import row_lengths

    lengths, places = row_lengths(bench.corpus_tokens), bench.split.train
    places = places[lengths[places] > bench.skip]
    if not answers:
        return places
    return np.array([place for place in places.tolist() if lengths[place] > bench.answer_start(place)], dtype=np.int64)


def _of_concept(bench: Bench, concept: Concept, who: str, negatives: Negatives, balance: bool, usable: Places) -> ConceptTexts:
    if concept.label is None:
        message = f"{who} learns from labelled texts, and concept {concept.id!r} does not name a label of the corpus"
        raise DataError(message, given=concept.id, hint="leave the concept out")
    labelled = bench.labels.of(concept.label)
    positive = np.intersect1d(usable, labelled)
    others = np.setdiff1d(usable, np.union1d(labelled, bench.labels.of(concept.hard_negatives)))
    plain = others[bench.labels.counts[others] == 0]
    if not len(positive) or not len(others):
        what = "no text" if not len(positive) else "every text"
        message = f"{who} learns from texts with and without concept {concept.id!r}, and {what} of the corpus' train part has it"
        raise DataError(message, given=concept.id, hint="leave the concept out, or give a corpus with more texts")
    if negatives == "plain" and not len(plain):
        message = f"{who} is to learn from texts without any concept (negatives=plain), and the corpus' train part has none"
        raise DataError(message, given="plain", allowed=("auto", "others"), hint="write negatives=others")
    chosen = others if negatives == "others" or not len(plain) else _of_genres(bench, plain, positive)
    if balance and len(chosen) > len(positive):
        order = bench.rng("negatives", concept.id).permutation(len(chosen))
        chosen = np.sort(chosen[order[: len(positive)]])
    return ConceptTexts(concept, positive, chosen)


def _of_genres(bench: Bench, places: Places, positive: Places) -> Places:
    """Return the texts of the genres that positives have; all where the corpus states none, or none of these."""
    if not bench.corpus[int(positive[0])].genre:
        return places
    genres = {bench.corpus[int(place)].genre for place in positive}
    found = places[[bench.corpus[int(place)].genre in genres for place in places]]
    return found if len(found) else places
