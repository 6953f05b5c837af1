"""A latent's score: which snippets were to be named, which were, and what stands beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from harness.types import Json, rng

from .reading import Shown
from .snippets import Snippet


@dataclass(frozen=True)
class Scored:
    """A latent's score: which snippets were right, and which were named; None with the reason where it could not be scored."""

    truth: tuple[bool, ...]
    named: tuple[bool, ...] | None
    reason: str = ""

    @property
    def accuracy(self) -> float:
        """Return the share of the snippets that were told rightly."""
        return fmean(right == said for right, said in zip(self.truth, self.named or (), strict=True))

    @property
    def balanced(self) -> float:
        """Return the mean of the shares of active and of inactive snippets that were told rightly."""
        pairs = list(zip(self.truth, self.named or (), strict=True))
        return fmean(fmean(right == said for right, said in pairs if right is kind) for kind in (True, False))


def truth_of(snippets: Sequence[Snippet]) -> tuple[bool, ...]:
    """Return which snippets are to be named: those in which the latent fires, on the marked tokens where others are marked."""
    return tuple(snippet.active if snippet.marks is None else snippet.marks == snippet.fires for snippet in snippets)


def unfit(shown: Shown) -> str:
    """Return why a latent cannot be scored; empty for one that can."""
    truth = truth_of(shown.score)
    if not shown.explain or not any(truth):
        return "it fires in too few separate snippets"
    return "it fires in every snippet that was drawn" if all(truth) else ""


def with_anothers(explanations: Mapping[str, str], seed: int) -> dict[str, str]:
    """Return each latent with another one's explanation."""
    names = list(explanations)
    order = [names[int(place)] for place in rng(seed, "autointerp-shuffled").permutation(len(names))]
    following = dict(zip(order, [*order[1:], *order[:1]], strict=True))
    return {name: explanations[following[name]] for name in names}


def example(name: str, shown: Shown, explanation: str, scored: Scored) -> dict[str, Json]:
    return {
        "latent": int(name), "explanation": explanation, "balanced_accuracy": scored.balanced, "accuracy": scored.accuracy,
        "snippets": [snippet.shown for snippet in shown.explain[:3]],
    }  # fmt: skip
