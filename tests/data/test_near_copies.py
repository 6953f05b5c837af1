"""Near-copies are what a count of shared runs says they are, and finding them does not compare all with all."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.data.near_copies import SHINGLE, near_copies

WORDS = [f"w{number}" for number in range(400)]


def jaccard(a: str, b: str) -> float:
    """By definition, from the runs of words themselves."""
    runs = []
    for text in (a, b):
        words = text.split()
        runs.append({tuple(words[i : i + SHINGLE]) for i in range(max(1, len(words) - SHINGLE + 1))})
    return len(runs[0] & runs[1]) / len(runs[0] | runs[1])


def text(draw: np.random.Generator, length: int = 80) -> list[str]:
    return [WORDS[int(number)] for number in draw.integers(len(WORDS), size=length)]


def test_pairs_above_the_bound_are_found_and_those_far_below_are_not() -> None:
    draw = np.random.default_rng(0)
    texts, found_high, high = [], 0, 0
    for _ in range(100):
        words = text(draw)
        changed = list(words)
        for place in draw.permutation(len(words))[: int(draw.integers(0, 12))]:
            changed[int(place)] = "other"
        texts += [" ".join(words), " ".join(changed)]
    pairs = {(int(a), int(b)) for a, b in near_copies(texts)}
    for a in range(len(texts)):
        for b in range(a + 1, len(texts)):
            index = jaccard(texts[a], texts[b])
            if index >= 0.65:
                high += 1
                found_high += (a, b) in pairs
            if index <= 0.35:
                assert (a, b) not in pairs, index
    assert high > 20
    assert found_high >= high - 1  # two deviations from the bound: one in forty may be missed


def test_case_and_punctuation_do_not_tell_texts_apart() -> None:
    assert near_copies(["The cat, the dog.", "the CAT the dog", "a horse"]).tolist() == [[0, 1]]


def test_texts_without_words_are_copies_of_each_other() -> None:
    assert near_copies(["!", "a word", "", "…"]).tolist() == [[0, 2], [0, 3], [2, 3]]
    assert near_copies([]).shape == (0, 2)


@settings(deadline=None, max_examples=20)
@given(copies=st.integers(2, 80), seed=st.integers(0, 5))
def test_any_number_of_copies_are_joined(copies: int, seed: int) -> None:
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    draw = np.random.default_rng(seed)
    texts = [" ".join(text(draw))] * copies + [" ".join(text(draw)) for _ in range(10)]
    order = draw.permutation(len(texts))
    pairs = near_copies([texts[int(place)] for place in order])
    graph = coo_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(len(texts), len(texts)))
    groups = connected_components(graph, directed=False)[1]
    assert len(set(groups[order < copies])) == 1
    assert len(set(groups.tolist())) == 11
