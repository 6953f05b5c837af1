"""The texts that a method is fitted on: positives and negatives of each concept, of the train part alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.conversations import conversation_bench, rows

from harness.errors import DataError
from harness.fitting.texts import ConceptTexts, concept_texts
from harness.run.bench import TaskBench
from harness.testing.toy import LABELS, toy_bench
from harness.types import Concept, Document, Labeling


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> TaskBench:
    return conversation_bench(tmp_path_factory.mktemp("conversations"))


def of(bench: TaskBench, **options: object) -> dict[str, ConceptTexts]:
    found = concept_texts(bench, [Labeling(concept) for concept in bench.concepts], "method", **options)  # type: ignore[arg-type]
    return {texts.concept.id: texts for texts in found}


def documents(bench: TaskBench, places: np.ndarray) -> list[Document]:
    return [bench.corpus[int(place)] for place in places]


def test_plain_negatives_of_the_positives_genre_where_there_are_any(bench: TaskBench) -> None:
    found = of(bench)
    assert list(found) == list(LABELS)
    for name, texts in found.items():
        positive, negative = documents(bench, texts.positive), documents(bench, texts.negative)
        assert {document.labels for document in positive} == {frozenset([name])}
        assert {document.part for document in [*positive, *negative]} == {"train"}
        assert (len(positive), len(negative)) == (8, 4), "four of the eight plain texts are of the positives' genre"
        assert {(document.labels, document.genre) for document in negative} == {(frozenset(), "text")}
        assert texts.places.tolist() == [*texts.positive, *texts.negative]


def test_negatives_of_other_concepts_too(bench: TaskBench) -> None:
    found = of(bench, negatives="others")["music"]
    assert len(found.negative) == len(found.positive) == 8
    whole = of(bench, negatives="others", balance=False)["music"]
    assert len(whole.negative) == 24
    assert set(found.negative.tolist()) < set(whole.negative.tolist())
    assert not any("music" in document.labels for document in documents(bench, whole.negative))
    assert found.negative.tolist() == of(bench, negatives="others")["music"].negative.tolist(), "the draw is the seed's and the concept's"
    assert found.identity != whole.identity
    assert found.negative.tolist() != of(bench, negatives="others")["bread"].negative.tolist()


def test_a_corpus_without_plain_texts(tmp_path: Path) -> None:
    bench = toy_bench(tmp_path)
    found = of(bench)["music"]
    assert all(document.labels for document in documents(bench, found.negative))
    with pytest.raises(DataError) as error:
        of(bench, negatives="plain")
    assert (error.value.given, error.value.allowed) == ("plain", ("auto", "others"))
    with pytest.raises(DataError) as error:
        of(bench, answers=True)
    assert error.value.given == "corpus.conversations = false"


def test_hard_negatives_are_no_negatives(bench: TaskBench) -> None:
    concept = replace(bench.concepts[0], hard_negatives="water")
    found = concept_texts(bench, [Labeling(concept), Labeling(concept)], "method", negatives="others", balance=False)
    assert len(found) == 1, "a concept is fitted once"
    assert not any("water" in document.labels for document in documents(bench, found[0].negative))
    assert len(found[0].negative) == 16


def test_an_answer_beyond_the_limit_teaches_nothing(tmp_path: Path) -> None:
    """The text's instruction fills the limit: it counts as a text, and has no token of the answer's own."""
    bench = conversation_bench(tmp_path)
    lines = [{**row, "instruction": "x" * 90} if row["id"] == "3" else row for row in rows()]
    path = bench.task.folder / "corpus.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in lines), encoding="utf-8")
    bench = conversation_bench(tmp_path)
    assert (len(of(bench)["music"].positive), len(of(bench, answers=True)["music"].positive)) == (8, 7)


def test_what_cannot_be_learned_is_said(bench: TaskBench) -> None:
    for concept, named in ((Concept("x", "x"), "x"), (Concept("y", "y", "nowhere"), "y")):
        with pytest.raises(DataError) as error:
            concept_texts(bench, [Labeling(concept)], "steerer some", negatives="auto")
        assert error.value.given == named
        assert "steerer some" in error.value.message
