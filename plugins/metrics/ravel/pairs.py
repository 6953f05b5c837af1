"""Pairs of a base prompt and a source: what should change (cause), and what should not (isolate)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from harness.types import rng

from .facts import Facts, Prompt

Kind = Literal["cause", "isolate"]
KINDS: tuple[Kind, Kind] = ("cause", "isolate")
_TRIES = 60
"""Draws for each pair that is wanted before the search ends: by then nearly all that there are have been found."""


@dataclass(frozen=True)
class Known:
    """A prompt that the model completes rightly by itself; ``first`` is the first token that it writes."""

    prompt: Prompt
    first: int


@dataclass(frozen=True)
class Pair:
    """The source's latents go into the base prompt.

    Attributes:
        attribute: whose latents they are.
        kind: ``cause``: the base prompt asks for the attribute; ``isolate``: for another one.
        base, source: the prompts; the source asks for the attribute.
        wanted: what the model should say afterwards.
        other: what it should not say: the source's answer where the base's is wanted, and the reverse.
        token: first token of the wanted answer, which the mask is trained towards.
    """

    attribute: str
    kind: Kind
    base: Prompt
    source: Prompt
    wanted: str
    other: str
    token: int

    @property
    def id(self) -> str:
        """Return its name, the same for every dictionary."""
        return f"{self.attribute}, {self.kind}: {self.base.text} [{self.source.text}]"


@dataclass(frozen=True)
class Pairs:
    """Pairs of all attributes and both kinds, as many of each: those that masks are trained on, and those that are tested."""

    train: tuple[Pair, ...]
    test: tuple[Pair, ...]

    def __len__(self) -> int:
        return len(self.train) + len(self.test)


def says(text: str, answer: str) -> int:
    """Return where a text says an answer, as whole words in any case; −1 where it does not."""
    found = re.search(rf"(?<!\w){re.escape(answer.strip())}(?!\w)", text, re.IGNORECASE)
    return -1 if found is None else found.start()


def is_right(text: str, wanted: str, other: str = "") -> bool:
    """Return whether a text says what is wanted, and does not say the other answer before it."""
    place = says(text, wanted)
    return place >= 0 and not (other and 0 <= says(text, other) < place)


def draw_pairs(known: Sequence[Known], facts: Facts, most: int, share: float, seed: int) -> Pairs:
    """Draw pairs at random by the seed, no pair twice, and divide them.

    Each attribute has as many pairs of either kind, so the mean over the pairs that are tested is the mean over attributes and kinds.

    Args:
        known: prompts that the model completes rightly.
        facts: answers of all entities, and the attributes.
        most: pairs in all, at most.
        share: of each kind's pairs is trained on.
        seed: of the draw.
    """
    groups = [(attribute, kind) for attribute in facts.templates for kind in KINDS]
    each = max(1, most // len(groups))
    drawn = {group: _drawn(known, facts, *group, each, rng(seed, "ravel-pairs", " ".join(group))) for group in groups}
    n = min(map(len, drawn.values()))
    cut = round(share * n)
    return Pairs(
        tuple(pair for pairs in drawn.values() for pair in pairs[:cut]), tuple(pair for pairs in drawn.values() for pair in pairs[cut:n])
    )


def _drawn(known: Sequence[Known], facts: Facts, attribute: str, kind: Kind, n: int, draw: np.random.Generator) -> list[Pair]:
    bases = [one for one in known if (one.prompt.attribute == attribute) is (kind == "cause")]
    sources: dict[str, list[Known]] = {}
    for one in known:
        if one.prompt.attribute == attribute:
            sources.setdefault(one.prompt.template if kind == "cause" else "", []).append(one)
    found: dict[tuple[str, str], Pair] = {}
    if not bases or not sources:
        return []
    for _ in range(_TRIES * n):
        base = bases[int(draw.integers(len(bases)))]
        of_template = sources.get(base.prompt.template if kind == "cause" else "", ())
        if not of_template:
            continue
        source = of_template[int(draw.integers(len(of_template)))]
        pair = _pair(attribute, kind, base, source, facts.answers)
        if pair is not None:
            found.setdefault((base.prompt.text, source.prompt.text), pair)
            if len(found) == n:
                break
    return list(found.values())


def _pair(attribute: str, kind: Kind, base: Known, source: Known, answers: Mapping[str, Mapping[str, str]]) -> Pair | None:
    """Return the pair, where base and source differ in what the base prompt asks for: else nothing could be caused, or fail to be isolated."""
    asked = base.prompt.attribute
    theirs = answers[source.prompt.entity].get(asked)
    if theirs is None or theirs.casefold() == base.prompt.answer.casefold():
        return None
    if kind == "isolate":
        return Pair(attribute, kind, base.prompt, source.prompt, base.prompt.answer, theirs, base.first)
    return None if source.first == base.first else Pair(attribute, kind, base.prompt, source.prompt, theirs, base.prompt.answer, source.first)
