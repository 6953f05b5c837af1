"""The offline judge: three ratings from two small models on this machine. No API, no key, and no substitute for a strong judge.

It sees what every judge sees (concept, instruction, text) and is deterministic: a text's rating does not depend on the texts beside it.

- The instruction, where the text begins with it, is cut off (:mod:`.echo`).
- Measured are cosines of embeddings (all-MiniLM-L6-v2) of text, runs of word pieces and sentences with concept and instruction; log-probabilities
  under the unsteered subject model of the text by itself, as a reply to its instruction, and of the concept after it; and words: repetition, words
  of the concept, refusals (:mod:`.features`). The subject model reads texts packed, without padding (:mod:`.packed`).
- Three forests of regression trees, fitted to rated texts and shipped as numbers, make an expected rating of each (:mod:`.forest`).

Two cut points make 0, 1 and 2 of it. Fit, figures and known failures: ``docs/offline-judge.md``.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field, model_validator

from harness import hookimpl
from harness.contracts import JudgeTraits
from harness.errors import JudgeError
from harness.options import Options
from harness.types import JudgeItem, Rating

from .embedding import EMBEDDING_MODEL, Embedder
from .forest import Forest, load
from .likelihood import LikelihoodMeter
from .measuring import Instruments

if TYPE_CHECKING:
    from harness.contracts import JudgeBench

ASPECTS = ("concept", "instruction", "fluency")
SHOWN = {
    "concept cosine": "concept: run of 6",
    "instruction cosine": "instruction: whole",
    "likelihood": "likelihood: alone",
    "lift": "likelihood: lift",
    "repeated": "text: repeated 3",
    "tokens": "likelihood: tokens",
    "echoed words": "echo: words",
}
"""Measurements that a rating's details show beside the three expected ratings, and the features that they are."""


SLICE = 128
"""Items that are measured together; their ratings are there before the next ones are begun."""


class OfflineOptions(Options):
    """Options of ``offline``. The defaults of the cut points come from ``benchmarks/calibrate_offline_judge.py``."""

    concept_partial: float = Field(0.48, ge=0, le=2)
    """Expected concept rating from which a text is rated 1."""
    concept_full: float = Field(1.41, ge=0, le=2)
    """Expected concept rating from which a text is rated 2."""
    instruction_partial: float = Field(0.55, ge=0, le=2)
    """Expected instruction rating from which a text is rated 1."""
    instruction_full: float = Field(1.52, ge=0, le=2)
    """Expected instruction rating from which a text is rated 2."""
    fluency_partial: float = Field(0.64, ge=0, le=2)
    """Expected fluency rating from which a text is rated 1."""
    fluency_full: float = Field(1.46, ge=0, le=2)
    """Expected fluency rating from which a text is rated 2."""
    batch_tokens: int = Field(512, ge=64, le=65536)
    """Tokens in a batch, padding included. Larger batches are faster on a GPU."""

    @model_validator(mode="after")
    def _ascending(self) -> OfflineOptions:
        for name in ASPECTS:
            low, high = getattr(self, f"{name}_partial"), getattr(self, f"{name}_full")
            if low >= high:
                raise ValueError(f"{name}_partial is {low:g} and {name}_full {high:g}; the first must be the smaller")
        return self


class OfflineJudge:
    """See the module. Implements :class:`harness.contracts.Judge`; every item is answered at once."""

    # The self-test costs seconds and no money, so every entry can say how far the judge is to be trusted.
    traits = JudgeTraits(rubric="offline/2", offline=True, at_once=4096, needs_model=True, selftest_first=True)

    def __init__(self, options: OfflineOptions) -> None:
        self.options = options
        self._instruments: Instruments | None = None
        self._model: object = None

    def prepare(self, bench: JudgeBench) -> None:
        """Load the embedding model (fetched when used for the first time), and see how the subject model rates the reference passages.

        Raises:
            ModelError: the embedding model cannot be fetched or loaded.
            JudgeError: the subject model cannot tell fluent text from shuffled words.
        """
        from harness.model.embedded import ensure

        if self._instruments is not None and self._model is bench.model:
            return  # the self-test has prepared it
        budget = self.options.batch_tokens
        embedder = Embedder(ensure(EMBEDDING_MODEL), bench.model.device, budget)
        self._instruments = Instruments(embedder, LikelihoodMeter(bench.model, budget))
        self._model = bench.model

    def submit(self, items: Sequence[JudgeItem]) -> Iterator[Rating]:
        """Return a rating an item: by rule where there is nothing to measure (see :func:`by_rule`), else by measurement.

        Raises:
            JudgeError: :meth:`prepare` has not been called.
        """
        self.instruments()
        answers = [by_rule(item) for item in items]
        # Replies to one instruction often begin alike, and what they begin with is read once.
        rest = sorted(itertools.compress(items, [answer is None for answer in answers]), key=lambda item: (item.instruction, item.text, item.concept))
        slices = (rest[start : start + SLICE] for start in range(0, len(rest), SLICE))
        return itertools.chain(filter(None, answers), itertools.chain.from_iterable(map(self._rate, slices)))

    def collect(self, tickets: Sequence[str]) -> Iterable[Rating]:
        """Nothing, since no ticket is ever handed out. Raises JudgeError for tickets of another judge."""
        if tickets:
            message = f"the offline judge answers at once and knows no ticket {tickets[0]!r}"
            raise JudgeError(message, given=tickets[0], hint="rate with the judge that gave it")
        return ()

    def measure(self, items: Sequence[JudgeItem]) -> list[dict[str, float]]:
        """Return the expected rating of each aspect (0 to 2), and every feature that they are made of, an item each."""
        found = self.instruments().measure([(item.concept, item.instruction, item.text) for item in items])
        forests, names = shipped()
        rows = np.array([[values[name] for name in names] for values in found], dtype=np.float64).reshape(len(found), len(names))
        expected = {name: forests[name].predict(rows) for name in ASPECTS}
        return [{**{name: float(expected[name][i]) for name in ASPECTS}, **values} for i, values in enumerate(found)]

    def instruments(self) -> Instruments:
        """Return what :meth:`measure` measures with. Raises JudgeError before :meth:`prepare`."""
        if self._instruments is None:
            raise JudgeError("the offline judge has not been prepared", hint="call prepare(bench) first")
        return self._instruments

    def _rate(self, items: Sequence[JudgeItem]) -> list[Rating]:
        try:
            return list(map(self._rating, items, self.measure(items)))
        except RuntimeError:  # torch's own errors, out of memory above all: find the items that cannot be rated
            return list(map(self._rate_alone, items))

    def _rate_alone(self, item: JudgeItem) -> Rating:
        try:
            return self._rating(item, self.measure([item])[0])
        except RuntimeError as error:
            detail = " ".join(str(error).split())[:200]
            return Rating(item.id, "unrated", reason=f"measuring failed: {type(error).__name__}: {detail}")

    def _rating(self, item: JudgeItem, values: Mapping[str, float]) -> Rating:
        broken = [name for name, value in values.items() if not math.isfinite(value)]
        if broken:
            return Rating(item.id, "unrated", reason=f"measuring failed: {', '.join(broken[:3])} is not a finite number")
        options = self.options
        return Rating(
            item.id,
            "rated",
            concept=grade(values["concept"], options.concept_partial, options.concept_full),
            instruction=grade(values["instruction"], options.instruction_partial, options.instruction_full),
            fluency=grade(values["fluency"], options.fluency_partial, options.fluency_full),
            details={
                **{name: round(values[name], 4) for name in ASPECTS},
                **{shown: round(values[name], 4) for shown, name in SHOWN.items()},
            },
        )


@cache
def shipped() -> tuple[Mapping[str, Forest], tuple[str, ...]]:
    """Return the fitted forests, by aspect, and the names of their features in order."""
    return load(Path(__file__).with_name("forests.safetensors"))


def grade(value: float, partial: float, full: float) -> float:
    """0, 1 or 2: how many of the two cut points ``value`` reaches."""
    return float((value >= partial) + (value >= full))


def by_rule(item: JudgeItem) -> Rating | None:
    """Return the rating of an item in which there is nothing to measure, else None.

    A text without any letter or digit is a real answer, and a worthless one: 0, 0, 0. An item without concept or instruction is the
    caller's failure, and not a number.
    """
    if not any(character.isalnum() for character in item.text):
        reason = "the text holds no letter or digit" if item.text.strip() else "the text is empty"
        return Rating(item.id, "rated", concept=0.0, instruction=0.0, fluency=0.0, details={"rule": reason})
    for name, value in (("concept", item.concept), ("instruction", item.instruction)):
        if not value.strip():
            return Rating(item.id, "unrated", reason=f"the {name} is empty")
    return None


@hookimpl
def harness_register_judges(registry: Any) -> None:
    registry.add("offline", OfflineJudge, options=OfflineOptions, summary="two small models, no API: for demos and CI, not for claims")
