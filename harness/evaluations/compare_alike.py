"""Whether two compared methods gave the very same: every score, and of steering every text and rating."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import zip_longest

from harness.leaderboard.entry import Row
from harness.leaderboard.values import TOLERANCE
from harness.store import RunStore
from harness.types import ASPECTS, Json

_Key = tuple[str, int, float, str, int]
"""Concept, which answer of the labeler to it, strength, instruction, draw."""
_Text = tuple[int, "tuple[Json, ...] | None"]
"""A text's hash, and status and numbers of its rating."""


@dataclass(frozen=True)
class Alike:
    """Two methods whose scores are the same on every item.

    Attributes:
        noun, n: what is scored, and how many there are that both have a score of.
        n_texts: texts of each, of steering.
        other_texts, other_ratings: how many of the texts differ, and how many of the ratings; a text that one of the two lacks counts.
    """

    noun: str
    n: int
    n_texts: tuple[int, int] | None = None
    other_texts: int = 0
    other_ratings: int = 0

    @property
    def identical(self) -> bool:
        """Return whether nothing differs, as far as there is anything to hold against each other."""
        return not self.other_texts and not self.other_ratings

    def headline(self) -> str:
        """Return the answer in a line."""
        items = f"{self.n} {self.noun}{'s' * (self.n != 1)}"
        if self.identical and self.n_texts is None:
            return f"A and B are identical: every number of {items} is the same"
        if self.identical and self.n_texts is not None:
            return f"A and B are identical: all {self.n_texts[0]:,} texts and their ratings, {items}"
        assert self.n_texts is not None
        ours, theirs = self.n_texts
        one, what, many = (self.other_ratings, "rating", ours) if not self.other_texts else (self.other_texts, "text", max(ours, theirs))
        differ = f"{one:,} of {many:,} {what}s differ{'s' * (one == 1)}" if ours == theirs else f"they have {ours:,} and {theirs:,} texts"
        return f"A and B score the same on {items}; {differ}"

    def as_json(self) -> dict[str, Json]:
        """Return it as JSON."""
        texts = None if self.n_texts is None else list(self.n_texts)
        return {"identical": self.identical, "n_texts": texts, "texts_that_differ": self.other_texts, "ratings_that_differ": self.other_ratings}


@dataclass(frozen=True)
class TextsOf:
    """Whose texts are looked at: a method of a run that is open, as one judge rated them."""

    store: RunStore
    method_id: str
    judge_key: str | None


def alike(rows: tuple[Row, Row], noun: str, n: int, texts: tuple[TextsOf, TextsOf] | None = None) -> Alike | None:
    """Return in how far two methods gave the very same; None where a score differs, or where there is none.

    Args:
        rows: their rows.
        noun: what is scored, in the singular.
        n: how many of these both have a score of.
        texts: of steering, theirs: they are read where all scores are the same.
    """
    if not n or not _same_scores(*rows):
        return None
    if texts is None:
        return Alike(noun, n)
    ours, theirs = map(_texts, texts)
    pairs = [(ours.get(key), theirs.get(key)) for key in {**ours, **theirs}]
    other = sum(a is None or b is None or a[0] != b[0] for a, b in pairs)
    rated = sum(a is None or b is None or a[1] != b[1] for a, b in pairs)
    return Alike(noun, n, (len(ours), len(theirs)), other, rated)


def _same_scores(first: Row, second: Row) -> bool:
    """Whether both have the same items, in their order, with the same numbers of every metric."""
    for one, other in zip_longest(first.items, second.items):
        if one is None or other is None or (one.id, one.answered) != (other.id, other.answered) or one.values.keys() != other.values.keys():
            return False
        if not all(_same(value, other.values[name]) for name, value in one.values.items()):
            return False
    return True


def _same(first: float | None, second: float | None) -> bool:
    return first is second if first is None or second is None else math.isclose(first, second, rel_tol=TOLERANCE, abs_tol=TOLERANCE)


def _texts(of: TextsOf) -> dict[_Key, _Text]:
    """Return a method's texts by place. Their hashes stand for them: runs may be large."""
    found: dict[_Key, _Text] = {}
    answers: dict[str, list[str]] = {}
    for record in of.store.records(of.judge_key, of.method_id):
        trial, rating = record.trial, record.rating
        own = answers.setdefault(trial.concept_id, [])
        if trial.labeling_id not in own:
            own.append(trial.labeling_id)
        key = trial.concept_id, own.index(trial.labeling_id), trial.strength, trial.instruction_id, trial.draw
        rated = None if rating is None else (rating.status, *(getattr(rating, aspect) for aspect in ASPECTS))
        found[key] = hash(record.generation.text if record.generation is not None else None), rated
    return found
