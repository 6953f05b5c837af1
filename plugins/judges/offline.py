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
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from harness import hookimpl
from harness.contracts import JudgeTraits
from harness.errors import JudgeError
from harness.options import Options
from harness.types import JudgeItem, Rating, rng

if TYPE_CHECKING:
    import torch

    from harness.contracts import JudgeBench
    from harness.model.loading import SubjectModel

Floats = NDArray[np.float32]

EMBEDDING_MODEL = "all-minilm-l6-v2"
WIDTH_STEP = 8
"""Tokens; batches are as wide as a multiple of this."""
PRIOR_TOKENS = 8
"""A text's fluency is taken as if this many tokens of exactly the references' quality stood beside it: a few tokens tell little."""
MIN_SPAN = 0.25
"""Nats a token by which the subject model must prefer the reference passages to their shuffled words, or it cannot judge fluency."""

REFERENCES = (
    "When the rain stopped, we went down to the river to see how far the water had risen. The path was still muddy, and my brother slipped "
    "twice before we reached the bridge.",
    "To make a simple soup, cut two onions and a carrot into small pieces and cook them slowly in a little oil. Add water and salt, and let "
    "the pot simmer for half an hour.",
    "There are several reasons why people move to a big city. Some are looking for work, others want to study, and many simply like to live "
    "close to shops, theatres and friends.",
    "Thank you very much for your letter. I was glad to hear that the journey went well and that the children are enjoying the new school. "
    "Please give them my best wishes.",
    "The heart is a muscle that pumps blood through the body. With every beat it sends oxygen to the organs, and it carries away what they no "
    "longer need.",
    "Before you buy a used car, ask for its papers and take it for a drive. Listen to the engine, try the brakes, and look under the car for "
    "oil or rust.",
    "A good way to learn new words is to use them the same day. Write three short sentences, say them aloud, and come back to them after a "
    "week.",
    "The town council has decided to close the main street to traffic on Sundays. Shop owners are divided: some fear for their sales, while "
    "others hope that more visitors will come.",
    "Light travels faster than sound. That is why you see the lightning first and hear the thunder a few seconds later, and the longer you "
    "wait, the farther away the storm is.",
    "Once upon a time there was a miller who had three sons. When he died, the eldest got the mill, the second got the donkey, and the "
    "youngest got nothing but the cat.",
    "Here are three things to remember: keep your passport with you, drink only bottled water, and agree on the price before you get into a "
    "taxi.",
    "Hello everyone, and welcome to the meeting. Today we will look at the plan for the next month, decide who does what, and leave some time "
    "for questions at the end.",
)
"""Plain fluent English of many kinds: what a fluency of 1 means. Part of the rubric, like everything else in this module."""


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
        """A rating an item: by rule where there is nothing to measure (see :func:`by_rule`), else by measurement.

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
            raise JudgeError(f"the offline judge answers at once and knows no ticket {tickets[0]!r}; rate with the judge that gave it")
        return ()

    def measure(self, items: Sequence[JudgeItem]) -> list[dict[str, float]]:
        """What the grades are made of, an item each: ``concept``, ``instruction``, ``fluency``, and what ``fluency`` was made of."""
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
        """What :meth:`measure` measures with. Raises JudgeError before :meth:`prepare`."""
        if self._instruments is None:
            raise JudgeError("the offline judge has not been prepared; call prepare(bench) first")
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
    """The rating of an item in which there is nothing to measure, else None.

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


def repeated_share(text: str, n: int = 3) -> float:
    """Share of the text's n-grams of words (and single marks) that are there already; 0 for a text of fewer than ``n`` words."""
    words = re.findall(r"\w+|[^\w\s]", text.casefold())
    grams = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def in_batches(rows: Sequence[Sequence[int]], pad: int, budget: int, device: torch.device) -> Iterator[tuple[list[int], Any, Any]]:
    """``rows`` of token ids in batches of like length: (indices of the rows, ids ``[B, T]``, mask ``[B, T]``), padded on the right.

    T is a multiple of :data:`WIDTH_STEP`, and B depends on T alone: a batch that is not full is filled with empty rows. So the very same
    kernels run on a row whatever stands beside it, and its result is the same to the last bit.
    """
    import torch

    widths: dict[int, list[int]] = {}
    for index, row in enumerate(rows):
        widths.setdefault(-(-max(len(row), 1) // WIDTH_STEP) * WIDTH_STEP, []).append(index)
    for width in sorted(widths):
        size = max(1, budget // width)
        for start in range(0, len(widths[width]), size):
            indices = widths[width][start : start + size]
            ids = np.full((size, width), pad, dtype=np.int64)
            mask = np.zeros((size, width), dtype=np.int64)
            mask[:, 0] = 1  # a row with nothing to attend to would be NaN
            for place, index in enumerate(indices):
                ids[place, : len(rows[index])] = rows[index]
                mask[place, : len(rows[index])] = 1
            yield indices, torch.from_numpy(ids).to(device), torch.from_numpy(mask).to(device)


# ---------------------------------------------------------------------------------------------------------------------- embeddings


@dataclass(frozen=True, eq=False)
class Pieces:
    """A text's word pieces, embedded in its context: ``vectors`` ``[n, d]``; ``inner`` ``[n]`` is False for the model's own marks."""

    vectors: Floats
    inner: NDArray[np.bool_]

    def whole(self) -> Floats:
        """The text's embedding: the mean over all pieces (the model's own pooling), of length 1."""
        return _unit(self.vectors.mean(axis=0))

    def windows(self, size: int) -> Floats:
        """Means of each run of ``size`` neighbouring pieces, of length 1: ``[n_runs, d]``; one run for a text that is no longer than that."""
        body = self.vectors[self.inner] if self.inner.any() else self.vectors
        size = min(size, len(body))
        runs = np.lib.stride_tricks.sliding_window_view(body, size, axis=0)
        return _unit(runs.mean(axis=-1))


def presence(text: Pieces, concept: Pieces, window: int) -> float:
    """How present a concept is: the largest cosine of its embedding with any run of ``window`` pieces of the text."""
    return float((text.windows(window) @ concept.whole()).max())


def relatedness(text: Pieces, instruction: Pieces) -> float:
    """How much a text has to do with an instruction: the cosine of their embeddings."""
    return float(text.whole() @ instruction.whole())


def _unit(vectors: Floats) -> Floats:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12))


class Embedder:
    """all-MiniLM-L6-v2 in float32. A text longer than ``CHUNK`` pieces is read in chunks, so that no part of it is left out."""

    CHUNK = 254
    """The model was trained on 256 pieces, its two marks included."""

    def __init__(self, folder: Path, device: torch.device, budget: int) -> None:
        import torch
        from transformers import AutoModel, AutoTokenizer

        from harness.model.gguf import quiet_transformers

        with quiet_transformers():
            self._tokenizer = AutoTokenizer.from_pretrained(str(folder))
            self._model = AutoModel.from_pretrained(str(folder), dtype=torch.float32).eval().requires_grad_(False).to(device)
        self._device, self._budget = device, budget

    def pieces(self, texts: Sequence[str]) -> list[Pieces]:
        """The embedded word pieces of each text."""
        import torch

        if not texts:
            return []
        encoded = self._tokenizer(list(texts), add_special_tokens=False, truncation=False, verbose=False)["input_ids"]
        starts = [(number, start) for number, ids in enumerate(encoded) for start in range(0, max(len(ids), 1), self.CHUNK)]
        cls, sep = self._tokenizer.cls_token_id, self._tokenizer.sep_token_id
        rows = [[cls, *encoded[number][start : start + self.CHUNK], sep] for number, start in starts]
        vectors: list[list[Floats]] = [[] for _ in texts]
        inner: list[list[bool]] = [[] for _ in texts]
        with torch.inference_mode():
            states = dict(self._states(rows))
        for index, (number, _) in enumerate(starts):
            vectors[number].append(states[index])
            inner[number] += [False, *[True] * (len(rows[index]) - 2), False]
        return [Pieces(np.concatenate(own), np.array(marks)) for own, marks in zip(vectors, inner, strict=True)]

    def _states(self, rows: Sequence[Sequence[int]]) -> Iterator[tuple[int, Floats]]:
        for indices, ids, mask in in_batches(rows, self._tokenizer.pad_token_id, self._budget, self._device):
            states = self._model(input_ids=ids, attention_mask=mask).last_hidden_state.cpu().numpy()
            yield from ((index, states[place, : len(rows[index])].copy()) for place, index in enumerate(indices))


# ------------------------------------------------------------------------------------------------------------------------- fluency


class FluencyMeter:
    """How natural a text is to the unsteered subject model, on a scale that is comparable between models and lengths.

    For a text of n tokens with log-probabilities l_t, and with r the share of repeated 3-grams:

        fluency = 1 + Σ_t (l_t − m_n) / ((n + PRIOR_TOKENS) · (m − w)) − weight · r

    where m is the mean log-probability a token over the reference passages, m_n the same over their first n tokens (a model knows less at
    the start), and w that over the passages with their words shuffled.

    Attributes:
        fluent: m, in nats.
        shuffled: w, in nats.
    """

    def __init__(self, model: SubjectModel, budget: int, weight: float) -> None:
        self._model, self._budget, self._weight = model, budget, weight
        # What the first token is predicted from: the tokenizer's own BOS, or a line break for a model that was trained without one.
        self._context = model.encode("") or model.encode("\n") or [model.pad_id]
        references = self.log_probabilities(REFERENCES)
        orders = [rng(0, "offline-judge-shuffle", str(number)).permutation(len(text.split())) for number, text in enumerate(REFERENCES)]
        shuffled = [" ".join(np.array(text.split())[order]) for text, order in zip(REFERENCES, orders, strict=True)]
        self.fluent = float(np.concatenate(references).mean())
        self.shuffled = float(np.concatenate(self.log_probabilities(shuffled)).mean())
        lengths = range(1, max(map(len, references)) + 1)
        self._start = np.array([np.concatenate([row[:n] for row in references]).mean() for n in lengths])
        if not self.fluent - self.shuffled >= MIN_SPAN:  # also if one of them is NaN
            raise JudgeError(
                f"{model.name} gives fluent text {self.fluent:.2f} and shuffled words {self.shuffled:.2f} nats a token, so it cannot judge "
                f"fluency; the difference must be {MIN_SPAN} or more: use another judge for this model"
            )

    def measure(self, texts: Sequence[str]) -> list[dict[str, float]]:
        """``fluency`` of each text, with ``log_probability`` (nats a token), ``repeated`` (share) and ``tokens``."""
        answers = []
        for text, row in zip(texts, self.log_probabilities(texts), strict=True):
            n, repeated = len(row), repeated_share(text)
            mean = float(row.mean()) if n else math.nan
            gain = (mean - float(self._start[min(n, len(self._start)) - 1])) * n / ((n + PRIOR_TOKENS) * (self.fluent - self.shuffled))
            fluency = 1 + gain - self._weight * repeated
            answers.append({"fluency": fluency, "log_probability": mean, "repeated": repeated, "tokens": float(n)})
        return answers

    def log_probabilities(self, texts: Sequence[str]) -> list[Floats]:
        """The log-probability of each token of each text under the unsteered model, in nats; a text's first token included."""
        import torch

        model, skip = self._model, len(self._context)
        prefix = len(model.encode(""))
        rows = [[*self._context, *model.encode(text)[prefix:]][: model.max_tokens] for text in texts]
        answers: list[Floats] = [np.zeros(0, dtype=np.float32)] * len(rows)
        with torch.inference_mode():
            for indices, ids, _ in in_batches(rows, model.pad_id, self._budget, model.device):
                # Padding stands on the right, where a causal model does not look.
                logits = model.hf(input_ids=ids, use_cache=False).logits
                for place, index in enumerate(indices):
                    n = len(rows[index])
                    own = logits[place, skip - 1 : n - 1].float()  # row by row: a large vocabulary in float32 is large
                    own -= own.amax(-1, keepdim=True)
                    chosen = own.gather(-1, ids[place, skip:n, None])[:, 0]
                    answers[index] = (chosen - own.exp_().sum(-1).log_()).cpu().numpy()  # in place: thrice as fast as logsumexp
        return answers


@hookimpl
def harness_register_judges(registry: Any) -> None:
    registry.add("offline", OfflineJudge, options=OfflineOptions, summary="two small models, no API: for demos and CI, not for claims")
