"""The measurements of an item that the ratings are made of, as one vector with a fixed order of names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from . import words
from .echo import Unechoed

if TYPE_CHECKING:
    from .embedding import Pieces
    from .likelihood import Likelihood, LikelihoodMeter

Values = NDArray[np.float64]
STRETCH = 8
"""Tokens in a stretch whose mean log-probability is looked at."""
PRIOR_TOKENS = 8
"""Log-probabilities are averaged as if this many tokens of exactly the references' quality stood beside a text's: few tokens tell little."""
ABOUT = 0.35
"""Cosine with the concept from which a run of pieces counts as being about it."""


def of_embeddings(name: str, text: Pieces, asked: Pieces, usual: Values) -> dict[str, float]:
    """How a text is related to what is ``asked`` (concept or instruction): cosines of the text as a whole, of runs of pieces, of sentences.

    Args:
        name: goes before the names of the measurements.
        text: the text.
        asked: the concept or the instruction.
        usual: ``[2]``: the same largest cosine of runs of 6, and cosine of the whole, for texts that have nothing to do with it.
    """
    target = asked.whole()
    whole = float(text.whole() @ target)
    runs = {size: np.asarray(text.windows(size) @ target, dtype=np.float64) for size in (3, 6, 12, 24)}
    six = runs[6]
    parts = np.asarray(text.sentences() @ target, dtype=np.float64)
    half = len(six) // 2
    found = {
        "whole": whole,
        "whole, against usual": whole - float(usual[1]),
        "run of 3": float(runs[3].max()),
        "run of 6": float(six.max()),
        "run of 6, against usual": float(six.max() - usual[0]),
        "run of 12": float(runs[12].max()),
        "run of 24": float(runs[24].max()),
        "runs, mean": float(six.mean()),
        "runs, median": float(np.median(six)),
        "runs, upper quarter": float(np.quantile(six, 0.75)),
        "runs, about": float((six > ABOUT).mean()),
        "runs, near the largest": float((six > six.max() - 0.15).mean()),
        "run, spread": float(six.max() - np.median(six)),
        "first half": float(six[: half + 1].max()),
        "second half": float(six[half:].max()),
        "second half, mean": float(six[half:].mean()),
        "sentence": float(parts.max()),
        "sentences, mean": float(parts.mean()),
        "sentences, about": float((parts > ABOUT).mean()),
        "second sentence": float(np.sort(parts)[-2]) if len(parts) > 1 else float(parts.max()),
        **_spread(runs[3], float(usual[0])),
        **_peaks(text, target),
    }
    return {f"{name}: {key}": value for key, value in found.items()}


NEAR = 0.35
"""Cosine of two words without context from which they count as near."""


def of_vectors(text: NDArray[np.float32], concept: NDArray[np.float32], distinct: Sequence[int]) -> dict[str, float]:
    """How near the single words of a text are to those of the concept.

    Args:
        text: ``[n, d]``: the words of the text that are no function words, in order.
        concept: ``[m, d]``: the words of the concept.
        distinct: indices into ``text`` of each word's first occurrence.
    """
    near = (text @ concept.T).max(axis=1)
    ranked = np.sort(near[list(distinct)])[::-1]
    places = {f"nearest, {place + 1}": float(ranked[min(place, len(ranked) - 1)]) for place in (0, 1, 2, 4)}
    found = {
        **places,
        "mean": float(near.mean()),
        "near": float((near > NEAR).mean()),
        "distinct near": float(np.count_nonzero(ranked > NEAR)),
    }
    return {f"concept vectors: {name}": value for name, value in found.items()}


def _spread(run: Values, usual: float) -> dict[str, float]:
    """How much of the text, and how far apart, lies above what texts that have nothing to do with it reach."""
    above = run > usual
    places = np.flatnonzero(above)
    high = np.flatnonzero(run > usual + 0.12)
    return {
        "above usual": float(above.mean()),
        "stretches above usual": float(min(np.count_nonzero(np.diff(places) > 3) + (len(places) > 0), 8)),
        "reach": float(places[-1] - places[0]) / len(run) if len(places) else 0.0,
        "far above usual": float(len(high)) / len(run),
        "stretches far above usual": float(min(np.count_nonzero(np.diff(high) > 3) + (len(high) > 0), 8)),
        "reach far above": float(high[-1] - high[0]) / len(run) if len(high) else 0.0,
        "runs of 3, upper tenth": float(np.quantile(run, 0.9)),
    }


def _peaks(text: Pieces, target: NDArray[np.float32]) -> dict[str, float]:
    """The largest cosine of a run of 3 in each sentence: one high peak among low ones is a passing mention."""
    peaks = np.sort(np.array([float((part.windows(3) @ target).max()) for part in text.parts()]))[::-1]
    return {
        "peaks, mean": float(peaks.mean()),
        "peaks, second": float(peaks[min(1, len(peaks) - 1)]),
        "peaks, lowest": float(peaks[-1]),
        "peaks, first less second": float(peaks[0] - peaks[1]) if len(peaks) > 1 else 0.0,
    }


def of_likelihoods(likely: Likelihood, meter: LikelihoodMeter, baseline: float) -> dict[str, float]:
    """How likely the text is by itself, how much more so as a reply, and how much more likely the concept is after it. In units of ``meter.span``."""
    alone, reply = likely.alone.astype(np.float64), likely.reply.astype(np.float64)
    n = len(alone)
    if n == 0:
        return dict.fromkeys(LIKELIHOODS, float("nan"))
    start = np.concatenate([meter.start[:n], np.full(max(0, n - len(meter.start)), meter.start[-1])])[:n]
    expected = start[n - 1]
    weight = n / (n + PRIOR_TOKENS)
    lift = reply - alone
    size = min(STRETCH, n)
    stretches = np.convolve(alone, np.ones(size) / size, mode="valid")
    in_reply = np.convolve(reply, np.ones(size) / size, mode="valid")
    half = max(1, n // 2)
    topic = float(likely.topic.mean()) - baseline if len(likely.topic) else 0.0
    values = (
        float(n),
        (alone.mean() - expected) / meter.span * weight,
        (reply.mean() - expected) / meter.span * weight,
        (np.median(alone) - meter.fluent) / meter.span,
        (np.quantile(alone, 0.2) - meter.fluent) / meter.span,
        (stretches.min() - meter.fluent) / meter.span,
        (stretches.max() - meter.fluent) / meter.span,
        (in_reply.min() - meter.fluent) / meter.span,
        (stretches[-1] - stretches[0]) / meter.span,
        (reply[half:].mean() - reply[:half].mean()) / meter.span if n > 1 else 0.0,
        float((alone < meter.rare).mean()),
        float((reply < meter.rare).mean()),
        float(alone.std()) / meter.span,
        lift.mean() / meter.span * weight,
        lift.sum() / meter.span / 10,
        lift[:half].mean() / meter.span,
        lift[half:].mean() / meter.span if n > 1 else 0.0,
        float((lift > 0.5 * meter.span).mean()),
        float((alone > -0.1).mean()),
        topic / meter.span,
    )
    return dict(zip(LIKELIHOODS, map(float, values), strict=True))


LIKELIHOODS = tuple(
    f"likelihood: {name}"
    for name in (
        "tokens",
        "alone",
        "reply",
        "median",
        "lowest fifth",
        "worst stretch",
        "best stretch",
        "worst stretch, reply",
        "last stretch less first",
        "second half less first",
        "rare tokens",
        "rare tokens, reply",
        "spread",
        "lift",
        "lift, sum",
        "lift, first half",
        "lift, second half",
        "lifted tokens",
        "certain tokens",
        "topic",
    )
)


def of_words(concept: str, instruction: str, cut: Unechoed) -> dict[str, float]:
    """What the words say."""
    text = cut.text
    pieces: dict[str, Mapping[str, float]] = {
        "text": words.of_text(text),
        "concept words": words.of_pair(concept, text),
        "instruction words": words.of_pair(instruction, text),
        "concept in instruction": {"found": words.of_pair(concept, instruction)["found"]},
    }
    found = {f"{group}: {name}": value for group, values in pieces.items() for name, value in values.items()}
    return {**found, "echo: alone": float(cut.alone), "echo: words": float(min(cut.echoed, 30))}
