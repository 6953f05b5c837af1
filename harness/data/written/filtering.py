"""From raw replies of a small model to a labelled corpus: whole sentences, no loops, no refusals, and labels that the texts really show.

The rules are plain counts of words, so that anyone can see why a text was kept. They see neither the model nor any dictionary: a text is
never kept or dropped because a feature fires on it.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from harness.data.keywords import KeywordMatcher, words_of
from harness.data.written.generate import Row
from harness.data.written.recipe import FilterRecipe, Recipe
from harness.types import Json

# A sentence ends at . ! ? or … with its closing quotes or brackets, before white space or the end; a "2." before a list item does not count.
_SENTENCE_END = re.compile(r"(?<!^\d)(?<!^\d\d)[.!?…][\"'”’)\]*_]*(?=\s|$)", re.MULTILINE)
_REFUSAL_REACH = 160
_SHINGLE = 5


@dataclass(frozen=True)
class FilterReport:
    """What :func:`filter_corpus` made of the rows.

    Attributes:
        rows: the kept texts, in the order of their ids.
        dropped: ids by reason: ``too short``, ``refusal``, ``loop``, ``label not shown``, ``stray concept``, ``near-duplicate``.
        trimmed: number of kept texts that were cut to whole sentences.
        labels_removed: labels that a prompt for two concepts asked for and the text does not show.
        labels_added: labels that no prompt asked for and the text clearly shows.
    """

    rows: list[Row]
    dropped: Mapping[str, list[str]] = field(default_factory=dict)
    trimmed: int = 0
    labels_removed: int = 0
    labels_added: int = 0

    def summary(self) -> dict[str, Json]:
        """Return counts, as they stand in a task's README."""
        return {
            "kept": len(self.rows),
            "dropped": {reason: len(ids) for reason, ids in self.dropped.items()},
            "trimmed": self.trimmed,
            "labels_removed": self.labels_removed,
            "labels_added": self.labels_added,
        }


def filter_corpus(rows: Iterable[Row], recipe: Recipe) -> FilterReport:
    """Keep the replies that show their labels, and correct the labels of those that show more or less than was asked for.

    In this order: the text is cut after its last complete sentence; dropped below ``min_words``, with a refusal in 160 characters, or where
    more than ``max_repeated_trigrams`` of its word 3-grams repeat an earlier one; a label stays where its keywords make up
    ``min_keyword_share`` of the words with ``min_keyword_kinds`` different keywords, and a text that loses all labels it was asked for is
    dropped; another concept becomes a label at ``add_keyword_share`` and ``add_keyword_kinds``; a text without labels is dropped where a
    concept reaches ``max_stray_share``; last, texts whose word 5-grams have a Jaccard index above ``max_shingle_jaccard`` with a kept one.
    """
    settings = recipe.filter
    matchers = {name: KeywordMatcher(concept.keywords) for name, concept in recipe.corpus.concepts.items()}
    dropped: dict[str, list[str]] = defaultdict(list)
    kept: list[Row] = []
    trimmed = removed = added = 0
    for row in sorted(rows, key=lambda row: str(row["id"])):
        text = whole_sentences(row["text"])
        reason = flaw(text, settings)
        asked = set(row["labels"])
        labels = set() if reason else shown_labels(text, asked, matchers, settings)
        if not reason and asked and not asked & labels:
            reason = "label not shown"
        if not reason and not asked and labels:
            reason = "stray concept"
        if reason:
            dropped[reason].append(row["id"])
            continue
        trimmed += text != row["text"].strip()
        removed += len(asked - labels)
        added += len(labels - asked)
        kept.append({**row, "text": text, "labels": sorted(labels)})
    distinct, copies = _distinct(kept, settings.max_shingle_jaccard)
    if copies:
        dropped["near-duplicate"] = copies
    return FilterReport(distinct, dict(dropped), trimmed, removed, added)


def is_copy(text: str, others: Sequence[str], bound: float) -> bool:
    """Return whether a text's word 5-grams have a Jaccard index above ``bound`` with those of one of ``others``."""
    own = _shingles(text)
    return any(len(own & other) > bound * len(own | other) for other in map(_shingles, others))


def shown_labels(text: str, asked: set[str], matchers: Mapping[str, KeywordMatcher], settings: FilterRecipe) -> set[str]:
    """Return the concepts that a text shows; for those that were asked for the bounds are lower.

    Where nothing was asked for, whatever reaches ``max_stray_share`` counts as shown.
    """
    words = words_of(text)
    shown = set()
    for name, matcher in matchers.items():
        hits, kinds = matcher.count(words)
        share = hits / max(1, len(words))
        if name in asked:
            bound, least = settings.min_keyword_share, settings.min_keyword_kinds
        elif asked:
            bound, least = settings.add_keyword_share, settings.add_keyword_kinds
        else:
            bound, least = settings.max_stray_share, settings.min_keyword_kinds
        if share >= bound and kinds >= least:
            shown.add(name)
    return shown


def whole_sentences(text: str) -> str:
    """Return ``text`` up to the end of its last complete sentence, stripped; empty where no sentence ends."""
    ends = [match.end() for match in _SENTENCE_END.finditer(text.strip())]
    return text.strip()[: ends[-1]] if ends else ""


def repeated_share(words: Sequence[str], n: int = 3) -> float:
    """Return the share of n-grams that repeat an earlier one of ``words``: 0 for fewer than n words, near 1 for a loop."""
    grams = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def flaw(text: str, settings: FilterRecipe) -> str:
    """Return what is wrong with a text whatever it is about: ``too short``, ``refusal``, ``loop``; empty where nothing is."""
    words = words_of(text)
    if len(words) < settings.min_words:
        return "too short"
    opening = text[:_REFUSAL_REACH].lower().replace("’", "'")
    if any(phrase in opening for phrase in settings.refusals):
        return "refusal"
    return "loop" if repeated_share(words) > settings.max_repeated_trigrams else ""


def _shingles(text: str) -> set[tuple[str, ...]]:
    words = words_of(text)
    return {tuple(words[i : i + _SHINGLE]) for i in range(len(words) - _SHINGLE + 1)}


def _distinct(rows: Sequence[Row], bound: float) -> tuple[list[Row], list[str]]:
    """Return the rows whose shingles have a Jaccard index of at most ``bound`` with every row kept before, and the ids of the others."""
    holders: dict[tuple[str, ...], list[int]] = defaultdict(list)
    kept: list[Row] = []
    sizes: list[int] = []
    copies: list[str] = []
    for row in rows:
        shingles = _shingles(row["text"])
        shared: dict[int, int] = defaultdict(int)
        for shingle in shingles:
            for index in holders[shingle]:
                shared[index] += 1
        if any(count / (sizes[index] + len(shingles) - count) > bound for index, count in shared.items()):
            copies.append(row["id"])
            continue
        for shingle in shingles:
            holders[shingle].append(len(kept))
        kept.append(row)
        sizes.append(len(shingles))
    return kept, copies
