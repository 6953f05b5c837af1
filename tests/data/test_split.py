"""The one split: every text in one part, near-copies in the same, train a superset of what labelers choose by."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.data.split import PARTS, TextSplit, split_texts
from harness.labelling.splits import split_texts as choose_texts
from harness.types import rng

SENTENCE = "every good boy deserves fruit and a long walk by the old river in the evening sun"


def split_of(texts: list[str], seed: int = 0) -> TextSplit:
    return split_texts(rows_of(texts), texts, rng(seed, "held-out-texts").permutation(len(texts)))


def rows_of(texts: list[str]) -> list[np.ndarray[Any, Any]]:
    return [np.frombuffer(text.encode(), dtype=np.uint8).astype(np.int64)[:40] for text in texts]


def chosen_by_labelers(texts: list[str], held_out: float, seed: int) -> set[int]:
    bench: Any = SimpleNamespace(
        corpus=texts, corpus_tokens=rows_of(texts), rng=lambda purpose, item="": rng(seed, purpose, item), warn=lambda message: None
    )
    return set(choose_texts(bench, held_out)[0].tolist())


texts = st.lists(
    st.one_of(
        st.sampled_from(["a", "b", "!"]),
        st.builds(lambda word: SENTENCE.replace("sun", word), st.sampled_from(["sun", "light", "rain"])),
        st.text("abcdefgh ", min_size=3, max_size=50),
    ),
    max_size=40,
)


@settings(deadline=None)
@given(texts=texts, seed=st.integers(0, 3), held_out=st.sampled_from([0.5, 0.6, 0.75, 0.9]))
def test_it_keeps_its_promises(texts: list[str], seed: int, held_out: float) -> None:
    split = split_of(texts, seed)
    assert sorted([*split.train, *split.threshold, *split.report]) == list(range(len(texts)))
    assert chosen_by_labelers(texts, held_out, seed) <= set(split.train.tolist())
    of = {int(place): part for part in PARTS for place in split.part(part)}
    rows = rows_of(texts)
    for a in range(len(texts)):
        for b in range(a):
            if np.array_equal(rows[a], rows[b]) or ("good boy" in texts[a] and "good boy" in texts[b]):
                assert of[a] == of[b]


def test_shares_without_copies() -> None:
    different = [f"text {number} {number * 7919} of {number * 104729}" for number in range(203)]
    split = split_of(different)
    assert [len(split.part(part)) for part in PARTS] == [203 - 102, 51, 51]
    assert split.n_copies == 0
    assert set(split.train.tolist()) == chosen_by_labelers(different, 0.5, 0)
    assert split.digest == split_of(different).digest != split_of(different, 1).digest


def test_a_group_that_touches_train_is_in_train_and_a_large_one_stays_together() -> None:
    different = [f"text {number} {number * 7919} of {number * 104729}" for number in range(40)]
    split = split_of([*different, *[f"{SENTENCE} {number}" for number in range(30)]])
    places = set(range(40, 70))
    assert [places <= set(split.part(part).tolist()) for part in PARTS].count(True) == 1
    assert split.n_copies == 30


@settings(deadline=None)
@given(texts=texts, seed=st.integers(0, 3), draw=st.data())
def test_what_the_corpus_states_holds(texts: list[str], seed: int, draw: st.DataObject) -> None:
    """A text for training is in train; one for evaluation is there only as a near-copy of one that is."""
    stated = draw.draw(st.lists(st.sampled_from(["", "train", "evaluation"]), min_size=len(texts), max_size=len(texts)))
    rows = rows_of(texts)
    order = rng(seed, "held-out-texts").permutation(len(texts))
    split = split_texts(rows, texts, order, stated)
    assert sorted([*split.train, *split.threshold, *split.report]) == list(range(len(texts)))
    train = set(split.train.tolist())
    assert {place for place, part in enumerate(stated) if part == "train"} <= train
    unstated = split_texts(rows, texts, order)
    alone = [place for place in range(len(texts)) if not any(_alike(texts, rows, place, other) for other in range(len(texts)) if other != place)]
    for place in alone:
        own = {"train": True, "evaluation": False, "": place in unstated.train}[stated[place]]
        assert (place in train) == own


def _alike(texts: list[str], rows: list[np.ndarray[Any, Any]], a: int, b: int) -> bool:
    """Whether two texts may be joined: the same tokens, or a run of five words in common."""
    if np.array_equal(rows[a], rows[b]):
        return True
    runs = [{tuple(words[i : i + 5]) for i in range(len(words) - 4)} or {tuple(words)} for words in (texts[a].split(), texts[b].split())]
    return bool(runs[0] & runs[1]) or texts[a].split() == texts[b].split()


def test_what_is_for_evaluation_is_halved() -> None:
    different = [f"text {number} {number * 7919} of {number * 104729}" for number in range(60)]
    order = rng(0, "held-out-texts").permutation(60)
    split = split_texts(rows_of(different), different, order, ["train"] * 20 + ["evaluation"] * 40)
    assert split.train.tolist() == list(range(20))
    assert [len(split.threshold), len(split.report)] == [20, 20]
    copied = [*different[:20], *different[:3], *different[23:]]
    joined = split_texts(rows_of(copied), copied, order, ["train"] * 20 + ["evaluation"] * 40)
    assert joined.train.tolist() == list(range(23)), "a copy of a training text is in train, whatever the corpus says"


def test_it_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    split = split_of([SENTENCE, SENTENCE, "one", "two", "three"])
    split.save(tmp_path)
    loaded = TextSplit.load(tmp_path)
    assert (loaded.digest, loaded.n_copies) == (split.digest, 2)
    assert loaded.as_json() == split.as_json()


@pytest.mark.parametrize("texts", [[], ["one"]])
def test_few_texts(texts: list[str]) -> None:
    assert sum(len(split_of(texts).part(part)) for part in PARTS) == len(texts)
