"""What is kept of a model's replies, and with which labels."""

from __future__ import annotations

import re

import pytest

from harness.data.keywords import KeywordMatcher, words_of
from harness.data.written.filtering import filter_corpus, repeated_share, whole_sentences
from harness.data.written.recipe import Recipe
from harness.types import Json

SEA = "The ship sailed over the sea while waves struck the hull and gulls cried above."
LAW = "A judge heard the lawyer in court before the jury gave its verdict that day."
PLAIN = "Nothing much happened on that quiet afternoon, so we talked until someone yawned."


def recipe(**bounds: object) -> Recipe:
    decoding = {"max_new_tokens": 20}
    concepts = {
        "sea": {"subtopics": ["a wave"], "keywords": ["sea", "ship*", "wave*", "sail*"]},
        "law": {"subtopics": ["a court"], "keywords": ["judge*", "lawyer*", "court*", "jury", "verdict"]},
    }
    corpus = {"seed": 0, "texts_per_concept": 1, "pair_rounds": 0, "unlabelled": 0, "templates": ["{s}"], "pair_templates": ["{a}{b}"]}
    settings = {
        "min_words": 8, "max_repeated_trigrams": 0.2, "max_shingle_jaccard": 0.5, "min_keyword_share": 0.1, "min_keyword_kinds": 2,
        "add_keyword_share": 0.15, "add_keyword_kinds": 3, "max_stray_share": 0.1, "refusals": ["as an ai", "i can't assist"], **bounds,
    }  # fmt: skip
    return Recipe.model_validate(
        {
            "corpus": {**corpus, "neutral": ["x"], "concepts": concepts, "decoding": decoding},
            "sae": {
                "seed": 0,
                "prompts": 1,
                "decoding": decoding,
                "concept_subtopics": False,
                "templates": ["{s}"],
                "subjects": {"g": ["y"]},
            },
            "filter": settings,
        }
    )


def row(identity: str, text: str, *labels: str) -> dict[str, Json]:
    return {"id": identity, "prompt": "p", "text": text, "labels": sorted(labels)}


@pytest.mark.parametrize(
    ("text", "labels", "reason"),
    [
        (SEA, ["sea"], ""),
        (PLAIN, [], ""),
        ("Too short a text.", ["sea"], "too short"),
        ("The sea and its waves went on and on without a full stop and so this is no", ["sea"], "too short"),
        ("As an AI, I have never seen the sea, a ship, a wave, or a sail.", ["sea"], "refusal"),
        ("I can’t assist with the sea or with ships and waves and sails at all.", ["sea"], "refusal"),
        (" ".join(["The ship sails on the sea."] * 6), ["sea"], "loop"),
        (PLAIN, ["sea"], "label not shown"),
        ("The sea, the sea, and nothing else but that same sea, over there, dear friends.", ["sea"], "label not shown"),
        (SEA, [], "stray concept"),
        (LAW, ["sea"], "label not shown"),
    ],
)
def test_each_reason_to_drop(text: str, labels: list[str], reason: str) -> None:
    report = filter_corpus([row("a", text, *labels)], recipe())
    assert report.dropped == ({reason: ["a"]} if reason else {})
    assert [kept["labels"] for kept in report.rows] == ([] if reason else [labels])


def test_refusal_words_later_in_a_text_are_no_refusal() -> None:
    text = SEA * 3 + " He said: I can't assist."
    assert filter_corpus([row("a", text, "sea")], recipe(max_repeated_trigrams=1.0)).dropped == {}


def test_labels_follow_the_text() -> None:
    both = f"{SEA} {LAW}"
    report = filter_corpus([row("a", both, "sea"), row("b", SEA, "law", "sea"), row("c", LAW, "law")], recipe(max_shingle_jaccard=1.0))
    assert {kept["id"]: kept["labels"] for kept in report.rows} == {"a": ["law", "sea"], "b": ["sea"], "c": ["law"]}
    assert (report.labels_added, report.labels_removed) == (1, 1)


def test_texts_end_with_a_whole_sentence() -> None:
    report = filter_corpus([row("a", f"{SEA} And then the", "sea"), row("b", LAW, "law")], recipe())
    assert [kept["text"] for kept in report.rows] == [SEA, LAW]
    assert report.trimmed == 1


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("One. Two", "One."),
        ("She said “No.” Then", "She said “No.”"),
        ("It costs 3.50 and", ""),
        ("It was 1999. So", "It was 1999."),
        ("Do this.\n\n2. Then", "Do this."),
        ("Really?! (Yes.) Oh", "Really?! (Yes.)"),
        ("**Bold.** rest", "**Bold.**"),
        ("No end", ""),
    ],
)
def test_whole_sentences(text: str, whole: str) -> None:
    assert whole_sentences(text) == whole


def test_near_duplicates_keep_the_first_by_id() -> None:
    copy = SEA.replace("above", "nearby")
    report = filter_corpus([row("b", copy, "sea"), row("a", SEA, "sea"), row("c", LAW, "law")], recipe())
    assert [kept["id"] for kept in report.rows] == ["a", "c"]
    assert report.dropped == {"near-duplicate": ["b"]}


def test_near_duplicates_agree_with_comparing_all_pairs() -> None:
    base = (SEA + " " + LAW).split()
    rows = [row(f"{i:02}", " ".join(base[: 12 + i] + base[::-1][: i % 5]) + ".", "sea") for i in range(16)]
    report = filter_corpus(rows, recipe(max_repeated_trigrams=1.0, min_words=0))

    def shingles(text: str) -> set[tuple[str, ...]]:
        words = words_of(text)
        return {tuple(words[i : i + 5]) for i in range(len(words) - 4)}

    kept: list[dict[str, Json]] = []
    for candidate in rows:
        mine = shingles(candidate["text"])
        if all(len(mine & (its := shingles(k["text"]))) / len(mine | its) <= 0.5 for k in kept):
            kept.append(candidate)
    assert 1 < len(kept) < 16
    assert [r["id"] for r in report.rows] == [r["id"] for r in kept]


def test_the_order_of_the_rows_does_not_matter() -> None:
    rows = [row("a", SEA, "sea"), row("b", SEA, "sea"), row("c", LAW, "law"), row("d", PLAIN)]
    assert filter_corpus(rows, recipe()) == filter_corpus(rows[::-1], recipe())


def test_keyword_counts_agree_with_regular_expressions() -> None:
    keywords = recipe().corpus.concepts["sea"].keywords
    pattern = re.compile("|".join(rf"\b{k[:-1]}\w*" if k.endswith("*") else rf"\b{k}\b" for k in keywords))
    for text in (SEA, LAW, PLAIN, SEA + LAW):
        assert KeywordMatcher(keywords).count(words_of(text))[0] == len(pattern.findall(text.lower()))


def test_repeated_share() -> None:
    assert repeated_share(list("abcdef")) == 0
    assert repeated_share(["a"] * 12) == pytest.approx(0.9)
    assert repeated_share(["a", "b"]) == 0
