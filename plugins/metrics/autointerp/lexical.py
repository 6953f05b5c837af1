"""The lexical explainer and scorer: a few words, or parts of words, that tell snippets in which a latent fires from others. No language model.

An explanation is a list of units; a snippet is named active where it holds one of them. Units are added one by one, each the one that raises
(share of the snippets in which the latent fires that are named) − (share of the others that are named) most, as long as it rises.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from harness.data.keywords import words_of

from .snippets import Snippet

_ENDINGS = ("'s", "ing", "ies", "ed", "es", "ly", "s", "y")
"""Taken off a word of which three letters are left; English, and crude on purpose: what counts is that one word's forms fall together."""
_LEAST = 3
_COVERS = 2
"""Snippets in which the latent fires that a unit must be in: a word that is in one alone says nothing of the next."""


def stem(word: str) -> str:
    """Return a lower-case word without its ending."""
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= _LEAST:
            return word[: -len(ending)]
    return word


def units_of(snippet: Snippet, marked: bool = False) -> frozenset[str]:
    """Return the units of a snippet: its words' stems, and what its tokens say, in quotation marks; ``marked``: of its marked tokens alone."""
    pieces = [piece.strip().casefold() for piece, on in zip(snippet.pieces, snippet.marked, strict=True) if piece.strip() and (on or not marked)]
    words = words_of(snippet.plain) if not marked else [word for piece in pieces for word in words_of(piece)]
    return frozenset([*map(stem, words), *(f'"{piece}"' for piece in pieces)])


def explain(active: Sequence[Snippet], others: Sequence[Snippet], most: int) -> tuple[str, ...]:
    """Return at most ``most`` units, the most telling first; none where no unit tells the snippets apart.

    Args:
        active: snippets in which the latent fires.
        others: snippets in which it does not.
        most: units of an explanation.
    """
    inside, outside = [units_of(snippet) for snippet in active], [units_of(snippet) for snippet in others]
    candidates = [unit for unit, n in Counter(unit for units in inside for unit in units).items() if n >= min(_COVERS, len(inside))]
    rates = {unit: sum(unit in units for units in outside) for unit in candidates}
    chosen: list[str] = []
    left, free, n_in, n_out = inside, outside, max(1, len(inside)), max(1, len(outside))
    while len(chosen) < most and candidates:
        gains = {unit: sum(unit in units for units in left) / n_in - sum(unit in units for units in free) / n_out for unit in candidates}
        # of two with one gain the rarer, then the longer: a whole word tells more than its token
        best = max(candidates, key=lambda unit: (gains[unit], -rates[unit], len(unit.strip('"')), not unit.startswith('"'), unit))
        if gains[best] <= 0 or sum(best in units for units in left) < min(_COVERS, len(left)):
            break
        chosen.append(best)
        left, free = [units for units in left if best not in units], [units for units in free if best not in units]
        candidates.remove(best)
    return tuple(chosen)


def names(explanation: Sequence[str], snippets: Sequence[Snippet], marked: bool) -> list[bool]:
    """Return which snippets are named active: those that hold a unit of the explanation (``marked``: among their marked tokens)."""
    wanted = frozenset(explanation)
    return [bool(wanted & units_of(snippet, marked)) for snippet in snippets]
