"""The offline judge: three ratings from two small models on this machine. No API, no key, and no substitute for a strong judge.

It sees what every judge sees (concept, instruction, text) and is deterministic: a text's rating does not depend on the texts beside it.

- Concept: the largest cosine of the concept's embedding with any run of six word pieces of the text (all-MiniLM-L6-v2).
- Instruction: the cosine of the embeddings of instruction and text.
- Fluency: the mean log-probability a token under the unsteered subject model, on a scale of which 1 is the judge's own fluent reference
  passages and 0 the same passages with their words shuffled, less a multiple of the share of repeated 3-grams.

Two cut points a rating make 0, 1 and 2 of these. Formulas, fit of the cut points, figures and known failures: ``docs/offline-judge.md``.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from harness import hookimpl
from harness.contracts import JudgeTraits
from harness.errors import JudgeError
from harness.options import Options
from harness.types import JudgeItem, Rating

from .embedding import EMBEDDING_MODEL, Embedder, Pieces, presence, relatedness
from .fluency import FluencyMeter

if TYPE_CHECKING:
    from harness.contracts import JudgeBench


class OfflineOptions(Options):
    """Options of ``offline``. The defaults of the cut points come from ``benchmarks/calibrate_offline_judge.py``."""

    concept_partial: float = Field(0.37, ge=-1, le=1)
    """Concept cosine from which a text is rated 1."""
    concept_full: float = Field(0.51, ge=-1, le=1)
    """Concept cosine from which a text is rated 2."""
    instruction_partial: float = Field(0.3, ge=-1, le=1)
    """Instruction cosine from which a text is rated 1."""
    instruction_full: float = Field(0.37, ge=-1, le=1)
    """Instruction cosine from which a text is rated 2."""
    fluency_partial: float = Field(0.82, ge=-5, le=5)
    """Fluency (0: shuffled words, 1: the reference passages) from which a text is rated 1."""
    fluency_full: float = Field(1.06, ge=-5, le=5)
    """Fluency from which a text is rated 2."""
    window: int = Field(6, ge=1, le=128)
    """Length of the runs of word pieces that are compared with the concept."""
    repetition_weight: float = Field(1.6, ge=0, le=10)
    """What a share of 1 of repeated 3-grams takes off the fluency."""
    batch_tokens: int = Field(512, ge=64, le=65536)
    """Tokens in a batch, padding included. Larger batches are faster on a GPU."""

    @model_validator(mode="after")
    def _ascending(self) -> OfflineOptions:
        for name in ("concept", "instruction", "fluency"):
            low, high = getattr(self, f"{name}_partial"), getattr(self, f"{name}_full")
            if low >= high:
                raise ValueError(f"{name}_partial is {low:g} and {name}_full {high:g}; the first must be the smaller")
        return self


class OfflineJudge:
    """See the module. Implements :class:`harness.contracts.Judge`; every item is answered at once."""

    # The self-test costs seconds and no money, so every entry can say how far the judge is to be trusted.
    traits = JudgeTraits(rubric="offline/1", offline=True, needs_model=True, selftest_first=True)

    def __init__(self, options: OfflineOptions) -> None:
        self.options = options
        self._instruments: tuple[Embedder, FluencyMeter] | None = None
        self._asked: dict[str, Pieces] = {}
        self._fluencies: dict[str, dict[str, float]] = {}

    def prepare(self, bench: JudgeBench) -> None:
        """Load the embedding model (fetched when used for the first time), and see how the subject model rates the reference passages.

        Raises:
            ModelError: the embedding model cannot be fetched or loaded.
            JudgeError: the subject model cannot tell fluent text from shuffled words.
        """
        from harness.model.embedded import ensure

        budget = self.options.batch_tokens
        embedder = Embedder(ensure(EMBEDDING_MODEL), bench.model.device, budget)
        self._instruments = embedder, FluencyMeter(bench.model, budget, self.options.repetition_weight)
        self._asked, self._fluencies = {}, {}

    def submit(self, items: Sequence[JudgeItem]) -> Iterator[Rating]:
        """Return a rating an item: by rule where there is nothing to measure (see :func:`by_rule`), else by measurement.

        Raises:
            JudgeError: :meth:`prepare` has not been called.
        """
        self.instruments()
        answers = [by_rule(item) for item in items]
        rest = [item for item, answer in zip(items, answers, strict=True) if answer is None]
        try:
            measured = map(self._rating, rest, self.measure(rest))
        except RuntimeError:  # torch's own errors, out of memory above all: find the items that cannot be rated
            measured = map(self._rate_alone, rest)
        return itertools.chain(filter(None, answers), measured)

    def collect(self, tickets: Sequence[str]) -> Iterable[Rating]:
        """Nothing, since no ticket is ever handed out. Raises JudgeError for tickets of another judge."""
        if tickets:
            message = f"the offline judge answers at once and knows no ticket {tickets[0]!r}"
            raise JudgeError(message, given=tickets[0], hint="rate with the judge that gave it")
        return ()

    def measure(self, items: Sequence[JudgeItem]) -> list[dict[str, float]]:
        """Return what the grades are made of, an item each: ``concept``, ``instruction``, ``fluency``, and what ``fluency`` was made of."""
        embedder, meter = self.instruments()
        texts = sorted({item.text.strip() for item in items})
        asked = {part.strip() for item in items for part in (item.concept, item.instruction)}
        # Concepts and instructions come again in the next call, and texts, too: a method that changes nothing repeats itself.
        new = sorted(asked - self._asked.keys()), sorted(set(texts) - self._fluencies.keys())
        self._asked.update(zip(new[0], embedder.pieces(new[0]), strict=True))
        self._fluencies.update(zip(new[1], meter.measure(new[1]), strict=True))
        pieces = dict(zip(texts, embedder.pieces(texts), strict=True))
        return [
            {
                "concept": presence(pieces[text], self._asked[item.concept.strip()], self.options.window),
                "instruction": relatedness(pieces[text], self._asked[item.instruction.strip()]),
                **self._fluencies[text],
            }
            for item, text in ((item, item.text.strip()) for item in items)
        ]

    def instruments(self) -> tuple[Embedder, FluencyMeter]:
        """Return what :meth:`measure` measures with. Raises JudgeError before :meth:`prepare`."""
        if self._instruments is None:
            raise JudgeError("the offline judge has not been prepared", hint="call prepare(bench) first")
        return self._instruments

    def _rate_alone(self, item: JudgeItem) -> Rating:
        try:
            return self._rating(item, self.measure([item])[0])
        except RuntimeError as error:
            detail = " ".join(str(error).split())[:200]
            return Rating(item.id, "unrated", reason=f"measuring failed: {type(error).__name__}: {detail}")

    def _rating(self, item: JudgeItem, values: Mapping[str, float]) -> Rating:
        broken = [name for name, value in values.items() if not math.isfinite(value)]
        if broken:
            return Rating(item.id, "unrated", reason=f"measuring failed: {', '.join(broken)} is not a finite number")
        options = self.options
        return Rating(
            item.id,
            "rated",
            concept=grade(values["concept"], options.concept_partial, options.concept_full),
            instruction=grade(values["instruction"], options.instruction_partial, options.instruction_full),
            fluency=grade(values["fluency"], options.fluency_partial, options.fluency_full),
            details={name: round(value, 5) for name, value in values.items()},
        )


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
