"""The judge by a language model: what is asked, what is asked again, what is kept, and what is settled without asking."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.judges import BEES, CHESS, EMPTY, Model, aspect_of, by_id, judge_of

from harness.chat.values import ChatReply, ChatRequest, RequestFailed, Usage
from harness.contracts import Judge
from harness.errors import JudgeError
from harness.judging.llm_judge import LLMJudge
from harness.judging.questions import AGAIN_TEMPERATURE, LLMJudgeOptions, Questions
from harness.judging.rubric import REPLY_SCHEMA, load_rubric
from harness.types import JudgeItem


def test_three_questions_an_item_and_a_rating_of_three() -> None:
    grades = {"concept": 2, "instruction": 1, "fluency": 0}
    judge, model = judge_of(lambda request: f"So it is.\n\nRating: [[{grades[aspect_of(request)]}]]")
    assert isinstance(judge, Judge)
    assert not judge.traits.offline
    found = by_id(judge.submit([BEES, CHESS]))
    assert {name: (r.concept, r.instruction, r.fluency) for name, r in found.items()} == {"bees": (2, 1, 0), "chess": (2, 1, 0)}
    assert found["bees"].details["replies"]["fluency"] == "So it is.\n\nRating: [[0]]"
    assert found["bees"].details["model"] == "fake-1"
    assert len(model.asked) == 6
    assert model.rubrics == {judge.traits.rubric}
    assert judge.traits.rubric.startswith("default/1+")
    assert judge.usage == Usage(60, 0, 30)
    for request in model.asked:
        assert (request.model, request.temperature, request.seed, request.schema) == ("m", 0.0, None, REPLY_SCHEMA)
        assert not any(word in message.content for message in request.messages for word in ("bees", "strength", "steer"))
    assert list(judge.submit([])) == []


def test_ratings_come_as_soon_as_they_are_complete() -> None:
    judge, model = judge_of(lambda request: "Rating: 1")
    first = next(iter(judge.submit([BEES, CHESS])))
    assert first.item_id == "chess"
    assert len(model.asked) == 3


def test_what_cannot_be_read_is_asked_again_otherwise_and_alone() -> None:
    def reply(request: ChatRequest) -> str:
        return "Rating: 2" if aspect_of(request) != "fluency" or request.seed == 2 else "I like it."

    judge, model = judge_of(reply, asks=3)
    rating = by_id(judge.submit([BEES]))["bees"]
    assert (rating.concept, rating.instruction, rating.fluency) == (2, 2, 2)
    assert rating.details["asked"] == {"concept": 1, "instruction": 1, "fluency": 3}
    again = [request for request in model.asked if aspect_of(request) == "fluency"]
    assert [request.seed for request in again] == [None, 1, 2]
    assert [request.temperature for request in again] == [0.0, AGAIN_TEMPERATURE, AGAIN_TEMPERATURE]
    assert ["Remember to end" in request.messages[-1].content for request in again] == [False, True, True]
    assert len({request.key("fake", "r") for request in again}) == 3, "no cache can answer one for the other"
    assert len(model.asked) == 5


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ("Rating: [[7]]", "fluency: the rating is 7; allowed: 0, 1, 2 (asked 2 times)"),
        ("", "fluency: the reply is empty (asked 2 times)"),
        ("I'm sorry, I can't rate this.", "fluency: the judge refused: I'm sorry, I can't rate this. (asked 2 times)"),
        (ChatReply("It goes on and", Usage(), "x", "length"), "it was cut off at max_tokens"),
        (ChatReply("", Usage(), "x", "content_filter"), "the API says it ended by content_filter"),
        (RequestFailed("500 server error"), "fluency: the request failed: 500 server error"),
        (None, "fluency: no answer came"),
    ],
)
def test_what_is_never_rated_is_unrated_with_the_reason_and_the_reply(said: Any, says: str) -> None:
    judge, _ = judge_of(lambda request: said if aspect_of(request) == "fluency" else "Rating: [[2]]", asks=2)
    found = by_id(judge.submit([BEES, CHESS]))
    for rating in found.values():
        assert rating.status == "unrated"
        assert says in rating.reason
        assert rating.details["read"] == {"concept": 2, "instruction": 2}
        assert json.dumps(rating.details)
    if isinstance(said, str):
        assert found["bees"].details["replies"]["fluency"] == said


def test_a_temperature_that_is_left_to_the_server_stays_so() -> None:
    judge, model = judge_of(lambda request: "no", temperature=None, asks=2)
    assert by_id(judge.submit([BEES]))["bees"].status == "unrated"
    assert {request.temperature for request in model.asked} == {None}


def test_the_prompts_of_a_publication_are_asked_as_they_are() -> None:
    rubric = replace(load_rubric("default"), in_words=True)
    for structured, identity in (("auto", False), (True, True), (False, False)):
        asked = Questions(LLMJudgeOptions(model="m", structured=structured), rubric)  # type: ignore[arg-type]
        assert asked.identity == rubric.identity(structured=identity)
        assert asked.by_schema() is identity


def test_what_there_is_nothing_to_ask_about_is_settled_by_rule() -> None:
    judge, model = judge_of(lambda request: "Rating: 2")
    nameless = JudgeItem("nameless", " ", "Say hello.", "Hello")
    found = by_id(judge.submit([EMPTY, nameless]))
    assert (found["empty"].concept, found["empty"].instruction, found["empty"].fluency) == (0, 0, 0)
    assert found["empty"].details == {"rule": "the text is empty"}
    assert found["nameless"].reason == "the concept is empty"
    assert model.asked == []


def test_giving_up_the_iteration_closes_the_asking() -> None:
    judge, model = judge_of(lambda request: "Rating: 1")
    ratings: Any = judge.submit([BEES, CHESS])
    next(ratings)
    del ratings
    assert model.closed == 1


def test_what_the_provider_notes_reaches_the_reader() -> None:
    warnings: list[str] = []
    judge, model = judge_of(lambda request: "Rating: 1", warnings)
    model.notes = ("temperature was refused",)
    list(judge.submit([BEES]))
    assert warnings == ["temperature was refused"]


def test_before_it_is_prepared_and_tickets_of_others(tmp_path: Path) -> None:
    judge = LLMJudge(LLMJudgeOptions(model="m"), lambda cache, seed: Model(lambda request: ""))
    with pytest.raises(JudgeError) as error:
        judge.submit([BEES])
    assert "prepare(bench)" in error.value.hint
    with pytest.raises(JudgeError) as error:
        list(judge.collect(["t"]))
    assert "batch API" in error.value.message
    assert "the judge that gave them" in error.value.hint
    assert list(judge.collect([])) == []


def test_examples_of_a_rubric_that_has_none(tmp_path: Path) -> None:
    (tmp_path / "rubric.toml").write_text('schema = 1\nname = "bare"\nversion = "3"\n', encoding="utf-8")
    for name in ("concept", "instruction", "fluency"):
        (tmp_path / f"{name}.md").write_text("{concept} {instruction} {text}", encoding="utf-8")
    options = LLMJudgeOptions(model="m", rubric=str(tmp_path))
    assert LLMJudge(options, lambda cache, seed: Model(lambda request: "")).traits.rubric.startswith("bare/3+")
    with pytest.raises(JudgeError) as error:
        LLMJudge(options.model_copy(update={"examples": True}), lambda cache, seed: Model(lambda request: ""))
    assert error.value.given == "bare"
    assert "option examples" in error.value.hint
    assert "examples.jsonl" in error.value.hint
