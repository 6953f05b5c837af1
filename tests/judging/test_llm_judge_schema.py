"""The judge by a language model and replies by a schema: asked for where the model takes one, and in words where it does not."""

from __future__ import annotations

from typing import Any

import pytest
from helpers.judges import BEES, MANY, Model, aspect_of, bench, by_id, judge_of

from harness.chat.values import SchemaRefused
from harness.contracts import Work
from harness.errors import JudgeError
from harness.judging.llm_judge import UNREADABLE, LLMJudge
from harness.judging.questions import LLMJudgeOptions, advice
from harness.judging.rubric import REPLY_SCHEMA


@pytest.mark.parametrize("structured", [True, "auto"])
def test_structured_output_and_examples(structured: Any) -> None:
    judge, model = judge_of(lambda request: '{"reasoning": "yes", "rating": 2}', structured=structured, examples=True)
    assert by_id(judge.submit([BEES]))["bees"].fluency == 2
    assert all(request.schema == REPLY_SCHEMA for request in model.asked)
    assert all(len(request.messages) == 8 for request in model.asked)


def test_what_was_asked_for_is_in_the_rubric_and_in_the_key_of_each_request() -> None:
    judges = [judge_of(lambda request: "Rating: 1", structured=structured)[0] for structured in (True, False, "auto")]
    assert len({judge.traits.rubric for judge in judges}) == 3
    auto = judges[2].questions
    by_schema = auto.request(BEES, "fluency").key("s", auto.identity)
    auto.settle(takes_schema=False)
    assert auto.request(BEES, "fluency").key("s", auto.identity) != by_schema


def words_or_schema(model: Model) -> list[bool]:
    """Which requests asked by a schema, in their order."""
    return [request.schema is not None for request in model.asked]


def test_a_model_that_refuses_the_schema_is_asked_in_words_in_the_same_run() -> None:
    warnings: list[str] = []
    judge, model = judge_of(lambda request: SchemaRefused("no such thing") if request.schema else "Rating: [[1]]", warnings)
    assert {rating.status for rating in judge.submit(MANY)} == {"rated"}
    assert words_or_schema(model) == [True, *[False] * 300], "it is refused once, and each question is asked in words once"
    assert all("required schema" not in message.content for request in model.asked[1:] for message in request.messages)
    assert {rating.status for rating in judge.submit([BEES])} == {"rated"}
    assert words_or_schema(model)[301:] == [False] * 3, "and stays so"


def test_a_server_that_refuses_a_schema_that_was_not_sent_ends_the_run() -> None:
    refusal = SchemaRefused("no such thing")
    judge, model = judge_of(lambda request: refusal)
    with pytest.raises(JudgeError) as error:
        list(judge.submit(MANY))
    assert (error.value.given, error.value.hint) == ("m", advice(refusal))
    assert "no such thing" in error.value.message
    assert words_or_schema(model) == [True, False]


def test_what_is_known_to_be_refused_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model(lambda request: "Rating: [[1]]", schema=False)
    judge = LLMJudge(LLMJudgeOptions(model="m", cache=False), lambda cache, seed: model)
    in_advance = judge.estimate(Work(items=[BEES]))
    judge.prepare(bench())
    assert [rating.status for rating in judge.submit([BEES])] == ["rated"]
    assert words_or_schema(model) == [False] * 3
    assert in_advance.input_tokens < judge_of(lambda request: "")[0].estimate(Work(items=[BEES])).input_tokens


def test_who_insists_on_a_schema_gets_an_error_where_it_is_refused() -> None:
    judge, model = judge_of(lambda request: SchemaRefused("openai: m refuses a reply by a schema"), structured=True)
    with pytest.raises(JudgeError) as caught:
        list(judge.submit(MANY))
    assert caught.value.given is True, "the option structured"
    assert "openai: m refuses a reply by a schema" in caught.value.message
    assert "-J structured" in caught.value.hint
    assert "\n" not in str(caught.value)
    assert len(model.asked) == 1


def test_a_structured_reply_that_is_none_is_read_as_any_other_and_else_asked_for_in_words() -> None:
    said = {"concept": '{"reasoning": "so", "rating": 2', "instruction": "Fine.\n\nRating: [[1]]", "fluency": "It is fluent."}
    judge, model = judge_of(lambda request: said[aspect_of(request)] if request.schema else "Rating: [[0]]")
    rating = by_id(judge.submit([BEES]))["bees"]
    assert (rating.concept, rating.instruction, rating.fluency) == (2, 1, 0)
    assert words_or_schema(model) == [True, True, True, False]


def test_a_server_that_makes_nothing_of_the_schema_is_asked_in_words_before_much_is_lost() -> None:
    warnings: list[str] = []
    judge, model = judge_of(lambda request: "It is so." if request.schema else "Rating: [[1]]", warnings)
    assert {rating.status for rating in judge.submit(MANY)} == {"rated"}
    assert words_or_schema(model) == [True] * UNREADABLE + [False] * 300
    assert warnings == ["m makes nothing of the schema for its replies; it is asked in words from here on"]
    judge, model = judge_of(lambda request: "It is so.")
    with pytest.raises(JudgeError) as error:
        list(judge.submit(MANY))
    assert error.value.given == "It is so."
    assert "-J structured=true" in error.value.hint
    assert words_or_schema(model) == [True] * UNREADABLE + [False] * UNREADABLE
    judge, model = judge_of(lambda request: "It is so.", asks=1)
    with pytest.raises(JudgeError) as error:
        list(judge.submit(MANY))
    assert error.value.given == "It is so."
    assert "-J structured=false" in error.value.hint
    assert len(model.asked) == UNREADABLE, "nothing beyond what was foreseen"
