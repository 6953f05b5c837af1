"""How natural a text is to the unsteered subject model, between shuffled words (0) and plain fluent English (1)."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from harness.errors import JudgeError
from harness.types import rng

from .batches import in_batches

if TYPE_CHECKING:
    from harness.model.loading import SubjectModel

Floats = NDArray[np.float32]

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


def repeated_share(text: str, n: int = 3) -> float:
    """Return the share of the text's n-grams of words (and single marks) that are there already; 0 for a text of fewer than ``n`` words."""
    words = re.findall(r"\w+|[^\w\s]", text.casefold())
    grams = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


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
                f"{model.name} gives fluent text {self.fluent:.2f} and shuffled words {self.shuffled:.2f} nats a token, so it cannot judge fluency",
                given=self.fluent - self.shuffled,
                allowed=f"a difference of {MIN_SPAN} or more",
                hint="use another judge for this model",
            )

    def measure(self, texts: Sequence[str]) -> list[dict[str, float]]:
        """Return ``fluency`` of each text, with ``log_probability`` (nats a token), ``repeated`` (share) and ``tokens``."""
        answers = []
        for text, row in zip(texts, self.log_probabilities(texts), strict=True):
            n, repeated = len(row), repeated_share(text)
            mean = float(row.mean()) if n else math.nan
            gain = (mean - float(self._start[min(n, len(self._start)) - 1])) * n / ((n + PRIOR_TOKENS) * (self.fluent - self.shuffled))
            fluency = 1 + gain - self._weight * repeated
            answers.append({"fluency": fluency, "log_probability": mean, "repeated": repeated, "tokens": float(n)})
        return answers

    def log_probabilities(self, texts: Sequence[str]) -> list[Floats]:
        """Return the log-probability of each token of each text under the unsteered model, in nats; a text's first token included."""
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
