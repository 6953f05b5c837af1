"""The judge by a language model, asked through a model that a test writes: what is asked, what is asked again, what is kept, what ends a run."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.chat.client.cache import ReplyCache
from harness.chat.values import IN_A_ROW, THOUGHTS_ALONE, ChatReply, ChatRequest, RequestFailed, SchemaRefused, Usage
from harness.contracts import Judge, Work
from harness.errors import JudgeError
from harness.judging.llm_judge import UNREADABLE, LLMJudge, ask_api
from harness.judging.questions import AGAIN_TEMPERATURE, THINKING, LLMJudgeOptions, Questions, advice, read
from harness.judging.rubric import REPLY_SCHEMA, load_rubric
from harness.types import JudgeItem, Rating

Reply = Callable[[ChatRequest], "str | ChatReply | RequestFailed | None"]

BEES = JudgeItem("bees", "beekeeping", "Explain tea.", "Honey goes well with tea.")
CHESS = JudgeItem("chess", "chess", "Say hello.", "Hello there.")
EMPTY = JudgeItem("empty", "chess", "Say hello.", " \n")


def bench(warnings: list[str] | None = None) -> Any:
    return SimpleNamespace(seed=5, warn=(warnings if warnings is not None else []).append)


def aspect_of(request: ChatRequest) -> str:
    """Which rating the default rubric asks for."""
    user = request.messages[-1].content
    return "concept" if "Concept:" in user else "instruction" if "<instruction>" in user else "fluency"


@dataclass
class Model:
    """An Asker whose replies a test writes; hands them out in reverse order."""

    reply: Reply
    name: str = "fake"
    usage: Usage = field(default_factory=Usage)
    cost: float | None = 0.0
    hits: int = 0
    notes: tuple[str, ...] = ()
    asked: list[ChatRequest] = field(default_factory=list)
    rubrics: set[str] = field(default_factory=set)
    closed: int = 0
    schema: bool = True

    def takes_schema(self, model: str) -> bool:
        return self.schema

    def run(self, requests: Mapping[str, ChatRequest], rubric: str = "") -> Iterator[tuple[str, ChatReply | RequestFailed]]:
        self.rubrics.add(rubric)
        try:
            for name in reversed(list(requests)):
                self.asked.append(requests[name])
                said = self.reply(requests[name])
                if said is not None:
                    self.usage += Usage(10, 0, 5)
                    yield name, ChatReply(said, Usage(10, 0, 5), "fake-1") if isinstance(said, str) else said
        finally:
            self.closed += 1


def judge_of(reply: Reply, warnings: list[str] | None = None, **options: Any) -> tuple[LLMJudge, Model]:
    model = Model(reply)
    judge = LLMJudge(LLMJudgeOptions(model="m", cache=False, **options), lambda cache, seed: model)
    judge.prepare(bench(warnings))
    return judge, model


def by_id(ratings: Any) -> dict[str, Rating]:
    found = list(ratings)
    assert len({rating.item_id for rating in found}) == len(found)
    return {rating.item_id: rating for rating in found}


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


def test_a_model_whose_words_are_all_thoughts_gets_advice_that_fits() -> None:
    thoughts = ChatReply("", Usage(), "m", THOUGHTS_ALONE)
    judge, _ = judge_of(lambda request: thoughts, structured=False)
    with pytest.raises(JudgeError) as caught:
        list(judge.submit(MANY))
    assert "reasoning_content" in caught.value.message
    assert caught.value.hint.startswith(THINKING)
    assert "\n" not in str(caught.value)
    judge, _ = judge_of(lambda request: thoughts if aspect_of(request) == "fluency" else "Rating: 1")
    assert "fluency: the reply is empty: the model's words are all in reasoning_content" in by_id(judge.submit([BEES]))["bees"].reason


def test_an_account_that_is_empty_from_the_start_ends_the_run_at_once() -> None:
    judge, model = judge_of(lambda request: RequestFailed("400 Bad Request: Your credit balance is too low", status=402))
    assert counted(judge, MANY) == 0
    assert len(model.asked) == 1


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


@pytest.mark.parametrize("status", [401, 402, 404])
def test_a_first_answer_that_says_that_all_will_fail_ends_the_run(status: int) -> None:
    failure = RequestFailed("no such key", status=status)
    judge, model = judge_of(lambda request: failure)
    with pytest.raises(JudgeError) as error:
        list(judge.submit([BEES, CHESS]))
    assert (error.value.given, error.value.hint) == ("m", advice(failure))
    assert "no such key" in error.value.message
    assert len(model.asked) == 1
    assert model.closed == 1, "what is under way is stopped at once"


def test_a_later_failure_of_that_kind_is_its_items_alone() -> None:
    judge, _ = judge_of(lambda request: "Rating: 1" if "Hello" in request.messages[-1].content else RequestFailed("blocked", status=403))
    found = by_id(judge.submit([BEES, CHESS]))
    assert found["chess"].status == "rated"
    assert found["bees"].status == "unrated"


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


# ------------------------------------------------------------------------------------------------------------- refused by the server


def counted(judge: LLMJudge, items: list[JudgeItem]) -> int:
    """How many ratings came before the run was ended."""
    came: list[Rating] = []
    with pytest.raises(JudgeError) as caught:
        came.extend(judge.submit(items))
    assert "\n" not in str(caught.value)
    assert caught.value.given == judge.options.model
    assert "what was rated is kept" in caught.value.hint
    return len(came)


MANY = [JudgeItem(f"item {i}", "chess", "Say hello.", f"Hello number {i}.") for i in range(100)]


@pytest.mark.parametrize(
    "failure",
    [
        RequestFailed("400: System role not supported", status=400),
        RequestFailed("429: You exceeded your current quota (insufficient_quota)", status=429),
        RequestFailed("no answer within 30 s; given up after 6 attempts", retryable=True),
    ],
)
def test_a_server_that_refuses_everything_is_asked_ten_times(failure: RequestFailed) -> None:
    judge, model = judge_of(lambda request: failure, concurrency=1)
    assert counted(judge, MANY) == 3
    assert len(model.asked) == IN_A_ROW


def test_ids_in_the_reasons_do_not_hide_that_they_are_the_same() -> None:
    judge, model = judge_of(
        lambda request: RequestFailed(f"400: no ({len(model.asked)}, request req_{id(request)}a)", status=400), concurrency=1
    )
    assert counted(judge, MANY) == 3
    assert len(model.asked) == IN_A_ROW


def test_refusals_that_are_faster_than_the_first_replies_are_waited_out() -> None:
    """A filter answers at once, a model after a while: with 64 requests under way, many refusals may come before the first reply."""

    def reply(request: ChatRequest) -> Any:
        return RequestFailed("400: blocked", status=400) if len(model.asked) <= 72 else "Rating: 1"

    judge, model = judge_of(reply)
    assert sum(rating.status == "rated" for rating in judge.submit(MANY)) == 76
    judge, model = judge_of(reply)
    assert counted(judge, MANY[:20]) == 20, "all were refused: no entry is made of them, though they were fewer than may be under way"
    judge, model = judge_of(reply)
    assert {rating.status for rating in judge.submit(MANY[:3])} == {"unrated"}, "too few to tell"


def test_refusals_of_texts_are_those_texts_alone() -> None:
    """Other reasons, replies between them, or a model that has replied before: each says that the next text may be taken."""

    def mixed(request: ChatRequest) -> Any:
        n = int(re.findall(r"number (\d+)", request.messages[-1].content)[0])
        return "Rating: 1" if n % 4 == 0 else RequestFailed("400: blocked", status=400)

    judge, _ = judge_of(mixed)
    assert sum(rating.status == "unrated" for rating in judge.submit(MANY)) == 75
    kinds = iter("abcdefghijklmnopqrstuvwxyz" * 12)
    judge, _ = judge_of(lambda request: RequestFailed(f"400: blocked, kind {next(kinds)}", status=400))
    assert {rating.status for rating in judge.submit(MANY)} == {"unrated"}


def test_a_model_that_has_replied_before_refuses_texts_not_everything(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What is asked again in a later run is just what was refused before; it must not keep the run from its entry."""
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))
    reply = ChatReply("Rating: 1", Usage(), "m")
    options = LLMJudgeOptions(model="m", concurrency=1)
    judge = LLMJudge(options, lambda cache, seed: Model(lambda request: RequestFailed("400: blocked", status=400)))
    judge.prepare(bench())
    assert counted(judge, MANY) == 3
    with ReplyCache(tmp_path / "replies.sqlite") as cache:
        cache.put("0" * 64, reply, provider="fake", model="m", rubric=judge.traits.rubric)
    judge.prepare(bench())
    assert {rating.status for rating in judge.submit(MANY)} == {"unrated"}


def test_an_account_that_runs_dry_ends_the_run_wherever_it_is() -> None:
    def reply(request: ChatRequest) -> Any:
        return "Rating: 1" if len(model.asked) <= 150 else RequestFailed("429: quota (insufficient_quota)", status=429)

    judge, model = judge_of(reply)
    assert counted(judge, MANY) == 53
    assert len(model.asked) == 160


def test_replies_from_the_cache_say_nothing_of_the_server() -> None:
    def reply(request: ChatRequest) -> Any:
        cached = replace(ChatReply("Rating: 1", Usage(), "m"), from_cache=True)
        return cached if aspect_of(request) == "fluency" else RequestFailed("wrong key", status=401)

    judge, model = judge_of(reply)
    assert counted(judge, MANY) == 0
    assert len(model.asked) == 2


# ------------------------------------------------------------------------------------------------------------------- replies cut off


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("It is read.\n\nRating: [[2]]", 2),
        ("It is read.\n\n**Rating: [[2]]**\n", 2),
        ("Rating: 1\n", 1),
        ("Rating: **1**", 1),
        ('{"reasoning": "so", "rating": 0}', 0),
        ('```json\n{"reasoning": "so",\n "rating": 0\n}\n```', 0),
        ("Rating: 1", None),  # of 10? or 1.5?
        ("Rating: [[2]]\n\nOn the other hand, the text", None),
        ("Rating: [[1]]\nIt comes near to [[2]]", None),
        ("Rating: [[2]] would be given if it", None),
        ("It goes on and", None),
        ("", None),
        ("] " * 500, None),
    ],
)
def test_a_rating_of_a_reply_that_was_cut_off_counts_at_its_very_end(text: str, value: float | None) -> None:
    found, reason = read(ChatReply(text, Usage(), "m", "length"))
    assert found == value
    assert ("raise -J max_tokens" in reason) == (value is None)
    assert read(ChatReply("Rating: [[2]]\n\nOn the other hand, the text", Usage(), "m", "stop"))[0] == 2


def test_a_reply_that_was_cut_off_is_not_paid_for_again() -> None:
    """Thinking took all the tokens, and would do so again."""
    judge, model = judge_of(lambda request: ChatReply("", Usage(10, 0, 400), "o9", "length"))
    (rating,) = judge.submit([BEES])
    assert len(model.asked) == 3
    assert "concept: the reply is empty; it was cut off at max_tokens; raise -J max_tokens" in rating.reason
    assert "asked" not in rating.details


def test_half_a_character_from_a_server_can_be_stored() -> None:
    said = [ChatReply("half \ud83d", Usage(), "m\ud83d", "st\ud83dop"), RequestFailed("no \ud83d way", status=418)]
    judge, _ = judge_of(lambda request: said[aspect_of(request) == "fluency"], asks=1)
    (rating,) = judge.submit([BEES])
    stored = json.dumps([rating.reason, rating.details], ensure_ascii=False).encode().decode()
    assert "half ?" in stored
    assert "no ? way" in stored


# -------------------------------------------------------------------------------------------------------------------------- estimates


@pytest.fixture
def paid(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., tuple[LLMJudge, Any]]:
    """A judge on a runner and a cache, whose provider gives the same reply to everything: judge and provider."""
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))

    class Provider:
        name = "openai"
        notes: tuple[str, ...] = ()

        def __init__(self, text: str) -> None:
            self.text, self.sent = text, 0

        def takes_schema(self, model: str) -> bool:
            return True

        async def complete(self, request: ChatRequest) -> ChatReply:
            self.sent += 1
            return ChatReply(self.text, Usage(20, 0, request.max_tokens), "gpt-4o")

        async def close(self) -> None:
            pass

    def make(text: str = "I like it.", **options: Any) -> tuple[LLMJudge, Any]:
        provider = Provider(text)
        built = LLMJudgeOptions(model="gpt-4o", **options)
        judge = LLMJudge(built, lambda cache, seed: ask_api(provider, built, cache, seed))
        judge.prepare(bench())
        return judge, provider

    return make


@pytest.mark.parametrize("structured", ["auto", True, False])
def test_the_estimate_is_a_bound_with_every_repeat(
    paid: Callable[..., tuple[LLMJudge, Any]], monkeypatch: pytest.MonkeyPatch, structured: Any
) -> None:
    monkeypatch.setattr("harness.judging.llm_judge.UNREADABLE", 1000)
    items = MANY[:20]
    judge, provider = paid(structured=structured)
    found = judge.estimate(Work(items=items))
    assert (found.calls, found.most.calls) == (60, 180)
    assert (found.output_tokens, found.most.output_tokens) == (60 * 400, 180 * 400)
    assert found.cost is not None
    assert found.most.cost is not None
    assert 2.7 * found.cost < found.most.cost < 3.5 * found.cost, "a repeat says a little more, and has no schema"
    assert {rating.status for rating in judge.submit(items)} == {"unrated"}
    assert provider.sent == found.most.calls
    assert judge.usage.output == found.most.output_tokens
    assert judge.cost is not None
    assert judge.cost <= found.most.cost


def test_the_estimate_goes_on_where_the_asks_stopped(
    paid: Callable[..., tuple[LLMJudge, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """First asks that are in the cache, unreadable: a kill between the rounds, or more asks allowed."""
    monkeypatch.setattr("harness.judging.llm_judge.UNREADABLE", 1000)
    items = MANY[:20]
    list(paid(asks=1)[0].submit(items))
    judge, provider = paid(asks=6)
    found = judge.estimate(Work(items=items))
    assert (found.calls, found.cached, found.most.calls) == (60, 60, 300)
    list(judge.submit(items))
    assert provider.sent == found.most.calls
    assert paid(asks=6)[0].estimate(Work(items=items)).most.calls == 0, "nothing is left to ask"
    readable, other = paid("Rating: 1", max_tokens=99)
    list(readable.submit(items))
    assert (readable.estimate(Work(items=items)).most.calls, other.sent) == (0, 60)


def test_equal_questions_count_once_in_an_estimate(paid: Callable[..., tuple[LLMJudge, Any]]) -> None:
    judge, _ = paid()
    same = [BEES, JudgeItem("again", BEES.concept, BEES.instruction, BEES.text), EMPTY]
    found = judge.estimate(Work(items=same))
    assert (found.calls, found.most.calls, found.cached) == (3, 9, 3)
    assert (paid(asks=1)[0].estimate(Work(items=same)).repeats, paid(asks=1)[0].estimate(Work(items=same)).most.calls) == (None, 3)


def test_a_model_that_gives_no_rating_is_not_paid_for_again_and_again(paid: Callable[..., tuple[LLMJudge, Any]]) -> None:
    judge, provider = paid(concurrency=4, structured=False)
    with pytest.raises(JudgeError) as error:
        list(judge.submit(MANY[:40]))
    assert error.value.given == "I like it."
    assert all(part in error.value.message for part in (f"{UNREADABLE} replies", "gpt-4o", "'I like it.'"))
    assert "another model" in error.value.hint
    assert 20 <= provider.sent <= 30
    sent = provider.sent
    with pytest.raises(JudgeError) as error:
        list(judge.submit(MANY[:40]))  # the cache answers, so it is found out again for nothing
    assert error.value.given == "I like it."
    assert provider.sent - sent <= 10
