"""What concepts are trained on: texts as token ids with the place at which their answer begins, and which of them make an example."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from harness.errors import DataError
from harness.types import Json, digest, rng

if TYPE_CHECKING:
    from harness.contracts import Bench
    from harness.fitting.schedule import Schedule
    from harness.fitting.texts import ConceptTexts

Ids = np.ndarray[Any, np.dtype[np.int64]]

Kind = Literal["positive", "negative"]


@dataclass(frozen=True, eq=False)
class TrainingText:
    """An instruction and its answer, as the model reads them.

    Attributes:
        ids: token ids of both, ``[tokens]`` int64.
        start: place of the answer's first token.

    Raises:
        DataError: there is no answer, or nothing before it.
    """

    ids: Ids
    start: int

    def __post_init__(self) -> None:
        if not 0 < self.start < len(self.ids):
            message = f"the answer begins at token {self.start} of a text of {len(self.ids)} tokens, so there is none that could be learnt"
            raise DataError(message, given=self.start, allowed="a place within the text", hint="leave empty answers out, or cut texts later")


@dataclass(frozen=True)
class TrainingExample:
    """What is learnt from at once: one text, or several whose losses belong together (a pair of which one is preferred).

    Attributes:
        texts: their numbers in the training set, in an order that is the method's own.
        kind: e.g. ``positive``; some of each kind are held out.
    """

    texts: tuple[int, ...]
    kind: str = ""


@dataclass(frozen=True)
class ConceptExamples:
    """The examples of one concept, at least one, each of as many texts.

    Raises:
        DataError: there is none, or they are of different numbers of texts.
    """

    concept: str
    examples: tuple[TrainingExample, ...]

    def __post_init__(self) -> None:
        sizes = {len(example.texts) for example in self.examples}
        if len(sizes) != 1:
            what = "no example" if not sizes else f"examples of {sorted(sizes)} texts"
            raise DataError(f"concept {self.concept!r} has {what} to be trained on", given=self.concept, hint="leave the concept out")

    def divided(self, share: float, seed: int) -> tuple[list[int], list[int]]:
        """Return the places of the examples that are trained on, and of those that are held out, each ascending.

        Args:
            share: of each kind is held out, at least one where there are two; 0 holds none out.
            seed: which ones depends on it and on the concept.
        """
        held: set[int] = set()
        for kind in dict.fromkeys(example.kind for example in self.examples):
            places = [place for place, example in enumerate(self.examples) if example.kind == kind]
            n = min(len(places) - 1, max(1, round(share * len(places)))) if share else 0
            order = rng(seed, f"held-out examples {kind}", self.concept).permutation(len(places))
            held |= {places[int(i)] for i in order[:n]}
        return [place for place in range(len(self.examples)) if place not in held], sorted(held)

    def batch(self, chosen: Sequence[int], schedule: Schedule, seed: int, step: int) -> list[int]:
        """Return which of the chosen places are the batch of a step, counted from 0: by (seed, concept, step) alone."""
        epoch, part = divmod(step, schedule.per_epoch(len(chosen)))
        order = rng(seed, "order of examples", f"{self.concept}:{epoch}").permutation(len(chosen))
        return [chosen[int(i)] for i in order[part * schedule.batch : (part + 1) * schedule.batch]]


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """The examples of several concepts, which may share texts.

    Raises:
        DataError: a concept occurs twice.
    """

    texts: Sequence[TrainingText]
    concepts: Sequence[ConceptExamples]

    def __post_init__(self) -> None:
        names = [one.concept for one in self.concepts]
        if twice := [name for name in names if names.count(name) > 1]:
            raise DataError(f"concept {twice[0]!r} is to be trained twice", given=twice[0], hint="give it once")

    @property
    def identity(self) -> Json:
        """Return what identifies the set: for the key of an artifact."""
        texts = hashlib.sha256()
        for text in self.texts:
            texts.update(f"{len(text.ids)} {text.start}\x1f".encode() + text.ids.astype("<i8").tobytes())
        examples = [[one.concept, [[example.kind, *example.texts] for example in one.examples]] for one in self.concepts]
        return [texts.hexdigest()[:16], digest(examples)]


def answers_of(bench: Bench, concepts: Sequence[ConceptTexts], kinds: Sequence[Kind] = ("positive", "negative")) -> TrainingSet:
    """Return a training set of one text an example: the corpus' answers that have a concept, and those that stand against it.

    Args:
        bench: whose corpus.
        concepts: the texts of each, of :func:`harness.fitting.texts.concept_texts` with ``answers``.
        kinds: which of the two are trained on.
    """
    chosen = [[(kind, place) for kind in kinds for place in getattr(one, kind).tolist()] for one in concepts]
    number = {place: number for number, place in enumerate(sorted({place for places in chosen for _, place in places}))}
    tokens = bench.corpus_tokens
    texts = [TrainingText(np.asarray(tokens[place], dtype=np.int64), bench.answer_start(place)) for place in number]
    examples = [
        ConceptExamples(one.concept.id, tuple(TrainingExample((number[place],), kind) for kind, place in places))
        for one, places in zip(concepts, chosen, strict=True)
    ]
    return TrainingSet(texts, examples)
