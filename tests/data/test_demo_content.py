"""The demo's own content: enough of it, unique, apart, and about what it should be."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from harness.data import open_instructions
from harness.data.keywords import KeywordMatcher, words_of
from harness.data.written.recipe import load_recipe
from harness.types import rng

DEMO = Path(__file__).resolve().parents[2] / "tasks" / "demo"


def rows(name: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (DEMO / name).read_text(encoding="utf-8").splitlines()]


CONCEPTS, INSTRUCTIONS = rows("concepts.jsonl"), rows("instructions.jsonl")


def test_concepts_are_distinct_and_split() -> None:
    assert len(CONCEPTS) == 32
    assert all(set(row) == {"id", "label", "text", "split", "keywords"} and row["id"] == row["label"] for row in CONCEPTS)
    assert len({row["id"] for row in CONCEPTS}) == len({row["text"] for row in CONCEPTS}) == 32
    assert sum(row["split"] == "development" for row in CONCEPTS) == 8
    assert sum(row["split"] == "report" for row in CONCEPTS) == 24


def test_keywords_are_those_that_the_recipe_filtered_by() -> None:
    recipe = load_recipe(DEMO / "generation.toml")
    assert {row["id"]: tuple(row["keywords"]) for row in CONCEPTS} == {name: its.keywords for name, its in recipe.corpus.concepts.items()}


def test_instructions_are_distinct_and_split() -> None:
    assert len({row["id"] for row in INSTRUCTIONS}) == len({row["text"].lower() for row in INSTRUCTIONS}) == 100
    assert len(open_instructions(DEMO / "instructions.jsonl", "development")) == 20
    assert len(open_instructions(DEMO / "instructions.jsonl", "report")) == 80


@pytest.mark.parametrize(("content", "item", "count"), [(CONCEPTS, "", 8), (INSTRUCTIONS, "instructions", 20)])
def test_the_splits_were_drawn_at_random(content: list[dict[str, str]], item: str, count: int) -> None:
    drawn = {content[i]["id"] for i in rng(0, "demo-split", item).permutation(len(content))[:count]}
    assert {row["id"] for row in content if row["split"] == "development"} == drawn


def test_no_instruction_is_about_a_concept() -> None:
    """No instruction has a noun of a concept's name, or two different keywords of one concept."""
    recipe = load_recipe(DEMO / "generation.toml")
    names = {
        word
        for row in CONCEPTS
        for word in words_of(row["text"])
        if word not in ("and", "the", "as", "such", "work", "computer", "board", "games")
    }
    for row in INSTRUCTIONS:
        words = words_of(row["text"])
        assert not names & set(words), row
        for concept, its in recipe.corpus.concepts.items():
            assert KeywordMatcher(its.keywords).count(words)[1] < 2, (row, concept)


def test_no_instruction_is_a_copy_of_alpaca_eval(shared_data: Path) -> None:
    """At most half of an instruction's word 5-grams (those of question openings) occur in any one of AlpacaEval's."""

    def grams(text: str) -> set[tuple[str, ...]]:
        words = re.findall(r"\w+", text.lower())
        return {tuple(words[i : i + 5]) for i in range(len(words) - 4)}

    theirs = [(other.text, grams(other.text)) for other in open_instructions(shared_data / "alpaca_eval" / "instructions.json")]
    for row in INSTRUCTIONS:
        mine = grams(row["text"])
        for text, its in theirs:
            assert len(mine & its) <= len(mine) / 2, (row["text"], text)


def test_the_recipe_covers_the_concepts_and_labels_of_concepts_file() -> None:
    recipe = load_recipe(DEMO / "generation.toml")
    assert list(recipe.corpus.concepts) == [row["label"] for row in CONCEPTS]
    for name, concept in recipe.corpus.concepts.items():
        assert len(set(concept.subtopics)) >= 12, name
        assert len(set(concept.keywords)) >= 25, name


def test_every_subtopic_is_told_by_the_keywords_of_its_concept() -> None:
    recipe = load_recipe(DEMO / "generation.toml")
    for name, concept in recipe.corpus.concepts.items():
        matcher = KeywordMatcher(concept.keywords)
        silent = [topic for topic in concept.subtopics if matcher.count(words_of(topic))[0] == 0]
        assert len(silent) <= 2, (name, silent)


def test_no_neutral_subject_shows_a_concept() -> None:
    recipe = load_recipe(DEMO / "generation.toml")
    for subject in recipe.corpus.neutral:
        for name, concept in recipe.corpus.concepts.items():
            assert KeywordMatcher(concept.keywords).count(words_of(subject))[1] < 2, (subject, name)
