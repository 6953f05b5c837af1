"""The detector prompt: what is asked, how the answer becomes a score, and what is kept of a pass that breaks off."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from harness_plugins.detectors import prompt
from harness_plugins.detectors.prompt import BEGINNING, PromptDetector, PromptDetectorOptions, Questions
from pydantic import ValidationError

from harness.data.texts import TextSet
from harness.engine.base import Generated
from harness.errors import DataError, ModelError
from harness.evaluations.detection.texts import changed_texts, corpus_texts
from harness.run.bench import TaskBench
from harness.run.warnings import Warnings
from harness.testing import toy_bench
from harness.types import Concept, Labeling

SHORT = "{text}\nAbout {concept}?"


@pytest.fixture
def bench(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TaskBench:
    made = toy_bench(tmp_path)
    monkeypatch.setattr(made, "warnings", Warnings())
    return made


@pytest.fixture
def labelings(bench: TaskBench) -> list[Labeling]:
    return [Labeling(concept) for concept in bench.concepts]


def scores(bench: TaskBench, labelings: list[Labeling], texts: TextSet, **options: Any) -> np.ndarray[Any, Any]:
    detector = PromptDetector(PromptDetectorOptions(**{"question": SHORT, **options}))
    detector.prepare(bench, labelings)
    return detector.scores(labelings, texts)


def expected(bench: TaskBench, text: str, concept: str) -> float:
    """By transformers alone: the mean of the digits, weighted by what the model gives each of them after the begun reply."""
    hf, tokenizer = bench.model.hf, bench.model.tokenizer
    ids = tokenizer(SHORT.replace("{concept}", concept).replace("{text}", text) + "\n\n" + BEGINNING)["input_ids"]
    with torch.no_grad():
        p = hf(torch.tensor([ids])).logits[0, -1].double().softmax(-1)
    digits = [float(p[tokenizer.convert_tokens_to_ids(digit)]) for digit in "012"]
    return (digits[1] + 2 * digits[2]) / sum(digits)


def test_a_score_is_the_expected_rating(bench: TaskBench, labelings: list[Labeling]) -> None:
    texts = changed_texts(bench, "two", ["The piano played a tune.", "Dough and {concept} and water."])
    found = scores(bench, labelings, texts)
    for row, labeling in zip(found, labelings, strict=True):
        assert row == pytest.approx([expected(bench, texts.texts[0], labeling.concept.text), row[1]], rel=1e-4)
    filled = [
        Questions(bench.model, PromptDetectorOptions(question=SHORT)).about(texts.texts[1], texts.tokens[1], [labeling.concept.text])[0][0]
        for labeling in labelings
    ]
    assert all("Dough and {concept} and water." in bench.model.decode(ids) for ids in filled)  # what a text says is no blank to be filled
    assert ((found > 0) & (found < 2)).all()


def test_names_of_control_tokens_in_a_text_are_text(bench: TaskBench) -> None:
    text = "It ends here.</s><s><pad> Or not."
    texts = changed_texts(bench, "control", [text])
    (ids,), cut = Questions(bench.model, PromptDetectorOptions(question=SHORT)).about(text, texts.tokens[0], ["water"])
    assert not cut
    assert bench.model.decode(ids).startswith(text)
    assert ids[0] == bench.model.tokenizer.bos_token_id
    assert not {0, 1, 2} & set(ids[1:])


def test_a_text_is_read_as_far_as_the_task_says(bench: TaskBench, labelings: list[Labeling]) -> None:
    beginning = "x" * (bench.token_limit - 1)  # and the first token
    texts = changed_texts(bench, "long", [beginning, beginning + " piano and music", beginning + "y" * 500])
    found = scores(bench, labelings, texts)
    np.testing.assert_array_equal(found, np.repeat(found[:, :1], 3, axis=1))
    assert not bench.warnings.messages


def test_a_text_is_cut_where_the_question_does_not_fit_and_that_is_told(bench: TaskBench, labelings: list[Labeling]) -> None:
    question = SHORT + "." * 180
    texts = changed_texts(bench, "long", ["x" * 63, "x" * 60, "short"])
    found = scores(bench, labelings, texts, question=question)
    assert np.isfinite(found).all()
    assert [message for message in bench.warnings.messages if "2 of 3 long texts were cut further" in message]
    with pytest.raises(DataError) as error:
        scores(bench, labelings, texts, question=SHORT + "." * 300)
    assert error.value.hint


def test_an_interrupted_pass_goes_on_where_it_stopped(bench: TaskBench, labelings: list[Labeling], monkeypatch: pytest.MonkeyPatch) -> None:
    report, whole = corpus_texts(bench, "report"), Questions.expected
    monkeypatch.setattr(prompt, "_AT_ONCE", 3 * len(labelings))
    undisturbed = scores(bench, labelings, corpus_texts(bench, "threshold")), scores(bench, labelings, report, max_tokens=17)
    asked: list[int] = []

    def breaks(self: Questions, questions: Any) -> Iterator[Any]:
        asked.append(len(questions))
        if len(asked) == 3:
            raise KeyboardInterrupt
        yield from whole(self, questions)

    monkeypatch.setattr(Questions, "expected", breaks)
    with pytest.raises(KeyboardInterrupt):
        scores(bench, labelings, report)
    assert asked == [3, 3, 3]
    found = scores(bench, labelings, report)
    assert sum(asked[3:]) == len(report) - 6
    np.testing.assert_array_equal(found, undisturbed[1])  # the same question under another key


def test_the_corpus_texts_are_asked_about_once_for_all_concepts(
    bench: TaskBench, labelings: list[Labeling], monkeypatch: pytest.MonkeyPatch
) -> None:
    report = corpus_texts(bench, "report")
    found = scores(bench, labelings, report)
    detector = PromptDetector(PromptDetectorOptions(question=SHORT))
    detector.prepare(bench, labelings[::-1])
    monkeypatch.setattr(Questions, "expected", lambda *given: pytest.fail("asked again"))
    np.testing.assert_array_equal(detector.scores(labelings[1:2], report), found[1:2])
    assert detector.scores(labelings, changed_texts(bench, "none", [])).shape == (3, 0)


def test_a_written_rating_counts_and_a_reply_without_one_is_no_zero(
    bench: TaskBench, labelings: list[Labeling], monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = changed_texts(bench, "two", ["The piano played.", "A well with water."])
    plain = scores(bench, labelings, texts)
    replies = iter(["2", "Rating: [[1]]", "I cannot say.", "0", "", "1 or 2"])
    seen: list[Any] = []

    def generate(requests: Any, decoding: Any) -> Iterator[Generated]:
        seen.extend([*requests, decoding])
        for request in reversed(requests):
            yield Generated(request.id, (), next(replies), "eos")

    monkeypatch.setattr(bench, "generate", generate)
    found = scores(bench, labelings, texts, reading="greedy", max_tokens=5)
    assert [labeling.concept.text for labeling in labelings] == ["music", "water", "bread"]  # they are asked about in the order of the alphabet
    written = np.array([["", "0", "1 or 2"], ["Rating: [[1]]", "2", "I cannot say."]]).T  # [concepts, texts]
    wanted = np.where(written == "2", 2, np.where(written == "0", 0, np.where(written == "Rating: [[1]]", 1, plain)))
    np.testing.assert_allclose(found, wanted)
    assert (seen[-1].max_new_tokens, seen[-1].temperature) == (5, 0.0)
    assert bench.model.decode(seen[0].prompt_ids).endswith(f"About {sorted(labeling.concept.text for labeling in labelings)[0]}?")
    assert [message for message in bench.warnings.messages if "3 of 6 replies about two texts hold no rating" in message]


def test_greedy_replies_are_the_models_own(bench: TaskBench, labelings: list[Labeling]) -> None:
    found = scores(bench, labelings, changed_texts(bench, "one", ["A drum."]), reading="greedy", max_tokens=3)
    assert np.isfinite(found).all()


def test_a_tokenizer_without_ratings_is_refused(bench: TaskBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(bench.model), "encode", lambda self, text, add_bos=None: [5, 6, 7])
    with pytest.raises(ModelError):
        Questions(bench.model, PromptDetectorOptions())


@pytest.mark.parametrize("question", ["{text}", "{concept}", "about what?"])
def test_a_question_holds_text_and_concept(question: str) -> None:
    with pytest.raises(ValidationError):
        PromptDetectorOptions(question=question)


def test_two_concepts_of_one_text_are_one_question(bench: TaskBench) -> None:
    twins = [Labeling(Concept("a", "water")), Labeling(Concept("b", "water"))]
    found = scores(bench, twins, changed_texts(bench, "one", ["A lake."]))
    assert found[0] == found[1]
