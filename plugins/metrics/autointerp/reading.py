"""Where latents fire in the texts that are read, and the snippets by which each is explained and scored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.measuring.vectors import kept_vectors
from harness.types import rng

from .snippets import Ints, Latent, Snippet

if TYPE_CHECKING:
    from harness.contracts import Bench
    from harness.data.texts import TextSet
    from harness.sae.dictionary import Dictionary

_DRAWS = 40
"""Draws for each random snippet that is wanted before the search ends."""


@dataclass(frozen=True, eq=False)
class Reading:
    """Texts whose tokens' vectors are kept, and where each vector stands in them.

    Texts in which a token was left out as an outlier have no known places, and are not shown.

    Attributes:
        tokens: token ids of each text.
        decode: makes text of token ids.
        skip: leading tokens of a text that have no vector.
        text: ``[vectors]``, the text of each vector; −1 where its place is not known.
        start: ``[texts]``, the number of each text's first vector; −1 where there is none.
    """

    tokens: Sequence[Any]
    decode: Callable[[Sequence[int]], str]
    skip: int
    text: Ints
    start: Ints

    @classmethod
    def of(cls, bench: Bench, layer: int, texts: TextSet) -> Reading:
        """Return the reading of the texts that a metric has drawn; their vectors are made where they are not kept yet."""
        vectors = kept_vectors(bench, layer, texts)
        text, start, n = np.full(vectors.n, -1, dtype=np.int64), np.full(len(texts), -1, dtype=np.int64), 0
        for place, count in vectors.rows:
            if count == len(texts.tokens[place]) - bench.skip:
                text[n : n + count], start[place] = place, n
            n += count
        return cls(texts.tokens, bench.model.decode, bench.skip, text, start)

    @cached_property
    def known(self) -> Ints:
        """Return the vectors whose place is known."""
        return np.flatnonzero(self.text >= 0)

    def place(self, vector: int) -> tuple[int, int]:
        """Return text and token of a vector whose place is known."""
        text = int(self.text[vector])
        return text, vector - int(self.start[text]) + self.skip

    def snippet(self, vector: int, context: int, latent: Latent) -> Snippet:
        """Return the tokens around a vector whose place is known, with a latent's activations."""
        text, at = self.place(vector)
        ids = [int(token) for token in self.tokens[text]]
        first, last = max(0, at - context), min(len(ids), at + context + 1)
        values = latent.values_at(np.arange(first, last) - self.skip + int(self.start[text]))
        values[: max(0, self.skip - first)] = 0.0
        return Snippet(text, at, first, self._pieces(ids[first:last]), tuple(values.tolist()), latent.floor).clipped

    @cached_property
    def _after(self) -> dict[tuple[int, int], str]:
        """Return what a token says after another one, as far as it was asked for: few pairs of tokens make most of a corpus."""
        return {}

    def _pieces(self, ids: list[int]) -> tuple[str, ...]:
        """Return what each token says, such that all together are the text."""
        pieces = [self.decode(ids[:1])]
        for pair in pairwise(ids):
            if pair not in self._after:
                before, both = self.decode(pair[:1]), self.decode(pair)
                self._after[pair] = both[len(before) :] if both.startswith(before) else "\ufffd"
            pieces.append(self._after[pair])
        return tuple(pieces) if "".join(pieces) == self.decode(ids) else self._slow_pieces(ids)

    def _slow_pieces(self, ids: list[int]) -> tuple[str, ...]:
        """Return the same where a letter has several tokens: it is the last one's."""
        pieces, done = [], ""
        for end in range(1, len(ids) + 1):
            text = self.decode(ids[:end])
            ready = text.startswith(done) and (end == len(ids) or not text.endswith("\ufffd"))
            pieces.append(text[len(done) :] if ready else "")
            done = text if ready else done
        return tuple(pieces)


def read_latents(bench: Bench, dictionary: Dictionary, texts: TextSet, chosen: Sequence[int], share: float) -> list[Latent]:
    """Return the activations of some latents on all vectors of some texts. Memory holds what fires, and some thousand tokens."""
    if not len(chosen):
        return []
    columns, n = dictionary.columns(list(chosen)), 0
    parts: list[tuple[Any, Any, Any]] = []
    for x in kept_vectors(bench, dictionary.layer, texts):
        found = columns.activations(x)
        row, latent = found.nonzero(as_tuple=True)
        parts.append((row.cpu().numpy() + n, latent.cpu().numpy(), found[row, latent].abs().float().cpu().numpy().astype(np.float64)))
        n += len(x)
    rows, latents, values = (np.concatenate(some) for some in zip(*parts, strict=True))
    order = np.argsort(latents, kind="stable")
    ends = np.searchsorted(latents[order], np.arange(len(chosen) + 1)).tolist()
    own = (order[start:stop] for start, stop in pairwise(ends))
    return [Latent(index, rows[part], values[part], share) for index, part in zip(chosen, own, strict=True)]


@dataclass(frozen=True)
class Counts:
    """How many snippets: of the largest activations, drawn by their size, and drawn at random."""

    explain_top: int
    explain_weighted: int
    score_top: int
    score_weighted: int
    score_random: int
    background: int
    context: int


@dataclass(frozen=True)
class Shown:
    """What a latent is explained by, and what it is scored on; no snippet of the one overlaps with one of the other.

    Attributes:
        explain: snippets in which it fires, the largest activations first.
        background: random snippets in which it does not fire.
        score: snippets in an order that says nothing of them.
    """

    explain: tuple[Snippet, ...]
    background: tuple[Snippet, ...]
    score: tuple[Snippet, ...]


def show(reading: Reading, latent: Latent, counts: Counts, seed: int, fuzzing: bool = False) -> Shown:
    """Draw a latent's snippets by (seed, latent) alone.

    Those of its largest activations and those drawn by their size are each divided at random between explanation and score. With ``fuzzing``, the
    random ones are snippets in which it fires, with the marks on tokens on which it does not.
    """
    draw, taken = rng(seed, "autointerp-snippets", str(latent.index)), _Taken(reading, counts.context)
    firing = np.flatnonzero(latent.values > latent.floor)
    firing = firing[reading.text[latent.vectors[firing]] >= 0]
    vectors, sizes = latent.vectors[firing], latent.values[firing]
    by_size = vectors[np.argsort(-sizes, kind="stable")]
    top = taken.take(by_size, counts.explain_top + counts.score_top)
    by_weight = vectors[np.argsort(draw.exponential(size=len(sizes)) / sizes, kind="stable")]
    weighted = taken.take(by_weight, counts.explain_weighted + counts.score_weighted)
    groups = ((top, counts.score_top), (weighted, counts.score_weighted))
    scored = {vector for some, n in groups for vector in (some[int(place)] for place in draw.permutation(len(some))[:n])}

    def cut(vector: int) -> Snippet:
        return reading.snippet(vector, counts.context, latent)

    explain = tuple(cut(vector) for vector in (*top, *weighted) if vector not in scored)
    score = [cut(vector) for vector in (*top, *weighted) if vector in scored]
    if fuzzing:
        score += [_wrongly_marked(cut(vector), draw) for vector in taken.take(by_weight, counts.score_random)]
    else:
        score += [cut(vector) for vector in taken.take(_random(reading, counts.score_random, draw), counts.score_random)]
    others = (cut(vector) for vector in taken.take(_random(reading, counts.background, draw), counts.background))
    background = tuple(snippet for snippet in others if not snippet.active)
    return Shown(explain, background, tuple(score[int(place)] for place in draw.permutation(len(score))))


def _random(reading: Reading, n: int, draw: np.random.Generator) -> Ints:
    """Return vectors at random, many times as many as are wanted."""
    return reading.known[draw.integers(len(reading.known), size=_DRAWS * n)] if len(reading.known) else reading.known


def _wrongly_marked(snippet: Snippet, draw: np.random.Generator) -> Snippet:
    """Return a snippet with as many marks as are right, on other tokens; on all others where there are fewer."""
    others = [place for place, (on, piece) in enumerate(zip(snippet.fires, snippet.pieces, strict=True)) if not on and piece.strip()]
    chosen = {others[int(place)] for place in draw.permutation(len(others))[: sum(snippet.fires)]}
    return replace(snippet, marks=tuple(place in chosen for place in range(len(snippet.pieces))))


class _Taken:
    """Snippets that are taken already: no other overlaps with them."""

    def __init__(self, reading: Reading, context: int) -> None:
        self._reading, self._reach = reading, 2 * context
        self._places: dict[int, list[int]] = {}

    def take(self, vectors: Ints, n: int) -> list[int]:
        """Return the first ``n`` of some vectors whose snippets overlap neither with each other nor with any taken before."""
        found: list[int] = []
        for vector in vectors.tolist():
            if len(found) == n:
                break
            text, at = self._reading.place(vector)
            places = self._places.setdefault(text, [])
            if all(abs(at - other) > self._reach for other in places):
                places.append(at)
                found.append(vector)
        return found
