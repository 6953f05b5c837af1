"""How likely a text is to the unsteered subject model: by itself, as a reply to its instruction, and followed by its concept."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from harness.errors import JudgeError
from harness.types import rng

from .packed import Row, Scorer, scorer
from .references import REFERENCES

if TYPE_CHECKING:
    from harness.model.loading import SubjectModel

Floats = NDArray[np.float32]

MIN_SPAN = 0.25
"""Nats per token by which the subject model must prefer the reference passages to their shuffled words, or it cannot judge fluency."""
ANSWER = "\n\n"
"""What stands between an instruction and the text that is read as its reply."""
TOPIC = "\n\nTopic: "
"""What stands between a text and the concept that is read as its subject."""
N_BASE = 3
"""Reference passages after which the concept's log-probability is its baseline."""


@dataclass(frozen=True, eq=False)
class Likelihood:
    """Log-probabilities in nats: of the text's tokens by itself and as a reply ``[n]``, and of the concept's after the text ``[c]``."""

    alone: Floats
    reply: Floats
    topic: Floats


class LikelihoodMeter:
    """Measures log-probabilities under the subject model, on a scale that is comparable between models.

    Attributes:
        fluent: mean log-probability per token over the reference passages, in nats.
        shuffled: the same over the passages with their words shuffled.
        start: ``[n]``: the mean over the references' first 1, 2, … tokens, since a model knows less at the start.
        rare: the log-probability that 5 % of the references' tokens are below.
    """

    def __init__(self, model: SubjectModel, budget: int) -> None:
        self._model = model
        self._bos = model.encode("")
        # What the first token is predicted from: the tokenizer's own BOS, or a line break for a model that was trained without one.
        self._context = self._bos or model.encode("\n") or [model.pad_id]
        self._topic = model.encode(TOPIC, add_bos=False)
        self._baselines: dict[str, float] = {}
        example = [self._reply(REFERENCES[0], self._ids(text)) for text in REFERENCES[1:3]] + [self._document_row(REFERENCES[3])]
        self._scorer: Scorer = scorer(model, budget, example)
        references = self.log_probabilities(REFERENCES)
        orders = [rng(0, "offline-judge-shuffle", str(number)).permutation(len(text.split())) for number, text in enumerate(REFERENCES)]
        shuffled = [" ".join(np.array(text.split())[order]) for text, order in zip(REFERENCES, orders, strict=True)]
        values = np.concatenate(references)
        self.fluent = float(values.mean())
        self.rare = float(np.quantile(values, 0.05))
        self.shuffled = float(np.concatenate(self.log_probabilities(shuffled)).mean())
        lengths = range(1, max(map(len, references)) + 1)
        self.start = np.array([np.concatenate([row[:n] for row in references]).mean() for n in lengths])
        if not self.fluent - self.shuffled >= MIN_SPAN:  # also if one of them is NaN
            raise JudgeError(
                f"{model.name} gives fluent text {self.fluent:.2f} and shuffled words {self.shuffled:.2f} nats a token, so it cannot judge fluency",
                given=self.fluent - self.shuffled,
                allowed=f"a difference of {MIN_SPAN} or more",
                hint="use another judge for this model",
            )

    @property
    def span(self) -> float:
        """Nats per token between shuffled words and fluent text: the unit of what is made of log-probabilities."""
        return self.fluent - self.shuffled

    def use(self, way: Scorer) -> None:
        """Read rows in another way from now on (for comparisons)."""
        self._scorer = way

    def measure(self, asked: Sequence[tuple[str, str, str]]) -> list[Likelihood]:
        """Return the likelihoods of each (concept, instruction, text)."""
        alone, reply = [], []
        for concept, instruction, text in asked:
            own, topic = self._ids(text), self._ids(concept)
            start, limit = len(self._context), self._model.max_tokens or sys.maxsize
            own = own[: max(1, limit - start)]
            tail = [*self._topic, *topic][: max(0, limit - start - len(own))]
            first = start + len(own)
            alone.append(
                Row([*self._context, *own, *tail], ((start, first), (min(first + len(self._topic), first + len(tail)), first + len(tail))))
            )
            reply.append(self._reply(instruction, own))
        found = self._scorer.score([*alone, *reply])
        own_rows, reply_rows = found[: len(asked)], found[len(asked) :]
        return [Likelihood(first[0], second[0], first[1]) for first, second in zip(own_rows, reply_rows, strict=True)]

    def baselines(self, concepts: Sequence[str]) -> list[float]:
        """Return the mean log-probability per token of each concept after texts that have nothing to do with it, in nats."""
        new = sorted(set(concepts) - self._baselines.keys())
        rows = []
        for concept in new:
            for text in REFERENCES[:N_BASE]:
                before = [*self._context, *self._ids(text), *self._topic]
                ids = [*before, *self._ids(concept)][: self._model.max_tokens]
                rows.append(Row(ids, ((min(len(before), len(ids)), len(ids)),)))
        found = self._scorer.score(rows)
        for number, concept in enumerate(new):
            values = np.concatenate([row[0] for row in found[number * N_BASE : (number + 1) * N_BASE]])
            self._baselines[concept] = float(values.mean()) if len(values) else self.fluent
        return [self._baselines[concept] for concept in concepts]

    def log_probabilities(self, texts: Sequence[str]) -> list[Floats]:
        """Return the log-probability of each token of each text by itself, in nats; a text's first token included."""
        return [found[0] for found in self._scorer.score([self._document_row(text) for text in texts])]

    def _document_row(self, text: str) -> Row:
        ids = [*self._context, *self._ids(text)][: self._model.max_tokens]
        return Row(ids, ((len(self._context), len(ids)),))

    def _reply(self, instruction: str, own: Sequence[int]) -> Row:
        """Return a text as a reply: its tokens after those of its instruction."""
        limit = self._model.max_tokens or sys.maxsize
        before = [*self._context, *self._ids(instruction + ANSWER)][: max(1, limit - len(own))]
        return Row([*before, *own], ((len(before), len(before) + len(own)),))

    def _ids(self, text: str) -> list[int]:
        return self._model.encode(text)[len(self._bos) :]
