"""A few tokens of a text and a latent's activations on them; a latent's activations on all that is read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

OPEN, CLOSE = "<<", ">>"
"""Around tokens on which a latent fires."""
ROOM = 300
"""Characters of a snippet at most, its marks among them, so that costs are known; a letter that is not ASCII counts as three times its bytes."""


@dataclass(frozen=True)
class Snippet:
    """A token of a text with those around it.

    Attributes:
        text: the text's place in what is read.
        at: the token's place in the text.
        first: place of the first token shown.
        pieces: what each token says.
        values: the latent's activation on each, 0 where it does not fire.
        floor: activations up to it do not count.
        marks: which tokens are marked, in place of those on which the latent fires; None: those.
    """

    text: int
    at: int
    first: int
    pieces: tuple[str, ...]
    values: tuple[float, ...]
    floor: float
    marks: tuple[bool, ...] | None = None

    @property
    def fires(self) -> tuple[bool, ...]:
        """Return on which tokens the latent fires."""
        return tuple(value > self.floor for value in self.values)

    @property
    def active(self) -> bool:
        """Return whether the latent fires in it."""
        return any(self.fires)

    @property
    def marked(self) -> tuple[bool, ...]:
        """Return which tokens are marked."""
        return self.fires if self.marks is None else self.marks

    @property
    def plain(self) -> str:
        """Return its text in one line."""
        return " ".join("".join(self.pieces).split())

    @property
    def shown(self) -> str:
        """Return its text in one line, marked."""
        parts = [f"{OPEN}{piece.strip()}{CLOSE}" if on and piece.strip() else piece for piece, on in zip(self.pieces, self.marked, strict=True)]
        spaced = [" " * (on and piece[:1].isspace()) + part for part, piece, on in zip(parts, self.pieces, self.marked, strict=True)]
        return " ".join("".join(spaced).split())

    @property
    def clipped(self) -> Snippet:
        """Return it without its outermost tokens, as far as it has no more than :data:`ROOM` characters."""
        found = self
        while len(found.pieces) > 1 and cost(found.shown) > ROOM:
            left, right = found.at - found.first, found.first + len(found.pieces) - 1 - found.at
            part = slice(1, None) if left >= right else slice(None, -1)
            marks = None if found.marks is None else found.marks[part]
            first = found.first + (1 if left >= right else 0)
            found = replace(found, first=first, pieces=found.pieces[part], values=found.values[part], marks=marks)
        return found


def cost(text: str) -> int:
    """Return how many characters a text counts as, see :data:`ROOM`."""
    return len(text) if text.isascii() else sum(1 if letter < "\x80" else 3 * len(letter.encode("utf-8", "replace")) for letter in text)


def fits(text: str, room: int = ROOM) -> str:
    """Return the beginning of a text that counts as no more than ``room`` characters."""
    while cost(text) > room:
        text = text[: max(1, len(text) * room // cost(text) - 1)] if len(text) > 1 else ""
    return text


@dataclass(frozen=True, eq=False)
class Latent:
    """A latent's activations.

    Attributes:
        index: which one.
        vectors: ``[active]`` ascending, the vectors on which it fires.
        values: ``[active]``, its activations there; of a signed dictionary their size.
        share: activations up to this share of the largest do not count as firing in a snippet.
    """

    index: int
    vectors: Ints
    values: NDArray[np.float64]
    share: float

    @cached_property
    def floor(self) -> float:
        """Return the activation up to which it does not count as firing."""
        return self.share * float(self.values.max(initial=0.0))

    def values_at(self, vectors: Ints) -> NDArray[np.float64]:
        """Return its activations on some vectors, 0 where it does not fire."""
        at = np.searchsorted(self.vectors, vectors).clip(max=max(0, len(self.vectors) - 1))
        return np.where(self.vectors[at] == vectors, self.values[at], 0.0) if len(self.vectors) else np.zeros(len(vectors))
